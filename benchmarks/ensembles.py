"""Ten members of an ensemble beside one: one after the other, side by side, and each batch on two devices."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from itertools import pairwise

MEMBERS = 10
NETWORKS = {"inzitu": 20, "dcmdn-a": 4}
"""Steps a dispatch of each network."""
BATCH = 64
TURNS = 7
WAYS = {"one after the other": "turns", "side by side": "vmap", "each batch on two devices": "devices"}


def run() -> str:
    """Return seconds a step of one and of ten members, and how many times as long ten take.

    Ten dispatches of the one and one of the ten take turns; the ratio is the median of the turns' own ratios, by the
    clock and by the processor.
    """
    rows = ["| network | ten members | one [s] | ten [s] | ratio | by the processor |", "|---|---|---:|---:|---:|---:|"]
    for network, steps in NETWORKS.items():
        for words, way in WAYS.items():
            flags = "--xla_force_host_platform_device_count=2" if way == "devices" else ""
            child = subprocess.run(
                [sys.executable, "-m", "benchmarks.ensembles", network, str(steps), way],
                env=os.environ | {"XLA_FLAGS": flags},
                capture_output=True,
                check=True,
            )
            one, ten, ratio, processor = json.loads(child.stdout)
            rows.append(f"| {network} | {words} | {one:.4f} | {ten:.3f} | {ratio:.1f} | {processor:.1f} |")
    return "\n".join(rows)


def measured(network: str, steps: int, way: str) -> list[float]:
    """Return seconds a step of one and of ten members, and the two ratios."""
    import time

    import jax

    from benchmarks.training import Case, turns_of
    from inzitu.learn import step

    if way == "vmap":
        step.changed = lambda function, members, *others: jax.vmap(function)(members, *others)
    one, ten = (
        turns_of(Case(network, "mixture(5)", (28, 28, 5), BATCH, 0.0, members), steps)["train"]
        for members in (1, MEMBERS)
    )
    turns: list[list[float]] = []
    for turn in range(TURNS + 2):
        marks = [(time.perf_counter(), time.process_time())]
        for dispatches, train in ((MEMBERS, one), (1, ten)):
            for _ in range(dispatches):
                train()
            marks.append((time.perf_counter(), time.process_time()))
        (single, alone), (several, together) = ((b - a, d - c) for (a, c), (b, d) in pairwise(marks))
        if turn >= 2:  # those before compile
            seconds = (single / MEMBERS / steps, several / steps)
            turns.append([*seconds, MEMBERS * several / single, MEMBERS * together / alone])
    return [statistics.median(column) for column in zip(*turns, strict=True)]


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
