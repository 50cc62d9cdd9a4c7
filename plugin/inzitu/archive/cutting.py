"""Cutouts to files: sets larger than memory, cut group by group, resumed where they stopped."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer

from inzitu.archive.unfinished import Unfinished
from inzitu.errors import ParameterFault
from inzitu.hips import Status, Survey, TileError, TileRead, cutouts, groups
from inzitu.sky.crossmatch import threads as processors

GROUP_BYTES = 64 << 20
"""Most bytes of a group's pixels."""
SUFFIXES = (".npz", ".npy", ".zarr")

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
        That cut groups of rows side by side; as many as there are processors if not given.
    progress
        Called after each group.

    Raises
    ------
    ParameterFault
        The output's name has another ending, or an unfinished run of another request is in its place.
    ValueError
        A parameter is out of its limits.
    OSError
        The disk has no room for the output.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise ParameterFault(f"{out.name} must end in one of {', '.join(SUFFIXES)}.")
    positions = hashlib.sha256(np.stack([ra, dec]).astype("<f8").tobytes()).hexdigest()
    request = {"surveys": [survey.uri for survey in surveys], "positions": positions, "rows": len(ra)}
    request |= {"size": size, "scale": scale, "resampling": resampling, "angle": angle}
    # Cutting nothing refuses what cannot be cut, before anything is begun that a right request would trip over.
    cutouts(surveys, ra[:0], dec[:0], size=size, scale=scale, angle=angle, resampling=resampling, digests=False)
    part = Unfinished.open(out.with_name(out.name + ".part"), request, (len(ra), size, size, len(surveys)))
    undone = part.undone
    most = max(1, min(1024, GROUP_BYTES // (4 * size * size * len(surveys))))
    dealt = groups(surveys, ra[undone], dec[undone], size=size, scale=scale, most=most)

    def cut(rows: Integer[np.ndarray, " m"]) -> tuple[int, tuple[TileRead, ...], tuple[TileError, ...]]:
        stamps = cutouts(
            surveys,
            ra[rows],
            dec[rows],
            size=size,
            scale=scale,
            angle=angle,
            resampling=resampling,
            digests=False,
        )
        part.store(rows, stamps)
        return len(rows), stamps.tiles, stamps.errors

    done, tiles, bytes_read, errors = len(ra) - len(undone), set[str](), 0, dict[str, str]()
    with ThreadPoolExecutor(threads or processors()) as pool:
        try:
            for future in as_completed([pool.submit(cut, undone[rows]) for rows in dealt]):
                count, reads, failed = future.result()
                done, bytes_read = done + count, bytes_read + sum(read.bytes for read in reads)
                tiles.update(read.uri for read in reads)
                errors |= {error.uri: str(error) for error in failed}
                if progress:
                    progress(done, len(ra))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    worst = part.status.max(axis=1)
    part.finish(out, ra, dec)
    return Summary(
        rows=len(ra),
        statuses={Status(value).word: count for value, count in sorted(Counter(worst.tolist()).items())},
        resumed=len(ra) - len(undone),
        tiles=len(tiles),
        bytes_read=bytes_read,
        errors=tuple(errors.values()),
    )
