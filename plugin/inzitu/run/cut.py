"""The step cut: the stamps of the selected sources, read out of the surveys in place.

The rows are dealt out in groups of neighbours, so that each tile is opened by one group; the groups go to the engine.
The stamps stream into one memory-mapped file, and each finished group is noted beside it, so that a worker that takes
over goes on where the last one stopped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inzitu.errors import ArchiveFault
from inzitu.hips import Cutouts, Survey, cutouts, groups
from inzitu.run.work import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inzitu.pipelines.catalogue import CutParameters
    from inzitu.run.work import Work

ROWS_A_GROUP = 256


@dataclass(frozen=True, slots=True)
class _Stamps:
    """The geometry of a job's stamps, and the surveys to cut them from; travels to the engine's workers."""

    surveys: tuple[str, ...]
    size: int
    scale: float

    def cut(self, sky: tuple[np.ndarray, np.ndarray]) -> Cutouts:
        """Cut the stamps at the positions (ra, dec) [deg] in all bands."""
        surveys = [Survey.open(uri) for uri in self.surveys]
        return cutouts(surveys, *sky, size=self.size, scale=self.scale)


def cut(parameters: CutParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Cut the stamps of the rows with status ok, in their order."""
    selection = pq.read_table(inputs["selection"], columns=["row", "ra", "dec", "status"])
    selection = selection.filter(pc.equal(selection["status"], "ok"))
    ra, dec = selection["ra"].to_numpy(), selection["dec"].to_numpy()
    entries = work.manifest.archive.surveys
    try:
        surveys = [Survey.open(entry.hips) for entry in entries]
    except OSError as error:
        raise ArchiveFault(f"A survey of the archive cannot be opened: {error}.") from error
    stamps = _Stamps(tuple(entry.hips for entry in entries), parameters.size, parameters.scale)
    dealt = groups(surveys, ra, dec, size=parameters.size, scale=parameters.scale, most=ROWS_A_GROUP)
    journal = _Journal(work.checkpoints, (len(ra), parameters.size, parameters.size, len(entries)))
    todo = [number for number in range(len(dealt)) if not journal.has(number)]
    done = len(ra) - sum(len(dealt[number]) for number in todo)
    for index, part in work.engine.map(stamps.cut, [(ra[dealt[number]], dec[dealt[number]]) for number in todo]):
        journal.write(todo[index], dealt[todo[index]], part)
        for damaged in part.errors:
            work.log(f"a tile cannot be used: {damaged}")
        done += len(dealt[todo[index]])
        work.progress(done, len(ra))
    parts = journal.close(len(dealt))
    return _written(parts, selection["row"].to_numpy(), stamps, surveys, work)


class _Journal:
    """The stamps that are done: one array of pixels on disk, and a pair of tables for each finished group."""

    def __init__(self, folder: Path, shape: tuple[int, int, int, int]) -> None:
        self.folder = folder
        self.path = folder / "pixels.npy"
        mode: Literal["r+", "w+"] = "r+" if self.path.exists() else "w+"
        if mode == "w+":
            # An attempt that was killed after it had handed its pixels on left the notes of its groups behind.
            for note in folder.glob("group-*"):
                note.unlink()
        self._pixels = np.lib.format.open_memmap(self.path, mode=mode, dtype=np.float32, shape=shape)

    def has(self, number: int) -> bool:
        """Whether a group is done."""
        return self._part(number, "rows").exists()

    def write(self, number: int, rows: np.ndarray, part: Cutouts) -> None:
        """Keep a group; it counts as done once its table of rows has its name."""
        self._pixels[rows] = part.pixels
        self._pixels.flush()
        tiles = [
            {"uri": tile.uri, "sha256": tile.sha256, "bytes": tile.bytes, "band": tile.band} for tile in part.tiles
        ]
        pq.write_table(pa.Table.from_pylist(tiles, schema=_TILES), self._part(number, "tiles"))
        table = pa.table(
            {
                "at": rows,
                "status": part.status_words(),
                "fraction": part.fraction.min(axis=1),
                "flags": part.flag_words(),
            }
        )
        temporary = self.folder / "rows.tmp"
        pq.write_table(table, temporary)
        temporary.rename(self._part(number, "rows"))

    def close(self, groups: int) -> tuple[Path, pa.Table, pa.Table]:
        """Return the file of pixels, the rows in order and the tiles, each once."""
        self._pixels.flush()
        rows = pa.concat_tables([pq.read_table(self._part(number, "rows")) for number in range(groups)])
        tiles = pa.concat_tables([pq.read_table(self._part(number, "tiles")) for number in range(groups)])
        return self.path, rows.sort_by("at"), tiles.group_by(_TILES.names).aggregate([]).sort_by("uri")

    def _part(self, number: int, what: str) -> Path:
        return self.folder / f"group-{number}-{what}.parquet"


_TILES = pa.schema([("uri", pa.string()), ("sha256", pa.string()), ("bytes", pa.int64()), ("band", pa.int64())])


def _written(
    parts: tuple[Path, pa.Table, pa.Table], rows: np.ndarray, stamps: _Stamps, surveys: list[Survey], work: Work
) -> Outcome:
    """Write the folder of cutouts and the list of the tiles read."""
    pixels, table, tiles = parts
    folder = work.folder / "cutouts"
    folder.mkdir()
    pixels.rename(folder / "pixels.npy")
    pq.write_table(table.set_column(0, "row", pa.array(rows)), folder / "rows.parquet")
    entries = work.manifest.archive.surveys
    bands = np.array([entry.band for entry in entries], dtype=object)
    tiles = tiles.set_column(3, "band", pa.array(bands[tiles["band"].to_numpy()], pa.string()))
    description = {
        "bands": list(bands),
        "size": stamps.size,
        "scale": stamps.scale,
        "resampling": "bilinear",
        "units": [entry.unit for entry in entries],
        "surveys": {entry.band: dict(survey.properties) for entry, survey in zip(entries, surveys, strict=True)},
    }
    (folder / "cutouts.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    reading = work.folder / "tiles.parquet"
    pq.write_table(tiles, reading)
    tally = ", ".join(f"{row['counts']:,} {row['values']}" for row in table["status"].value_counts().to_pylist())
    work.log(f"cut {table.num_rows:,} stamps from {tiles.num_rows:,} tiles: {tally}")
    account = {"bytes_read": pc.sum(tiles["bytes"]).as_py() or 0, "tiles": tiles.num_rows}
    # A tile that could not be used may be mended without a change of the survey's properties.
    certain = not pc.any(pc.equal(table["status"], "error")).as_py()
    return Outcome(made={"cutouts": folder}, readings={"tiles": reading}, account=account, certain=certain)
