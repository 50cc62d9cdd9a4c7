"""The selection: which of the user's rows the archive can answer for, and why not the others.

Every uploaded row is a row of the selection, with a status:

==================  =====================================================================
ok                  inside the coverage of every band and matched with the catalogue
invalid-position    ra or dec is missing, not finite or out of range
invalid-label       a training row whose redshift is missing, not finite or negative
duplicate           the same object as another row, which stands for it; or nobody knows which
outside             not in the coverage of every band
unmatched           the catalogue has nothing within the radius
==================  =====================================================================

Rows of one list within the radius are one object. A flag says what the rules of `inzitu.archive.merging` made of each:

====================  ===================================================================
kept                  stands for its object; the others agree
kept-by-quality       stands for its object; others disagree and are of lower quality
kept-by-survey        stands for its object; others disagree, of surveys of lower rank
merged                agrees with the row that stands for the object
overruled             disagrees with it, or has no redshift
conflicting-redshift  the object's redshifts disagree and no rule decides: none is used
in-training           a target that is also a usable training row: no blind prediction
====================  ===================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inzitu.archive.counterparts import ROW_COST, Counterparts, Map, counterparts, in_turn
from inzitu.archive.lists import SourceList
from inzitu.archive.merging import Verdict, merge
from inzitu.archive.surveys import coverage_of
from inzitu.errors import ArchiveFault
from inzitu.sky import Coverage, cell29, crossmatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from inzitu.manifest import Manifest
    from inzitu.pipelines.parameters import SelectParameters

CONFLICT = "conflicting-redshift"


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of a job's lists, one after the other.

    Attributes
    ----------
    table
        The rows, with status, flags and counterpart.
    in_bands
        How many rows of each list with a position lie in the coverage of each band, by list, then by band.
    in_all
        How many of each list lie in that of all bands.
    files
        The catalogue's files that were searched.
    size
        What was to be searched of them [byte].
    share
        How much of that was searched, 0 to 1.
    answers
        The answers of a catalogue behind TAP, as a reading.
    """

    table: pa.Table
    in_bands: Mapping[str, Mapping[str, int]]
    in_all: Mapping[str, int]
    files: tuple[Path, ...]
    size: int
    share: float
    answers: Path | None = None

    def of(self, name: str) -> pa.Table:
        """Return the rows of one list."""
        return self.table.filter(pc.equal(self.table["list"], name))


def select_rows(
    lists: Sequence[SourceList],
    parameters: SelectParameters,
    manifest: Manifest,
    *,
    mapping: Map = in_turn,
    enough: Callable[[], bool] = lambda: False,
    progress: Callable[[float, float], None] = lambda _done, _total: None,
    folder: Path | None = None,
) -> Selection:
    """Give each row its status and its counterpart in the catalogue.

    Parameters
    ----------
    lists
        The user's lists.
    parameters
        The radius, and which of several redshifts to trust.
    manifest
        The deployment: its surveys, its catalogue, and the memory for searching that.
    mapping
        Distributes the partitions of the catalogue.
    enough
        Asked after each; once it is true the rest is left out.
    progress
        Told how many partitions are done.
    folder
        Where what a catalogue behind TAP sends is kept.

    Raises
    ------
    ArchiveFault
        A survey's coverage or the catalogue cannot be read.
    """
    inside = {
        band: [coverage.contains(rows.ra, rows.dec) for rows in lists] for band, coverage in coverages(manifest).items()
    }
    inside_all = [np.logical_and.reduce(masks) for masks in zip(*inside.values(), strict=True)]
    judged = [_judged(rows, parameters, mask) for rows, mask in zip(lists, inside_all, strict=True)]
    status = np.concatenate([words for words, _ in judged])
    flags = np.concatenate([words for _, words in judged])
    ra, dec = (np.concatenate([getattr(rows, name) for rows in lists]) for name in ("ra", "dec"))
    usable = np.flatnonzero(status == "ok")
    found = counterparts(
        manifest.archive.catalogue,
        ra[usable],
        dec[usable],
        parameters.radius,
        rows=max(1, (manifest.engine.memory_mb << 20) // ROW_COST // manifest.engine.workers),
        mapping=mapping,
        enough=enough,
        progress=progress,
        folder=folder,
    )
    status[np.delete(usable, found.first)] = "unmatched"
    role = np.concatenate([np.full(len(rows), rows.name, dtype=object) for rows in lists])
    _flag_targets_in_training(flags, status, role, ra, dec, parameters.radius)
    return Selection(
        table=_table(lists, role, ra, dec, status, flags, usable[found.first], found),
        in_bands={
            rows.name: {band: int(masks[at].sum()) for band, masks in inside.items()} for at, rows in enumerate(lists)
        },
        in_all={rows.name: int(mask.sum()) for rows, mask in zip(lists, inside_all, strict=True)},
        files=found.files,
        size=found.size,
        share=found.share,
        answers=found.answers,
    )


def coverages(manifest: Manifest) -> dict[str, Coverage]:
    """Return where each band of the archive has pixels."""
    try:
        return {entry.band: coverage_of(entry) for entry in manifest.archive.surveys}
    except (OSError, ValueError) as error:
        raise ArchiveFault(f"The coverage of a survey cannot be read: {error}.") from error


def _judged(rows: SourceList, parameters: SelectParameters, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return status and flags of the rows of one list, but for what the catalogue says."""
    status = np.full(len(rows), "ok", dtype=object)
    flags = np.full(len(rows), "", dtype=object)
    valid = np.isfinite(rows.ra) & np.isfinite(rows.dec)
    status[~valid] = "invalid-position"
    if rows.labelled:
        status[valid & ~((rows.z >= 0) & np.isfinite(rows.z))] = "invalid-label"
    usable = np.flatnonzero(status == "ok")
    merged = merge(
        rows.ra[usable],
        rows.dec[usable],
        # Without redshifts all rows of an object agree.
        rows.z[usable] if rows.labelled else np.zeros(len(usable)),
        radius=parameters.radius,
        agreement=parameters.agreement,
        quality=None if rows.quality is None else rows.quality[usable],
        survey=None if rows.survey is None else rows.survey[usable],
        priority=parameters.priority,
    )
    status[np.delete(usable, merged.trusted)] = "duplicate"
    disputed = merged.verdict[merged.kept] == Verdict.DISPUTED
    words = np.where(merged.verdict == Verdict.ALONE, "", merged.verdict.astype(str))
    flags[usable] = np.where(disputed, CONFLICT, words)
    status[(status == "ok") & ~inside] = "outside"
    return status, flags


def _flag_targets_in_training(
    flags: np.ndarray, status: np.ndarray, role: np.ndarray, ra: np.ndarray, dec: np.ndarray, radius: float
) -> None:
    """Flag the targets that are also usable training rows."""
    training, targets = (np.flatnonzero((status == "ok") & (role == name)) for name in ("training", "targets"))
    pairs = crossmatch(ra[targets], dec[targets], ra[training], dec[training], radius)
    for row in targets[pairs.first]:
        flags[row] = ",".join(filter(None, (flags[row], "in-training")))


def _table(
    lists: Sequence[SourceList],
    role: np.ndarray,
    ra: np.ndarray,
    dec: np.ndarray,
    status: np.ndarray,
    flags: np.ndarray,
    matched: np.ndarray,
    found: Counterparts,
) -> pa.Table:
    rows = len(role)
    z = np.concatenate([sources.z for sources in lists])
    valid = np.isfinite(ra) & np.isfinite(dec)
    cells = np.zeros(rows, dtype=np.int64)
    cells[valid] = cell29(ra[valid], dec[valid])
    separation = np.full(rows, np.nan)
    separation[matched] = found.separation
    where = np.full(rows, -1)
    where[matched] = np.arange(len(matched))
    identifier, *magnitudes = found.columns.take(pa.array(where, mask=where < 0)).columns
    return pa.table(
        {
            "row": np.arange(rows),
            "list": pa.array(role, pa.string()),
            "list_row": np.concatenate([np.arange(len(sources)) for sources in lists]),
            "source_id": [name for sources in lists for name in sources.source_id],
            "ra": pa.array(ra, from_pandas=True),
            "dec": pa.array(dec, from_pandas=True),
            # -99, -1 and the like stand for "unknown" in many a list.
            "z": pa.array(np.where(np.isfinite(z) & (z >= 0), z, np.nan), from_pandas=True),
            "match_id": identifier,
            "match_separation": pa.array(separation, from_pandas=True),
            # A band may be called z: its magnitude must not take the place of the redshift.
            **{f"mag_{name}": column for name, column in zip(found.columns.column_names[1:], magnitudes, strict=True)},
            "status": pa.array(status, pa.string()),
            "flags": pa.array(flags, pa.string()),
            "cell": pa.array(cells, mask=~valid),
        }
    )
