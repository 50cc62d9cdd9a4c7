"""Training, validation and test rows by sky cell, so that neighbours on the sky are never on two sides.

Neighbouring sources share the seeing, the calibration and often a spectroscopic plate; a split by row leaks all that.
"""

from __future__ import annotations

import enum

import numpy as np
from jaxtyping import Float, Int8, UInt64

from inzitu.sky import cell_of


class Part(enum.IntEnum):
    """What a row is for."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


class SplitError(ValueError):
    """The rows cannot be split so."""


def split_by_cell(
    ra: Float[np.ndarray, " n"],
    dec: Float[np.ndarray, " n"],
    *,
    seed: int,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    order: int = 6,
) -> Int8[np.ndarray, " n"]:
    """Say for each row which `Part` it belongs to; all rows of a cell belong to one.

    Cells are dealt in a random order, each to the part that is furthest below its share. So the shares hold as well as
    the sizes of the cells allow, and a part with a share gets a cell while there are cells.

    Parameters
    ----------
    ra, dec
        Positions, ICRS [deg].
    seed
        Seed of the order in which cells are dealt.
    fractions
        Shares of training, validation and test rows; they sum to 1.
    order
        HEALPix order of the cells; 6 is 0.9 degrees wide.

    Raises
    ------
    SplitError
        Shares that do not sum to 1, or fewer cells than parts with a share.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6 or len(fractions) != len(Part):
        raise SplitError(f"the fractions {fractions} must be three shares, none negative, that sum to 1")
    cells, cell, sizes = np.unique(cell_of(ra, dec, order), return_inverse=True, return_counts=True)
    if len(cells) < np.count_nonzero(fractions):
        raise SplitError(
            f"{len(ra)} rows lie in {len(cells)} cells of order {order}, too few for {np.count_nonzero(fractions)} "
            f"parts: take a higher order or fewer parts"
        )
    part = _dealt(sizes, np.asarray(fractions), np.random.default_rng(seed))
    return part[cell]


def folds_by_cell(
    ra: Float[np.ndarray, " n"], dec: Float[np.ndarray, " n"], *, seed: int, folds: int = 10, order: int = 6
) -> Int8[np.ndarray, " n"]:
    """Number each row's fold for cross-validation; all rows of a cell are in one fold."""
    cells: UInt64[np.ndarray, " c"]
    cells, cell, sizes = np.unique(cell_of(ra, dec, order), return_inverse=True, return_counts=True)
    if not 2 <= folds <= min(len(cells), 127):
        raise SplitError(f"{folds} folds of {len(cells)} cells of order {order}: take 2 to {min(len(cells), 127)}")
    return _dealt(sizes, np.full(folds, 1 / folds), np.random.default_rng(seed))[cell]


def _dealt(sizes: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> Int8[np.ndarray, " c"]:
    part = np.empty(len(sizes), np.int8)
    filled = np.zeros(len(shares))
    wanted = shares * sizes.sum()
    for turn, cell in enumerate(rng.permutation(len(sizes))):
        # First one cell each, the largest share last, so that no part is empty; then wherever most is missing.
        waiting = (filled == 0) & (shares > 0)
        least = turn >= len(sizes) - np.count_nonzero(waiting)
        lack = np.where(waiting, wanted, -np.inf) if least else wanted - filled
        part[cell] = np.argmax(lack)
        filled[part[cell]] += sizes[cell]
    return part
