"""What the commands of a user print and read: a pipeline's files and parameters, and a job's estimate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from inzitu.errors import NotFoundFault, ParameterFault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


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
        A pair is none, or a file is not there.
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
        ((p["name"], _shown(p["default"]), p["description"]) for p in offer["parameters"]),
    )


def estimate_table(told: Mapping[str, Any]) -> Iterator[Table]:
    """Yield the tables of an estimate: the rows of each list, then what they take."""
    estimated = told["estimated"] or {}
    yield _table(("rows", ""), _rows(estimated))
    amounts = estimated.get("amounts", {})
    yield _table(("takes", ""), ((name.replace("_", " "), _amount(name, value)) for name, value in amounts.items()))
    network = estimated.get("network") or {}
    remarks = [("parameters of the network", f"{network['parameters']:,}")] if network else []
    remarks += [("hint", hint) for hint in estimated.get("hints", ())]
    if estimated.get("refused"):
        remarks.append(("refused", estimated["refused"]))
    if told["quote"]:
        remarks.append(("ends, if run now", told["quote"]))
    yield _table(("", ""), remarks)


def _rows(estimated: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, rows in estimated.get("lists", {}).items():
        yield name, f"{rows['rows']:,}"
        for word, count in (rows["status"] | rows["flags"]).items():
            yield f"  {word}", f"{count:,}"
    footprint = estimated.get("footprint", {"bands": {}, "all": 0})
    for band, count in footprint["bands"].items():
        yield f"in the footprint of {band}", f"{count:,}"
    if footprint["bands"]:
        yield "in that of all bands", f"{footprint['all']:,}"
    if estimated.get("matched") is not None:
        yield "matched", f"{estimated['matched']:,}"
    if (redshifts := estimated.get("redshifts")) is not None:
        held = [at for at, count in zip(redshifts["edges"], redshifts["usable"], strict=False) if count]
        if held:
            yield "usable redshifts from, to", f"{held[0]:.2f}, {held[-1] + redshifts['edges'][1]:.2f}"


def _amount(name: str, value: float) -> str:
    """Return an amount with its unit."""
    match name:
        case "memory" | "bytes_read" | "catalogue_bytes" | "stamp_bytes":
            return f"{value / 1e6:,.1f} MB"
        case str() if name.startswith("flops"):
            return f"{value / 1e9:,.1f} GFLOP"
        case str() if name.startswith("seconds"):
            return f"{value:,.1f} s"
        case _:
            return f"{value:,.0f}"


def _shown(default: object) -> str:
    return "" if default in (None, (), []) else str(default)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(*heads, box=None, show_header=any(heads))
    for row in rows:
        table.add_row(*row)
    return table
