"""De-duplication of a list of redshifts: one object observed twice, or standing in two merged lists.

Rows within a radius of each other are one object (`inzitu.sky.duplicates`). One of them is kept: the first by quality,
then by the survey's rank, then by row. Others merge into it where their redshifts agree with its own. Where one does
not, the rule that preferred the kept row settles it; if none did, the object is flagged, for nobody knows who is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from inzitu.errors import LimitFault
from inzitu.sky import cell_of, duplicates, usable
from inzitu.sky.crossmatch import check_radius

AGREEMENT = 0.01
"""Two redshifts agree when they differ by at most this times (1 + z)."""
MOST_PAIRS = 50_000_000
"""Neighbours in one list, beyond which it would not fit in memory to join them."""
_BASE_CELL = 58.6 * 3600
"""Size of a HEALPix cell of order 0 [arcsec]."""


class Verdict(StrEnum):
    """What became of a row."""

    ALONE = "alone"
    KEPT = "kept"
    """Other rows of the object agree with this one and merged into it."""
    KEPT_BY_QUALITY = "kept-by-quality"
    """Others disagree, but each of them is of lower quality, or else of a lower survey."""
    KEPT_BY_SURVEY = "kept-by-survey"
    """Others disagree, of the same quality but from surveys of lower rank."""
    DISPUTED = "disputed"
    """Others disagree, and no rule prefers this row: it is the first, no more."""
    MERGED = "merged"
    """Agrees with the row that is kept."""
    OVERRULED = "overruled"
    """Disagrees with the row that is kept, which a rule prefers, or has no redshift."""
    DISPUTES = "disputes"
    """Disagrees with the row that is kept, and no rule prefers either."""


@dataclass(frozen=True, slots=True)
class Merged:
    """Objects of a list.

    Attributes
    ----------
    kept
        For each row, the row that stands for its object.
    verdict
        What became of each row, a `Verdict`.
    """

    kept: np.ndarray
    verdict: np.ndarray

    @property
    def trusted(self) -> np.ndarray:
        """Return the rows to go on with: one an object, none disputed."""
        own = self.kept == np.arange(len(self.kept))
        return np.flatnonzero(own & (self.verdict != Verdict.DISPUTED))


def merge(
    ra: np.ndarray,
    dec: np.ndarray,
    z: np.ndarray,
    *,
    radius: float,
    agreement: float = AGREEMENT,
    quality: np.ndarray | None = None,
    survey: np.ndarray | None = None,
    priority: Sequence[str] = (),
) -> Merged:
    """Find the objects of a list, and which row stands for each.

    Parameters
    ----------
    ra, dec
        Positions [deg]; a row without one is alone.
    z
        Redshifts. NaN, infinity, and -1 or below (as some lists write -9) are none: that agrees with anything and is
        kept only where no other row has one.
    radius
        Rows this near are one object [arcsec].
    agreement
        Largest difference of redshifts that agree, in units of 1 + z.
    quality
        The larger the better; NaN counts as the worst.
    survey
        Name of the survey of each row.
    priority
        Names of surveys, the most trusted first; those not named come after.

    Raises
    ------
    ValueError
        The columns differ in length, or the radius or the agreement is out of range.
    LimitFault
        So many rows lie so near to each other that the list is not one of sources.
    """
    check_radius(radius)
    if not agreement >= 0:
        raise ValueError(f"The agreement {agreement} is out of range; give a part of 1 + z, such as {AGREEMENT}.")
    n = len(ra)
    z = np.where(np.isfinite(z) & (z > -1), z, np.nan)
    worth = np.zeros(n) if quality is None else np.nan_to_num(np.asarray(quality, dtype=np.float64), nan=-np.inf)
    rank = np.zeros(n, dtype=np.int64) if survey is None else _ranks(survey, priority)
    if not {len(dec), len(z), len(worth), len(rank)} == {n}:
        raise ValueError("Positions, redshifts, quality and survey must be columns of one length.")
    _check_crowding(ra, dec, radius)
    group = duplicates(ra, dec, radius)
    # Best first within each group; the first of each group is kept.
    order = np.lexsort((np.arange(n), rank, -worth, np.isnan(z), group))
    leads = np.concatenate([[True], np.diff(group[order]) != 0]) if n else np.empty(0, dtype=bool)
    kept = np.empty(n, dtype=np.int64)
    kept[order] = order[leads][np.cumsum(leads) - 1]
    return Merged(kept, _verdicts(kept, z, worth, rank, agreement))


def _check_crowding(ra: np.ndarray, dec: np.ndarray, radius: float) -> None:
    """Refuse positions of which so many are neighbours that their pairs would fill the memory."""
    good = np.flatnonzero(usable(ra, dec))
    # Rows at one and the same place are no pairs yet. Cells of twice the radius tell in little time whether it is
    # worth counting: a crowd may lie where four of them meet.
    places = np.unique(ra[good] + 1j * dec[good])
    order = int(np.clip(np.log2(_BASE_CELL / max(2 * radius, 1e-9)), 0, 29))
    cells = cell_of(places.real, places.imag, order)
    _, cell, counts = np.unique(cells, return_inverse=True, return_counts=True)
    if int((counts.astype(np.int64) ** 2).sum()) <= MOST_PAIRS / 4:
        return
    if (pairs := _neighbours(places.real, places.imag, radius)) > MOST_PAIRS:
        at = places[np.argmax(counts[cell])]
        raise LimitFault(
            f"The rows have {pairs:,} neighbours within {radius:g} arcsec; {MOST_PAIRS:,} are allowed. They crowd most "
            f"around ra {at.real:.5f}, dec {at.imag:.5f} deg. Ask for a smaller RADIUS, or send each source once."
        )


def _neighbours(ra: np.ndarray, dec: np.ndarray, radius: float) -> int:
    """Return how many others lie within the radius of each place, summed; none of them is held in memory."""
    from scipy.spatial import cKDTree  # takes a while to import, and few lists need it

    lon, lat = np.radians(ra), np.radians(dec)
    tree = cKDTree(np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1))
    return int(tree.count_neighbors(tree, 2 * np.sin(np.radians(radius / 3600) / 2))) - len(ra)


def _ranks(survey: np.ndarray, priority: Sequence[str]) -> np.ndarray:
    place = {name: rank for rank, name in enumerate(priority)}
    names, which = np.unique(np.asarray(survey, dtype=str), return_inverse=True)
    return np.array([place.get(str(name), len(place)) for name in names], dtype=np.int64)[which]


def _verdicts(kept: np.ndarray, z: np.ndarray, worth: np.ndarray, rank: np.ndarray, agreement: float) -> np.ndarray:
    n = len(kept)
    own = kept == np.arange(n)
    disagrees = np.abs(z - z[kept]) > agreement * (1 + z[kept])
    by_quality = disagrees & (worth < worth[kept])
    by_survey = disagrees & ~by_quality & (rank > rank[kept])
    disputes = disagrees & ~by_quality & ~by_survey
    verdict = np.full(n, Verdict.MERGED, dtype=object)
    verdict[by_quality | by_survey | np.isnan(z)] = Verdict.OVERRULED
    verdict[disputes] = Verdict.DISPUTES
    several = np.bincount(kept, minlength=n) > 1
    verdict[own & several], verdict[own & ~several] = Verdict.KEPT, Verdict.ALONE
    # The hardest case of an object's rows is its own: the later overwrites the earlier.
    for rows, word in (
        (by_quality, Verdict.KEPT_BY_QUALITY),
        (by_survey, Verdict.KEPT_BY_SURVEY),
        (disputes, Verdict.DISPUTED),
    ):
        verdict[kept[rows]] = word
    return verdict
