"""Crossmatch of two lists in files, each of which may be larger than memory.

Each list is read once, in batches, and put aside in zones of declination (`inzitu.sky.zones`); band after band is then
matched with the same band of the other list, wider by the radius, so that no pair across its edges is lost. What is put
aside stays in memory as long as the limit allows and goes to an unnamed file beside the output otherwise. The pairs are
put aside likewise, some at a time however many a band has, and written in the order of the first list's rows.

For lists in memory see `inzitu.sky.crossmatch`; it finds the same pairs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inzitu.archive.catalogues import look_like_hours
from inzitu.archive.pairs import PairSpool
from inzitu.archive.spool import Spool
from inzitu.archive.streams import Batch, position_batches
from inzitu.errors import LimitFault, ParameterFault
from inzitu.sky import Coverage
from inzitu.sky.crossmatch import BAND, check_radius, match_band, threads
from inzitu.sky.zones import HEIGHT, ZONES, Band, Zoned, bands, margin

type Progress = Callable[[float, float], None]
"""Called with what is done and what there is to do."""

MEMORY = 1 << 30
"""What a crossmatch may use, the libraries not counted [byte]."""
ROW_COST = 200
"""Memory that matching takes for a position, all copies and the grid counted, and for a pair on its way [byte]."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a crossmatch went through and found.

    Attributes
    ----------
    rows_a, rows_b
        Rows of each list.
    unusable_a, unusable_b
        Of these, rows without a usable position.
    outside
        Rows of the first list outside the coverage.
    pairs
        Pairs found.
    hours_a, hours_b
        The right ascensions look like hours, though they are taken for degrees.
    spilled
        What did not fit in memory and went to disk [byte].
    """

    rows_a: int
    rows_b: int
    unusable_a: int
    unusable_b: int
    outside: int
    pairs: int
    hours_a: bool
    hours_b: bool
    spilled: int

    def __str__(self) -> str:
        lost = self.unusable_a + self.unusable_b
        remarks = {
            f"; {self.outside:,} rows of the first list outside the coverage": self.outside,
            f"; {lost:,} rows without a usable position": lost,
            "; the right ascensions of the first list look like hours, state their unit": self.hours_a,
            "; the right ascensions of the second list look like hours, state their unit": self.hours_b,
        }
        found = f"{self.pairs:,} pairs of {self.rows_a:,} and {self.rows_b:,} rows"
        return found + "".join(remark for remark, holds in remarks.items() if holds)


def crossmatch_files(
    a: str | Path,
    b: str | Path,
    radius: float,
    out: str | Path,
    *,
    every: bool = False,
    moc: str | Path | None = None,
    columns_a: tuple[str, str] | None = None,
    columns_b: tuple[str, str] | None = None,
    unit_a: str | None = None,
    unit_b: str | None = None,
    frame_a: str | None = None,
    frame_b: str | None = None,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> Counts:
    """Write for each row of A the nearest row of B within a radius, or every one, as a Parquet file.

    Parameters
    ----------
    a, b
        The lists: Parquet (file, partitioned folder, HATS), FITS, CSV or VOTable.
    radius
        Search radius [arcsec], itself included.
    out
        File to write: row_a, row_b (from 0), separation [arcsec], sorted by row_a, then row_b.
    every
        Write all pairs instead of the nearest of each row of A.
    moc
        Leave out the rows of A outside this coverage.
    columns_a, columns_b
        Names of the columns with right ascension and declination, if they are not to be guessed.
    unit_a, unit_b
        Units of the positions, in place of what the lists say; hours are those of the right ascensions only.
    frame_a, frame_b
        "icrs", "galactic" or "fk4", in place of what the lists say.
    memory
        What may be used, the libraries not counted [byte].
    progress
        Told how much is done, out of 1.

    Raises
    ------
    TableFault
        A list cannot be read, or has no positions or no rows.
    LimitFault
        More rows lie about one declination than can be matched in this memory.
    ParameterFault
        The output cannot be written, or would replace what is read.
    ValueError
        The radius is out of range, or the MOC cannot be read.
    """
    check_radius(radius)
    out = Path(out)
    _check_output(out, *(Path(path) for path in (a, b, moc) if path is not None))
    coverage = None if moc is None else Coverage.read(moc)
    tell = progress or _tell_nobody
    with ExitStack() as stack:
        spools = [stack.enter_context(_zone_spool(out.parent, memory // 4)) for _ in range(2)]
        pool = stack.enter_context(ThreadPoolExecutor(2))
        reads = _Halves(tell)
        lists = (
            position_batches(Path(a), columns=columns_a, unit=unit_a, frame=frame_a),
            position_batches(Path(b), columns=columns_b, unit=unit_b, frame=frame_b),
        )
        futures = [
            pool.submit(_put_in_zones, lists[0], spools[0], coverage, reads.of(0)),
            pool.submit(_put_in_zones, lists[1], spools[1], None, reads.of(1)),
        ]
        first, second = (future.result() for future in futures)
        pairs = stack.enter_context(PairSpool(out.parent, rows=first.rows, limit=memory // 4))
        for fraction in _match(spools[0], spools[1], pairs, radius, every=every, memory=memory // 4):
            tell(0.5 + 0.5 * fraction, 1.0)
        pairs.write(out)
        spilled = spools[0].spilled + spools[1].spilled + pairs.spilled
        return Counts(
            rows_a=first.rows,
            rows_b=second.rows,
            unusable_a=first.unusable,
            unusable_b=second.unusable,
            outside=first.outside,
            pairs=len(pairs),
            hours_a=first.hours and unit_a is None,
            hours_b=second.hours and unit_b is None,
            spilled=spilled,
        )


def _check_output(out: Path, *read: Path) -> None:
    """Refuse, before anything is read, an output that cannot be written or would replace what is read."""
    if out.is_dir():
        raise ParameterFault(f"{out} is a folder; name a file for the pairs.")
    for path in read:
        if out.resolve().is_relative_to(path.resolve()):
            raise ParameterFault(
                f"The pairs would replace {path}, or lie in it; name another file for them than {out}."
            )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
    except (FileExistsError, NotADirectoryError, PermissionError, FileNotFoundError) as error:
        raise ParameterFault(f"{out} cannot be written: {error.strerror}; name a file in another folder.") from error


@dataclass(frozen=True, slots=True)
class _Read:
    """What was found while reading a list."""

    rows: int
    unusable: int
    outside: int
    hours: bool


def _put_in_zones(
    batches: Iterator[Batch], spool: Spool, coverage: Coverage | None, tell: Callable[[float], None]
) -> _Read:
    """Read a list once and put its positions aside, those outside the coverage left out."""
    rows = unusable = outside = 0
    hours = True
    for batch in batches:
        ra = batch.ra
        hours = hours and look_like_hours(ra, batch.dec)
        unusable += int(np.isnan(ra).sum())
        if coverage is not None:
            inside = coverage.contains(ra, batch.dec)
            outside += int((~inside & ~np.isnan(ra)).sum())
            ra = np.where(inside, ra, np.nan)
        zoned = Zoned.of(ra, batch.dec, first_row=rows)
        spool.append(zoned.starts, zoned.ra, zoned.dec, zoned.rows)
        rows += len(ra)
        tell(batch.fraction)
    return _Read(rows, unusable, outside, hours)


def _match(
    first: Spool, second: Spool, pairs: PairSpool, radius: float, *, every: bool, memory: int
) -> Iterator[float]:
    """Put the pairs of each band aside; yield how much of the sky is done with it."""
    wider = margin(radius)
    # As many pairs as a band has rows are on their way at a time.
    most = memory // (2 * ROW_COST if every else ROW_COST)
    workers = min(max(2, threads()), most // _crowd(first.counts, second.counts, wider, most))
    # From disk, a band costs a few reads of each run, so there larger ones pay.
    wanted = 5 * BAND if first.spilled or second.spilled else BAND
    most = min(wanted, most // workers)

    def match(band: tuple[int, int]) -> float:
        low, high = band
        here, there = Band(*first.between(low, high)), Band(*second.between(low - wider, high + wider))
        for found in match_band(here, there, radius, every=every, most=most):
            pairs.append(found)
        return high / ZONES

    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from pool.map(match, bands(first.counts + second.counts, most))
        finally:
            pool.shutdown(cancel_futures=True)


def _crowd(first: np.ndarray, second: np.ndarray, wider: int, most: int) -> int:
    """Return how many rows lie in the fullest zone, with those of the second list within the radius of it."""
    zones, before = np.arange(ZONES), np.concatenate([[0], np.cumsum(second)])
    near = first + before[np.minimum(zones + wider + 1, ZONES)] - before[np.maximum(zones - wider, 0)]
    zone = int(np.argmax(near))
    if near[zone] > most:
        raise LimitFault(
            f"{near[zone]:,} rows lie within {(wider + 1) * HEIGHT:.0f} arcsec of declination "
            f"{zone * HEIGHT / 3600 - 90:.3f}, where the memory allowed is enough for {most:,}; "
            f"allow {near[zone] / max(most, 1):.1f} times as much, or leave out placeholders such as (0, 0)."
        )
    return max(int(near[zone]), 1)


def _zone_spool(folder: Path, limit: int) -> Spool:
    return Spool(folder, buckets=ZONES, types=(np.float64, np.float64, np.int64), limit=limit)


def _tell_nobody(_done: float, _total: float) -> None:
    """Stand in for a progress bar."""


class _Halves:
    """Progress of two lists read at once, which together are half of the work."""

    def __init__(self, tell: Progress) -> None:
        self._tell = tell
        self._fractions = [0.0, 0.0]

    def of(self, which: int) -> Callable[[float], None]:
        def tell(fraction: float) -> None:
            self._fractions[which] = fraction
            self._tell(sum(self._fractions) / 4, 1.0)

        return tell
