"""What the commands of a user print and read: a pipeline's files and parameters, jobs, and a job's estimate."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from inzitu.errors import NotFoundFault, ParameterFault
from inzitu.jobs.costs import duration, written
from inzitu.pipelines.declaration import as_sent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from inzitu.client import JobState


def sorted_out(pairs: Iterable[str], offer: Mapping[str, Any]) -> tuple[dict[str, Path], dict[str, str]]:
    """Tell the files of key=value pairs from the parameters, by what the pipeline says it takes.

    Parameters
    ----------
    pairs
        As ``training=quasars.vot`` and ``seed=1``.
    offer
        The pipeline (`inzitu.pipelines.offer`); empty for one that the service has not.

    Raises
    ------
    ParameterFault
        A pair is none, a file is not there, or the pipeline needs one more.
    """
    roles = {upload["role"] for upload in offer.get("uploads", ())}
    names = {parameter["name"] for parameter in offer.get("parameters", ())}
    uploads: dict[str, Path] = {}
    given: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ParameterFault(f"{pair!r} is no key=value; write for example training=quasars.vot or seed=1.")
        # A network may be the name of one or a file.
        if key in roles and (Path(value).is_file() or key.upper() not in names):
            uploads[key] = _file(key, value)
        else:
            given[key] = value
    needed = {
        upload["role"]: f"FILE, a {upload['kind']}" for upload in offer.get("uploads", ()) if not upload["optional"]
    }
    needed |= {name: f"ID, that of a {name.lower()}" for name in offer.get("ids", ())}
    for key, what in needed.items():
        if key not in uploads and key not in {name.upper() for name in given}:
            raise ParameterFault(
                f"{offer['name']} needs {key}={what}; `inzitu pipelines {offer['name']}` shows all that it takes."
            )
    return uploads, given


def _file(role: str, value: str) -> Path:
    if not Path(value).is_file():
        raise ParameterFault(f"{role}={value}: there is no such file; {role} is a table to upload.")
    return Path(value)


def pipeline_tables(offers: Mapping[str, Mapping[str, Any]], name: str | None) -> Iterator[Table]:
    """Yield a table of all pipelines, or those of one pipeline's files and parameters.

    Raises
    ------
    NotFoundFault
        There is none of that name.
    """
    if name is None:
        yield _table(("pipeline", "what it does"), ((offer["name"], offer["title"]) for offer in offers.values()))
        return
    if name not in offers:
        raise NotFoundFault(f"There is no pipeline {name}; there are {', '.join(offers)}.")
    offer = offers[name]
    needed = {True: "if you like", False: "needed"}
    files = [(f"{upload['role']}=FILE", upload["kind"], needed[upload["optional"]]) for upload in offer["uploads"]]
    files += [(f"{name}=ID", name.lower(), "needed") for name in offer["ids"]]
    yield _table((name, "", ""), files)
    yield _table(
        ("parameter", "default", "what"),
        ((p["name"], as_sent(p["default"]), p["description"]) for p in offer["parameters"]),
    )


def estimate_table(told: Mapping[str, Any]) -> Iterator[Table]:
    """Yield the tables of an estimate: the rows of each list, then what they take."""
    estimated = told["estimated"] or {}
    yield _table(("rows", ""), _rows(estimated))
    if amounts := estimated.get("amounts", {}):
        yield _table(("takes", ""), ((name.replace("_", " "), written(name, value)) for name, value in amounts.items()))
    network = estimated.get("network") or {}
    remarks = [("parameters of the network", f"{network['parameters']:,}")] if network else []
    if made := estimated.get("made"):
        remarks.append(("made before", f"{', '.join(made)}: found again, which takes no time"))
    remarks += [("hint", hint) for hint in estimated.get("hints", ())]
    if told["quote"]:
        remarks.append(("ends, if run now", told["quote"]))
    yield _table(("", ""), remarks)


def _rows(estimated: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, rows in estimated.get("lists", {}).items():
        yield name, f"{rows['rows']:,}"
        for word, count in (rows["status"] | rows["flags"]).items():
            yield f"  {word}", f"{count:,}"
        footprint = rows["footprint"]
        bands = ", ".join(f"{band} {count:,}" for band, count in footprint["bands"].items())
        yield "  in the footprint", f"{footprint['all']:,} ({bands})"
        if rows["matched"] is not None:
            yield "  matched", f"{rows['matched']:,}"
    if (redshifts := estimated.get("redshifts")) is not None:
        held = [
            (low, high)
            for low, high, count in zip(redshifts["edges"], redshifts["edges"][1:], redshifts["usable"], strict=False)
            if count
        ]
        if held:
            yield "usable redshifts from, to", f"{held[0][0]:.2f}, {held[-1][1]:.2f}"


def job_table(jobs: Iterable[JobState]) -> Table:
    """Return a table of jobs: what each is, how it stands, and why it failed."""
    now = datetime.now(UTC)
    return _table(
        ("job", "pipeline", "phase", "rows", "age", "reason"),
        (
            (
                job.id,
                job.pipeline,
                job.phase,
                f"{float(job.info['rows']):,.0f}" if "rows" in job.info else "",
                duration((now - datetime.fromisoformat(job.created)).total_seconds()),
                job.message.partition(". ")[0],
            )
            for job in jobs
        ),
    )


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=None, show_header=any(heads))
    for number, head in enumerate(heads, 1):  # what is short stays whole, and the last column is folded
        table.add_column(head, no_wrap=number < len(heads))
    for row in rows:
        table.add_row(*row)
    return table
