"""Cutouts to files: sets larger than memory, cut group by group, resumed where they stopped."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from inzitu.archive.unfinished import Unfinished, alone, check_place
from inzitu.errors import ParameterFault
from inzitu.hips import RESAMPLINGS, Cutouts, Status, Survey, TileError, TileRead, cutouts, groups
from inzitu.sky.crossmatch import threads as processors

GROUP_BYTES = 64 << 20
"""Most bytes of a group's pixels."""

type Progress = Callable[[int, int], None]
"""Called with the rows done and the rows in all."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of it."""

    rows: int
    statuses: dict[str, int]
    """Rows by their status, the worst of their bands."""
    resumed: int
    """Rows that an earlier run had cut."""
    tiles: int
    bytes_read: int
    errors: tuple[str, ...] = field(repr=False)
    """A message for each tile that could not be used."""


def cut_to_file(
    surveys: Sequence[Survey],
    ra: Float[np.ndarray, " n"],
    dec: Float[np.ndarray, " n"],
    out: str | Path,
    *,
    size: int,
    scale: float,
    resampling: str = "bilinear",
    angle: float = 0.0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Cut stamps out of surveys into a file.

    Parameters
    ----------
    surveys
        One a band, in the order of the output.
    ra, dec
        Centres, ICRS [deg].
    out
        `.npz` (pixels [n, y, x, band], status [n], and more), `.npy` (the pixels; the rest goes to `<out>.rows.npz`) or
        `.zarr` (a group with the same arrays, compressed).
    size, scale
        Of the stamps [pixel], [arcsec].
    resampling
        "nearest", "bilinear" or "area".
    angle
        Position angle of the y axis, from north through east [deg].
    threads
        That cut groups of rows side by side; as many as there are processors if not given. Fewer where there is no
        memory for the stamps of all.
    progress
        Called after each group.

    Raises
    ------
    ParameterFault
        A stamp takes more memory than there is, the output's name has another ending, or in its place is something of
        another kind, an unfinished run of another request, or another process at work.
    ValueError
        A parameter is out of its limits.
    OSError
        The disk has no room for the output.
    """
    out = Path(out)
    check_place(out)
    asked = _Asked(tuple(surveys), ra, dec, size=size, scale=scale, resampling=resampling, angle=angle)
    # Cutting nothing refuses what cannot be cut, before anything is begun that a right request would trip over.
    asked.cut(np.empty(0, np.int64))
    threads = asked.side_by_side(threads or processors())
    read = _Read()
    with alone(folder := out.with_name(out.name + ".part")):
        part = Unfinished.open(folder, asked.words, (len(ra), size, size, len(surveys)))
        undone = part.undone
        # Closed in any case: else an interruption would have to wait for all that is left.
        with closing(_in_groups(asked, part, undone, threads)) as dealt:
            for count, group in dealt:
                read.take(group)
                if progress:
                    progress(len(ra) - len(undone) + count, len(ra))
        worst = part.status.max(axis=1)
        part.finish(out, ra, dec)
    return Summary(
        rows=len(ra),
        statuses={Status(value).word: count for value, count in sorted(Counter(worst.tolist()).items())},
        resumed=len(ra) - len(undone),
        tiles=len(read.tiles),
        bytes_read=read.bytes,
        errors=tuple(read.errors.values()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """The stamps that are wanted."""

    surveys: tuple[Survey, ...]
    ra: Float[np.ndarray, " n"]
    dec: Float[np.ndarray, " n"]
    size: int
    scale: float
    resampling: str
    angle: float

    @property
    def words(self) -> dict[str, object]:
        """What an unfinished run must have been asked to be gone on with."""
        positions = hashlib.sha256(np.stack([self.ra, self.dec]).astype("<f8").tobytes()).hexdigest()
        geometry = {name: getattr(self, name) for name in ("size", "scale", "resampling", "angle")}
        return {
            "surveys": [survey.uri for survey in self.surveys],
            "edition of a survey": [survey.edition for survey in self.surveys],
            "positions": positions,
            "rows": len(self.ra),
        } | geometry

    def groups(self, rows: Integer[np.ndarray, " m"]) -> list[Integer[np.ndarray, " k"]]:
        """Deal rows out in groups of neighbours, of bounded size."""
        most = max(1, min(1024, GROUP_BYTES // (4 * self.size**2 * len(self.surveys))))
        dealt = groups(self.surveys, self.ra[rows], self.dec[rows], size=self.size, scale=self.scale, most=most)
        return [rows[group] for group in dealt]

    def side_by_side(self, threads: int) -> int:
        """Return how many of the threads can have the memory that a stamp takes; none is a fault."""
        need = self.size**2 * (RESAMPLINGS[self.resampling] + 4 * len(self.surveys))
        for many in range(threads, 0, -1):
            if _can_have(many * need):
                return many
        raise ParameterFault(
            f"A stamp of {self.size} x {self.size} pixels takes {need / 1e9:.2g} GB of memory while it is cut, more "
            "than this process can have; ask for a smaller size, or allow it more."
        )

    def cut(self, rows: Integer[np.ndarray, " m"]) -> Cutouts:
        """Cut the stamps of some rows."""
        return cutouts(
            self.surveys,
            self.ra[rows],
            self.dec[rows],
            size=self.size,
            scale=self.scale,
            angle=self.angle,
            resampling=self.resampling,
            digests=False,
        )


def _can_have(memory: int) -> bool:
    """Tell whether this process would be given so many bytes."""
    try:
        np.empty(memory, np.uint8)
    except MemoryError:
        return False
    return True


@dataclass(slots=True)
class _Read:
    """What was read for the groups that are done."""

    tiles: set[str] = field(default_factory=set)
    bytes: int = 0
    errors: dict[str, str] = field(default_factory=dict)

    def take(self, group: _Group) -> None:
        """Count what a group read."""
        self.tiles.update(read.uri for read in group.tiles)
        self.bytes += sum(read.bytes for read in group.tiles)
        self.errors |= {error.uri: str(error) for error in group.errors}


class _Group(NamedTuple):
    """A group that is cut and stored: its pixels are on disk, and not here."""

    rows: int
    tiles: tuple[TileRead, ...]
    errors: tuple[TileError, ...]


def _in_groups(
    asked: _Asked, part: Unfinished, undone: Integer[np.ndarray, " m"], threads: int
) -> Generator[tuple[int, _Group]]:
    """Cut and store the rows group by group, side by side; yield how many are done, and what each group read."""

    def cut(rows: Integer[np.ndarray, " k"]) -> _Group:
        stamps = asked.cut(rows)
        part.store(rows, stamps)
        return _Group(len(rows), stamps.tiles, stamps.errors)

    done = 0
    with ThreadPoolExecutor(threads) as pool:
        try:
            for future in as_completed([pool.submit(cut, rows) for rows in asked.groups(undone)]):
                group = future.result()
                done += group.rows
                yield done, group
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
