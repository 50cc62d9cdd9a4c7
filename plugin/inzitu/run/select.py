"""The step select: writes which of the user's rows the archive can answer for (`inzitu.archive.selection`)."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inzitu.archive.lists import read_lists
from inzitu.archive.selection import select_rows
from inzitu.errors import ArchiveFault, TableFault
from inzitu.prov.store import digest
from inzitu.run.work import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from inzitu.archive.lists import SourceList
    from inzitu.archive.selection import Selection
    from inzitu.manifest import Manifest
    from inzitu.pipelines.parameters import SelectParameters
    from inzitu.run.work import Work


def select(parameters: SelectParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Give each uploaded row its status and its counterpart in the catalogue."""
    lists = read_lists(inputs, parameters, most=work.manifest.limits.rows)
    found = select_rows(
        lists,
        parameters,
        work.manifest,
        mapping=work.engine.map,
        progress=work.progress,
        folder=work.checkpoints / "nearby",
    )
    for rows in lists:
        work.log(f"{rows.name}: {len(rows):,} rows: {tally(found, rows.name)}")
        for hint in hints([rows]):
            work.log(hint)
    require_some(found, lists, work.manifest)
    selection, reading = work.folder / "selection.parquet", work.folder / "catalogue-read.parquet"
    pq.write_table(found.table, selection)
    read = _read(found.files, work.manifest.state) if found.answers is None else pq.read_table(found.answers)
    pq.write_table(read, reading)
    size = found.size if found.answers is None else sum(read["bytes"].to_pylist())
    usable = int((np.asarray(found.table["status"]) == "ok").sum())
    account = {"rows": found.table.num_rows, "usable": usable, "bytes_read": size, "catalogue_bytes": size}
    return Outcome(
        made={"selection": selection},
        readings={"catalogue": reading},
        account=account,
        certain=found.answers is None,  # what a catalogue behind TAP holds by now, nothing here can tell
    )


def tally(found: Selection, name: str) -> str:
    """Say how many rows of a list have which status."""
    words, counts = np.unique(np.asarray(found.of(name)["status"]).astype(str), return_counts=True)
    return ", ".join(f"{count:,} {word}" for word, count in zip(words, counts, strict=True))


def hints(lists: Sequence[SourceList]) -> list[str]:
    """Say what looks wrong with lists as a whole."""
    return [
        f"{rows.name}: the right ascensions look like hours; if they are, send RA_UNIT={rows.name}:hour, or the unit "
        "with the column"
        for rows in lists
        if rows.hours
    ]


def require_some(found: Selection, lists: Sequence[SourceList], manifest: Manifest) -> None:
    """Refuse a list of which no row can be used, and say what became of its rows.

    Raises
    ------
    TableFault
        There is one.
    """
    for rows in lists:
        status = np.asarray(found.of(rows.name)["status"])
        if (status == "ok").any():
            continue
        most = Counter(status.tolist()).most_common(1)[0][0]
        bad = int(np.flatnonzero(status == most)[0])
        what = f"z {rows.z[bad]:g}" if most == "invalid-label" else f"ra {rows.ra[bad]}, dec {rows.dec[bad]} deg"
        raise TableFault(
            f"No row of the {rows.name} list can be used: {tally(found, rows.name)}. The first {most} one is row {bad} "
            f"with {what}. {_remedy(most, manifest)}" + "".join(f" Hint: {hint}." for hint in hints([rows]))
        )


def _remedy(status: str, manifest: Manifest) -> str:
    if status == "invalid-label":
        return "To train on, a row takes a redshift of zero or more."
    if status == "unmatched":
        return "The catalogue has nothing within RADIUS of it."
    return f"Positions must be ICRS degrees inside the footprint of the bands {', '.join(manifest.archive.bands)}."


def _read(files: Sequence[Path], state: Path) -> pa.Table:
    """Return the list of the catalogue's files that were searched, for the record."""
    try:
        rows = [{"uri": str(path), "sha256": _digest(path, state), "bytes": path.stat().st_size} for path in files]
    except OSError as error:
        raise ArchiveFault(f"A file of the catalogue cannot be read: {error}.") from error
    kinds = (("uri", pa.string()), ("sha256", pa.string()), ("bytes", pa.int64()))
    return pa.Table.from_pylist(rows, schema=pa.schema(kinds))


def _digest(path: Path, state: Path) -> str:
    """Return the digest of a file, taken once until it is written: a catalogue may be of many gigabytes."""
    about = path.stat()
    key = hashlib.sha256(repr((str(path), about.st_ino, about.st_size, about.st_mtime_ns)).encode()).hexdigest()
    known = state / "digests" / key
    if not known.exists():
        known.parent.mkdir(parents=True, exist_ok=True)
        half = known.with_suffix(f".{os.getpid()}")
        half.write_text(digest(path), encoding="ascii")
        half.rename(known)
    return known.read_text(encoding="ascii")
