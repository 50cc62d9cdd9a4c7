"""What the steps of a job cost: a default for a small host, and the pace that this deployment really has.

The default is a line: so many seconds however little there is to do, and so many for each unit of what a job's account
counts. The pace of a step is the median, over completed jobs, of what it took to what the line says. The line itself
has one vote among them, so that no single job, the first or one on a busy day, decides what is told to everybody.

See `inzitu.run.estimate` for what there will be to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import exp, log
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inzitu.jobs.job import Job

START_SECONDS = 3.0
"""From the queue to the first step, where a worker is free [s]."""
BACKWARD = 3
"""A training step in units of its way forward: once there and twice back."""

_LINES: Mapping[str, tuple[float, Mapping[str, float]]] = {
    "download": (5.0, {"rows": 1e-3}),
    "select": (0.5, {"rows": 1e-5, "catalogue_bytes": 2e-9}),
    "cut": (0.5, {"usable": 5e-4, "bytes_read": 5e-9}),
    "dataset": (0.5, {"stamp_bytes": 5e-9}),
    "train": (10.0, {"flops_train": 1 / 60e9}),
    "search": (10.0, {"flops_train": 1 / 60e9}),
    "compare": (10.0, {"flops_compare": 1 / 60e9}),
    "calibrate": (3.0, {}),
    "predict": (3.0, {"flops_predict": 1 / 80e9}),
    "evaluate": (1.0, {"predicted": 1e-3}),
    "draw": (1.5, {}),
}
"""Seconds of each step, and for each unit of an amount, on 2 cores without an accelerator."""
_ANY = (1.0, dict[str, float]())
_SHORTEST = 1e-3
_PREFIXES = ("", "k", "M", "G", "T", "P")


def default_seconds(step: str, amounts: Mapping[str, float]) -> float:
    """Return what a step takes on a small host for some amounts of an account [s]."""
    base, lines = _LINES.get(step, _ANY)
    return base + sum(each * amounts.get(name, 0.0) for name, each in lines.items())


def paces(jobs: Iterable[Job]) -> dict[str, float]:
    """Return how much of its default each step has really taken, where completed jobs tell."""
    found: dict[str, list[float]] = {}
    for job in jobs:
        # What the account does not count is taken as it was foreseen.
        amounts = (job.estimate or {}).get("amounts", {}) | amounts_of(job)
        for name, seconds in job.accounts.items():
            step = name.removeprefix("seconds_")
            if step != name and set(_LINES.get(step, _ANY)[1]) <= set(amounts):
                found.setdefault(step, [0.0]).append(log(max(seconds, _SHORTEST) / default_seconds(step, amounts)))
    # Of logarithms, so that between two votes twice as slow and twice as fast weigh the same.
    return {step: exp(median(ratios)) for step, ratios in found.items()}


def amounts_of(job: Job) -> dict[str, float]:
    """Return what a job has done: its account, the network's work, and its time from start to end."""
    amounts = dict(job.accounts)
    network = (job.estimate or {}).get("network") or {}
    if (flops := network.get("flops")) is not None:
        amounts["flops_train"] = BACKWARD * flops * amounts.get("images_trained", 0)
        amounts["flops_predict"] = flops * network["looks"] * amounts.get("predicted", 0)
    if job.started is not None and job.ended is not None:
        amounts["seconds"] = (job.ended - job.started).total_seconds()
    return {name: amount for name, amount in amounts.items() if amount}


def written(name: str, amount: float) -> str:
    """Return an amount with a unit that is read at a glance: 18.8 MB, 21.2 GFLOP, 1 h 30 min."""
    match name.split("_"):
        case ["memory"] | ["bytes", *_] | [*_, "bytes"]:
            return _scaled(amount, "B")
        case ["flops", *_]:
            return _scaled(amount, "FLOP")
        case ["seconds", *_]:
            return duration(amount)
        case _:
            return f"{amount:,.0f}"


def duration(seconds: float) -> str:
    """Return a time span in its two largest units."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    left, parts = round(seconds), list[tuple[int, str]]()
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count)


def _scaled(amount: float, unit: str) -> str:
    times = 0
    while amount >= 999.5 and times < len(_PREFIXES) - 1:
        amount, times = amount / 1000, times + 1
    digits = 0 if amount >= 99.95 or times == 0 else 1 if amount >= 9.995 else 2
    return f"{amount:,.{digits}f} {_PREFIXES[times]}{unit}"


def compared(job: Job) -> dict[str, Any]:
    """Return a job's estimate beside what it really took, with the ratios of the second to the first.

    A step whose artefacts were found took nothing, and stands in neither ratios nor actual amounts.
    """
    estimated = job.estimate or {}
    actual = amounts_of(job) if job.phase.ended else {}
    foreseen = estimated.get("amounts", {})
    return {
        "job": job.id,
        "phase": str(job.phase),
        "quote": None if job.quote is None else job.quote.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "estimated": estimated or None,
        "actual": actual or None,
        "ratios": {name: actual[name] / foreseen[name] for name in foreseen if foreseen[name] and name in actual},
    }
