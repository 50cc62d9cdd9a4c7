"""The step cut: the stamps of the selected sources, read out of the surveys in place.

The rows are dealt out in groups of neighbours, so that almost every tile is opened by one group; the groups go to the
engine, and the stamps stream into arrays on disk that remember which rows are done (`inzitu.archive.unfinished`), so
that a worker that takes over goes on where the last one stopped.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inzitu.archive.unfinished import Unfinished
from inzitu.errors import ArchiveFault
from inzitu.hips import Cutouts, Flag, Status, Survey, TileRead, cutouts, groups
from inzitu.run.work import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from inzitu.pipelines.parameters import CutParameters
    from inzitu.run.work import Work

ROWS_A_GROUP = 256
_READS = pa.schema(
    [
        ("uri", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("band", pa.int64()),
        ("ranges", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class _Stamps:
    """The geometry of a job's stamps, and the surveys to cut them from; travels to the engine's workers."""

    surveys: tuple[str, ...]
    size: int
    scale: float
    job: str
    """Names the job's attempt, for which a worker opens the surveys once."""

    def cut(self, sky: tuple[np.ndarray, np.ndarray]) -> Cutouts:
        """Cut the stamps at the positions (ra, dec) [deg] in all bands."""
        return cutouts(_opened(self.surveys, self.job), *sky, size=self.size, scale=self.scale)


@lru_cache(maxsize=4)
def _opened(surveys: tuple[str, ...], _job: str) -> tuple[Survey, ...]:
    return tuple(Survey.open(uri) for uri in surveys)


def cut(parameters: CutParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Cut the stamps of the rows with status ok, in their order."""
    selection = pq.read_table(inputs["selection"], columns=["row", "ra", "dec", "status"])
    selection = selection.filter(pc.equal(selection["status"], "ok"))
    ra, dec = selection["ra"].to_numpy(), selection["dec"].to_numpy()
    stamps = _Stamps(
        tuple(entry.hips for entry in work.manifest.archive.surveys),
        parameters.size,
        parameters.scale,
        str(work.folder),
    )
    try:
        surveys = _opened(stamps.surveys, stamps.job)
    except (OSError, ValueError) as error:
        raise ArchiveFault(f"A survey of the archive cannot be used: {str(error).rstrip('.')}.") from error
    positions = hashlib.sha256(np.stack([ra, dec]).astype("<f8").tobytes()).hexdigest()
    editions = [survey.edition for survey in surveys]
    request = repr((stamps.surveys, editions, stamps.size, stamps.scale, positions)).encode()
    # Named by what is cut, so that what an attempt left of other sources, surveys or editions is in nobody's way.
    folder = work.checkpoints / hashlib.sha256(request).hexdigest()[:16]
    part = Unfinished.open(folder, {}, (len(ra), stamps.size, stamps.size, len(surveys)))
    undone = part.undone
    dealt = groups(surveys, ra[undone], dec[undone], size=stamps.size, scale=stamps.scale, most=ROWS_A_GROUP)
    dealt = [undone[rows] for rows in dealt]
    done, damaged = len(ra) - len(undone), set[str]()
    for index, made in work.engine.map(stamps.cut, [(ra[rows], dec[rows]) for rows in dealt]):
        rows = dealt[index]
        _note(made.tiles, part.folder / f"reads-{rows[0]}.parquet")
        part.store(rows, made)
        for tile in made.errors:
            if tile.uri not in damaged:
                damaged.add(tile.uri)
                work.log(f"a tile cannot be used: {tile}")
        done += len(rows)
        work.progress(done, len(ra))
    return _written(part, selection["row"], stamps, surveys, work)


def _note(reads: Iterable[TileRead], path: Path) -> None:
    """Keep what was read for a group, before the group counts as done."""
    pq.write_table(pa.Table.from_pylist([asdict(read) for read in reads], schema=_READS), path)


def _written(
    part: Unfinished, rows: pa.ChunkedArray[pa.Int64Scalar], stamps: _Stamps, surveys: tuple[Survey, ...], work: Work
) -> Outcome:
    """Write the folder of cutouts and the list of what was read."""
    folder, reading, entries = work.folder / "cutouts", work.folder / "tiles.parquet", work.manifest.archive.surveys
    folder.mkdir()
    bands = [entry.band for entry in entries]
    table = _rows_table(part, rows, bands)
    pq.write_table(table, folder / "rows.parquet")
    tallies = {band: _tally(table[f"status_{band}"]) for band in bands}
    description = {
        "bands": bands,
        "size": stamps.size,
        "scale": stamps.scale,
        "resampling": "bilinear",
        "units": [entry.unit for entry in entries],
        "surveys": {band: dict(survey.properties) for band, survey in zip(bands, surveys, strict=True)},
        "statuses": tallies,
    }
    (folder / "cutouts.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    reads = _reads_table(part, bands)
    pq.write_table(reads, reading)
    tiles = pc.count_distinct(reads["uri"]).as_py()
    work.log(f"cut {table.num_rows:,} stamps from {tiles:,} tiles: {_listed(_tally(table['status']))}")
    for band, tally in tallies.items():
        if set(tally) != {"ok"}:
            work.log(f"band {band}: {_listed(tally)}")
    account = {"bytes_read": pc.sum(reads["bytes"]).as_py() or 0, "tiles": tiles}
    # A tile that could not be used may be mended without a change of the survey's properties.
    certain = not (part.status == Status.ERROR).any()
    part.hand_over(part.folder / "pixels.npy", folder / "pixels.npy")
    return Outcome(made={"cutouts": folder}, readings={"tiles": reading}, account=account, certain=certain)


def _rows_table(part: Unfinished, rows: pa.ChunkedArray[pa.Int64Scalar], bands: list[str]) -> pa.Table:
    """Return what became of each row, in all bands together and in each."""
    statuses = pa.array([status.word for status in Status])
    flags = pa.array([Flag(union).words for union in range(1 << len(Flag))])

    def told(status: np.ndarray, fraction: np.ndarray, union: np.ndarray, suffix: str) -> dict[str, object]:
        values = statuses.take(pa.array(status)), fraction, flags.take(pa.array(union))
        return {name + suffix: value for name, value in zip(("status", "fraction", "flags"), values, strict=True)}

    columns = {"row": rows}
    columns |= told(part.status.max(axis=1), part.fraction.min(axis=1), np.bitwise_or.reduce(part.flags, axis=1), "")
    for k, band in enumerate(bands):
        columns |= told(part.status[:, k], part.fraction[:, k], part.flags[:, k], f"_{band}")
    return pa.table(columns)


def _tally(words: pa.ChunkedArray[pa.StringScalar]) -> dict[str, int]:
    """Count the rows by their status."""
    return {row["values"]: row["counts"] for row in words.value_counts().to_pylist()}


def _listed(tally: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in tally.items())


def _reads_table(part: Unfinished, bands: list[str]) -> pa.Table:
    """Return all that was read, each once."""
    notes = [pq.read_table(path) for path in part.folder.glob("reads-*.parquet")]
    reads = pa.concat_tables([_READS.empty_table(), *notes]).group_by(_READS.names).aggregate([]).sort_by("uri")
    return reads.set_column(3, "band", pa.array(bands, pa.string()).take(reads["band"].combine_chunks()))
