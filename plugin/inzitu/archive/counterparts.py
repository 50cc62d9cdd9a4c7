"""The archive's catalogue, which may be larger than memory: which of its sources is nearest to each of a user's.

Partition after partition is searched; what its file says of its positions spares those that lie elsewhere on the sky.
Positions are read first, and identifiers and magnitudes only where one of them is near. For two lists of any length
see `inzitu.archive.matching`, for lists in memory `inzitu.sky.crossmatch`; the three find the same pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inzitu.archive.angles import DECIMAL
from inzitu.archive.catalogues import positions
from inzitu.archive.nearby import fetch_nearby
from inzitu.archive.partitions import Partition, Range, column_names, partitions
from inzitu.errors import ArchiveFault, TableFault
from inzitu.sky import crossmatch

if TYPE_CHECKING:
    from inzitu.manifest import CatalogueEntry

type Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[tuple[int, Any]]]
"""Yields the index and the result of a function for each item, in any order (`inzitu.run.engine.Engine.map`)."""

type _Found = tuple[np.ndarray, np.ndarray, pa.Table | None]
"""The sources that have a counterpart in a partition, how far that is, and its columns."""

ROW_COST = 300
"""Memory that searching takes for a row of the catalogue, all copies and the grid counted [byte]."""


@dataclass(frozen=True, slots=True)
class Counterparts:
    """The nearest sources of the catalogue.

    Attributes
    ----------
    first
        Index of each source that has a counterpart, ascending.
    separation
        How far that is [arcsec].
    columns
        Identifier and magnitudes of the counterparts, in that order.
    files
        The files that were searched.
    size
        What was to be searched of them [byte].
    share
        How much of that was searched, 0 to 1.
    answers
        The answers of a catalogue behind TAP, as a reading.
    """

    first: np.ndarray
    separation: np.ndarray
    columns: pa.Table
    files: tuple[Path, ...]
    size: int
    share: float = 1.0
    answers: Path | None = None


def never() -> bool:
    """Search all there is; unlike a lambda it travels."""
    return False


def in_turn(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Map without a cluster."""
    return enumerate(map(function, items))


def counterparts(
    entry: CatalogueEntry,
    ra: np.ndarray,
    dec: np.ndarray,
    radius: float,
    *,
    rows: int,
    mapping: Map = in_turn,
    enough: Callable[[], bool] = never,
    progress: Callable[[float, float], None] = lambda _done, _total: None,
    folder: Path | None = None,
) -> Counterparts:
    """Find for each source the nearest of the catalogue within a radius.

    Parameters
    ----------
    entry
        The catalogue.
    ra, dec
        Positions of the sources [deg].
    radius
        Search radius [arcsec].
    rows
        Rows of the catalogue that are in memory at once, for each that searches.
    mapping
        Distributes the partitions.
    enough
        Asked after each partition, and between the batches of one; once it is true the rest is left out, and `share`
        says how much that was. What is read whole (`inzitu.archive.partitions`) cannot be left in the middle.
    progress
        Told how many partitions are done.
    folder
        Where a catalogue behind TAP is fetched to, and gone on with; without it, none of that is searched.

    Raises
    ------
    ArchiveFault
        The catalogue cannot be read, or has not the columns that the manifest names.
    """
    answers: Path | None = None
    if entry.tap:
        if folder is None:
            return _Nearest(len(ra)).counterparts((), 0, share=0.0, names=[entry.id, *entry.magnitudes])
        near, answers = fetch_nearby(entry, ra, dec, radius, folder=folder, progress=progress)
        entry = entry.model_copy(update={"path": str(near), "tap": "", "table": ""})
    search = _Search(entry, radius, rows, enough)
    try:
        _check_columns(entry)
        parts = _to_search(entry, ra, dec, radius)
        # What is left out must be a fair sample of the sky, whichever way the catalogue is sorted.
        order = np.random.default_rng(0).permutation(len(parts))
        items = ((parts[k][0], ra[parts[k][1]], dec[parts[k][1]]) for k in order)
        best = _Nearest(len(ra))
        done = 0.0
        for index, (found, share) in mapping(search.within, items):
            best.take(parts[order[index]][1], found, int(order[index]))
            done += share
            progress(done, len(parts))
            if enough():
                break
    except (OSError, TableFault) as error:
        raise ArchiveFault(f"The catalogue {entry.path} cannot be read: {error}") from error
    files, size = tuple(sorted({part.path for part, _ in parts})), sum(part.size for part, _ in parts)
    found_all = best.counterparts(files, size, share=done / len(parts) if parts else 1.0, names=search.carried)
    return replace(found_all, answers=answers)


def _check_columns(entry: CatalogueEntry) -> None:
    wanted = [entry.id, entry.ra, entry.dec, *entry.magnitudes]
    there = column_names(Path(entry.path))
    if missing := [name for name in wanted if name not in there]:
        raise ArchiveFault(f"The catalogue {entry.path} has no column {', '.join(missing)}; the manifest names it.")


def _to_search(
    entry: CatalogueEntry, ra: np.ndarray, dec: np.ndarray, radius: float
) -> list[tuple[Partition, np.ndarray]]:
    """Return the partitions that may hold a counterpart, in order, each with the sources that it is for."""
    plain: dict[Path, bool] = {}
    found = []
    for part in partitions(Path(entry.path)):
        lon, lat = part.ranges.get(entry.ra), part.ranges.get(entry.dec)
        if lat is not None and part.path not in plain:
            plain[part.path] = _stand_as_they_are(part, entry)
        near = _near(lon, lat, ra, dec, radius / 3600) if plain.get(part.path) else np.arange(len(ra))
        if len(near):
            found.append((part, near))
    return found


def _stand_as_they_are(part: Partition, entry: CatalogueEntry) -> bool:
    """Return whether the numbers in the file are degrees ICRS: not hours, not galactic."""
    names = [entry.ra, entry.dec]
    schema = pa.schema([pq.read_schema(part.path).field(name).with_type(pa.float64()) for name in names])
    lon, lat = positions(pa.table([[10.0], [20.0]], schema=schema), ra=entry.ra, dec=entry.dec)
    return (float(lon[0]), float(lat[0])) == (10.0, 20.0)


def _near(lon: Range | None, lat: Range | None, ra: np.ndarray, dec: np.ndarray, margin: float) -> np.ndarray:
    """Return which sources lie in ranges of right ascension and declination, widened by a margin [deg]."""
    near: np.ndarray = np.ones(len(ra), dtype=bool)
    if lat is not None:
        near &= (dec >= lat[0] - margin) & (dec <= lat[1] + margin)
        polar = max(-lat[0], lat[1]) + margin
        # Nearer to a pole the margin in right ascension grows beyond what this formula is good for.
        if lon is not None and polar < 89:
            wider = 1.001 * margin / np.cos(np.radians(polar))
            near &= (ra - (lon[0] - wider)) % 360 <= lon[1] - lon[0] + 2 * wider
    return np.flatnonzero(near)


@dataclass(frozen=True, slots=True)
class _Search:
    """What is asked of a partition; travels to the engine's workers."""

    entry: CatalogueEntry
    radius: float
    rows: int
    enough: Callable[[], bool]

    @property
    def carried(self) -> list[str]:
        return [self.entry.id, *self.entry.magnitudes]

    def within(self, item: tuple[Partition, np.ndarray, np.ndarray]) -> tuple[_Found, float]:
        """Return what the partition has for some sources, and how much of it was searched."""
        part, ra, dec = item
        separation, row = np.full(len(ra), np.inf), np.full(len(ra), -1)
        start, share = 0, 1.0
        for table, read in part.batches([self.entry.ra, self.entry.dec], rows=self.rows):
            pairs = crossmatch(ra, dec, *positions(table, ra=self.entry.ra, dec=self.entry.dec), self.radius)
            nearer = pairs.separation < separation[pairs.first]
            first = pairs.first[nearer]
            separation[first], row[first] = pairs.separation[nearer], start + pairs.second[nearer]
            start += table.num_rows
            if read < 1 and self.enough():
                share = read
                break
        found = np.flatnonzero(row >= 0)
        return (found, separation[found], self._columns(part, row[found])), share

    def _columns(self, part: Partition, rows: np.ndarray) -> pa.Table | None:
        """Return identifier and magnitudes of some rows, in the order asked."""
        if not len(rows):
            return None
        wanted, where = np.unique(rows, return_inverse=True)
        taken, start = [], 0
        for table, _ in part.batches(self.carried, rows=self.rows, text=[self.entry.id]):
            low, high = np.searchsorted(wanted, (start, start + table.num_rows))
            taken.append(_plain(table.take(pa.array(wanted[low:high] - start))))
            start += table.num_rows
            if start > wanted[-1]:
                break
        return pa.concat_tables(taken).take(pa.array(where))


def _plain(table: pa.Table) -> pa.Table:
    """Return the identifiers as text and the magnitudes as numbers, whatever the file holds."""
    identifier, *magnitudes = table.columns
    return pa.table(
        [identifier.cast(pa.string()), *(_numbers(column) for column in magnitudes)], names=table.column_names
    )


def _numbers(column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """Return a column as numbers; text among them is the fault of its rows, and none."""
    if pa.types.is_string(column.type):
        column = pc.if_else(pc.match_substring_regex(column, DECIMAL), column, None)
    return column.cast(pa.float64())


class _Nearest:
    """The nearest counterpart of each source so far; of equally near ones that of the earlier partition."""

    def __init__(self, sources: int) -> None:
        self._separation = np.full(sources, np.inf)
        self._number, self._table, self._row = (np.full(sources, -1) for _ in range(3))
        self._tables: list[pa.Table] = []

    def take(self, sources: np.ndarray, found: _Found, number: int) -> None:
        """Take what the partition of that number has for some sources."""
        index, separation, columns = found
        if columns is None:
            return
        self._tables.append(columns)
        at = sources[index]
        earlier = (separation == self._separation[at]) & (number < self._number[at])
        nearer = (separation < self._separation[at]) | earlier
        at = at[nearer]
        self._separation[at], self._number[at] = separation[nearer], number
        self._table[at], self._row[at] = len(self._tables) - 1, np.flatnonzero(nearer)

    def counterparts(self, files: tuple[Path, ...], size: int, *, share: float, names: Sequence[str]) -> Counterparts:
        """Return them."""
        first = np.flatnonzero(self._table >= 0)
        kinds = [pa.string(), *[pa.float64()] * (len(names) - 1)]
        nothing = pa.table([pa.array([], kind) for kind in kinds], names=list(names))
        offsets = np.cumsum([0, *(table.num_rows for table in self._tables)])
        rows = offsets[self._table[first]] + self._row[first]
        columns = pa.concat_tables([*self._tables, nothing]).take(pa.array(rows))
        return Counterparts(first, self._separation[first], columns, files, size, share)
