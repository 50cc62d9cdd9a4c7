"""The step select: which of the user's rows the archive can answer for, and why not the others.

Every uploaded row is a row of the selection, with a status:

==================  =====================================================================
ok                  inside the coverage of every band and matched with the catalogue
invalid-position    ra or dec is missing, not finite or out of range
invalid-label       a training row whose redshift is missing, not finite or negative
duplicate           within the radius of an earlier row of the same list
outside             not in the coverage of every band
unmatched           the catalogue has nothing within the radius
==================  =====================================================================

The flag ``in-training`` marks a target that is also a usable training row: its prediction is no blind one. Training
rows that are the same object with different redshifts are flagged ``conflicting-redshift``; none of them is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inzitu.archive.catalogues import read_table
from inzitu.archive.lists import SourceList, read_list
from inzitu.errors import ArchiveFault, TableFault
from inzitu.hips import Survey
from inzitu.prov.store import digest
from inzitu.run.work import Outcome
from inzitu.sky import Coverage, cell29, crossmatch, duplicates

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inzitu.manifest import CatalogueEntry, Manifest
    from inzitu.pipelines.catalogue import SelectParameters
    from inzitu.run.work import Work

SAME_REDSHIFT = 0.01
"""Two redshifts of one object agree when they differ by less than this times (1 + z)."""


def select(parameters: SelectParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Give each uploaded row its status and its counterpart in the catalogue."""
    lists = [
        read_list(inputs[name], name=name, labelled=name == "training", most=work.manifest.limits.rows)
        for name in ("training", "targets")
        if name in inputs
    ]
    work.progress(0, 3, stage="coverage")
    coverage = common_coverage(work.manifest)
    work.progress(1, 3, stage="catalogue")
    catalogue, files = _catalogue(work.manifest.archive.catalogue, work.folder)
    work.progress(2, 3, stage="matching")
    parts = [_examined(rows, coverage=coverage, catalogue=catalogue, radius=parameters.radius) for rows in lists]
    table = pa.concat_tables(parts)
    table = _flag_targets_in_training(table, parameters.radius)
    table = table.add_column(0, "row", pa.array(np.arange(table.num_rows)))
    for rows, part in zip(lists, parts, strict=True):
        _require_some(rows, part, work)
    selection = work.folder / "selection.parquet"
    pq.write_table(table, selection)
    return Outcome(
        made={"selection": selection},
        readings={"catalogue": files},
        account={"rows": table.num_rows, "bytes_read": sum(pq.read_table(files)["bytes"].to_pylist())},
    )


def common_coverage(manifest: Manifest) -> Coverage:
    """Return where all bands of the archive have pixels."""
    try:
        first, *others = [Survey.open(entry.hips).coverage() for entry in manifest.archive.surveys]
    except OSError as error:
        raise ArchiveFault(f"The coverage of a survey cannot be read: {error}.") from error
    return first.intersection(*others) if others else first


def _catalogue(entry: CatalogueEntry, folder: Path) -> tuple[pa.Table, Path]:
    """Return the catalogue's columns that a selection carries, and the list of the files that hold it."""
    from pathlib import Path

    path = Path(entry.path)
    try:
        table = read_table(path)
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        read = [{"uri": str(p), "sha256": digest(p), "bytes": p.stat().st_size} for p in files]
    except OSError as error:
        raise ArchiveFault(f"The catalogue {path} cannot be read: {error}.") from error
    wanted = [entry.id, entry.ra, entry.dec, *entry.magnitudes]
    if missing := [name for name in wanted if name not in table.column_names]:
        raise ArchiveFault(f"The catalogue {path} has no column {', '.join(missing)}; the manifest names it.")
    reading = folder / "catalogue-read.parquet"
    pq.write_table(pa.Table.from_pylist(read), reading)
    return table.select(wanted), reading


def _examined(rows: SourceList, *, coverage: Coverage, catalogue: pa.Table, radius: float) -> pa.Table:
    """Return the rows of one list with status, flags and counterpart."""
    status = np.full(len(rows), "ok", dtype=object)
    flags = np.full(len(rows), "", dtype=object)
    valid = np.isfinite(rows.ra) & np.isfinite(rows.dec)
    status[~valid] = "invalid-position"
    if rows.name == "training":
        status[valid & ~(rows.z >= 0)] = "invalid-label"
        status[valid & np.isinf(rows.z)] = "invalid-label"
    usable = np.flatnonzero(status == "ok")
    usable = usable[_mark_duplicates(rows, usable, status, flags, radius)]
    inside = coverage.contains(rows.ra[usable], rows.dec[usable])
    status[usable[~inside]] = "outside"
    usable = usable[inside]
    ra, dec = (np.asarray(catalogue.column(i).to_numpy(), dtype=np.float64) for i in (1, 2))
    pairs = crossmatch(rows.ra[usable], rows.dec[usable], ra, dec, radius)
    matched = usable[pairs.first]
    status[np.setdiff1d(usable, matched)] = "unmatched"
    return _table(rows, status, flags, valid=valid, catalogue=catalogue, matched=matched, pairs=pairs)


def _mark_duplicates(
    rows: SourceList, usable: np.ndarray, status: np.ndarray, flags: np.ndarray, radius: float
) -> np.ndarray:
    """Mark all but the first row of each object; return which of the usable rows stay."""
    group = duplicates(rows.ra[usable], rows.dec[usable], radius)
    first: np.ndarray = group == np.arange(len(usable))
    status[usable[~first]] = "duplicate"
    if rows.name != "training":
        return first
    z, reference = rows.z[usable], rows.z[usable][group]
    conflicting = np.isin(group, group[np.abs(z - reference) > SAME_REDSHIFT * (1 + reference)])
    flags[usable[conflicting]] = "conflicting-redshift"
    status[usable[conflicting]] = "duplicate"
    return np.asarray(first & ~conflicting)


def _table(
    rows: SourceList,
    status: np.ndarray,
    flags: np.ndarray,
    *,
    valid: np.ndarray,
    catalogue: pa.Table,
    matched: np.ndarray,
    pairs: Any,
) -> pa.Table:
    counterpart = np.full(len(rows), -1, dtype=np.int64)
    counterpart[matched] = pairs.second
    separation = np.full(len(rows), np.nan)
    separation[matched] = pairs.separation
    cells = np.zeros(len(rows), dtype=np.int64)
    cells[valid] = cell29(rows.ra[valid], rows.dec[valid])
    taken = catalogue.take(pa.array(counterpart, mask=counterpart < 0))
    identifier, _, _, *magnitudes = taken.column_names
    return pa.table(
        {
            "list": pa.array([rows.name] * len(rows)),
            "list_row": np.arange(len(rows)),
            "source_id": rows.source_id,
            "ra": pa.array(rows.ra, from_pandas=True),
            "dec": pa.array(rows.dec, from_pandas=True),
            # -99, -1 and the like stand for "unknown" in many a list.
            "z": pa.array(np.where(np.isfinite(rows.z) & (rows.z >= 0), rows.z, np.nan), from_pandas=True),
            "match_id": taken[identifier].cast(pa.string()),
            "match_separation": pa.array(separation, from_pandas=True),
            # A band may be called z: its magnitude must not take the place of the redshift.
            **{f"mag_{name}": taken[name].cast(pa.float64()) for name in magnitudes},
            "status": pa.array(status, pa.string()),
            "flags": pa.array(flags, pa.string()),
            "cell": pa.array(cells, mask=~valid),
        }
    )


def _flag_targets_in_training(table: pa.Table, radius: float) -> pa.Table:
    """Flag the targets that are also usable training rows."""
    ok = np.asarray(table["status"]) == "ok"
    role = np.asarray(table["list"])
    training, targets = np.flatnonzero(ok & (role == "training")), np.flatnonzero(ok & (role == "targets"))
    ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
    pairs = crossmatch(ra[targets], dec[targets], ra[training], dec[training], radius)
    flags = np.asarray(table["flags"], dtype=object)
    flags[targets[pairs.first]] = "in-training"
    return table.set_column(table.column_names.index("flags"), "flags", pa.array(flags, pa.string()))


def _require_some(rows: SourceList, part: pa.Table, work: Work) -> None:
    """Refuse a list of which no row can be used, and say what became of its rows."""
    status = np.asarray(part["status"])
    words, counts = np.unique(status.astype(str), return_counts=True)
    tally = ", ".join(f"{count:,} {word}" for word, count in zip(words, counts, strict=True))
    work.log(f"{rows.name}: {len(rows):,} rows: {tally}")
    if (status == "ok").any():
        return
    bad = int(np.flatnonzero(status != "ok")[0])
    bands = ", ".join(work.manifest.archive.bands)
    raise TableFault(
        f"No row of the {rows.name} list can be used: {tally}. The first is row {bad} at ra {rows.ra[bad]}, dec "
        f"{rows.dec[bad]} deg. Positions must be ICRS degrees inside the footprint of the bands {bands}."
    )
