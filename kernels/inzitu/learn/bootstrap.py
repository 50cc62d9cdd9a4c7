"""Confidence intervals by resampling rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its confidence interval.

    Attributes
    ----------
    value
        Of all rows.
    low, high
        Ends of the interval.
    error
        Standard deviation over the resamplings.
    """

    value: float
    low: float
    high: float
    error: float


def bootstrap(
    statistic: Callable[..., float],
    *columns: np.ndarray,
    rng: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.68,
) -> Interval:
    """Give a statistic of rows with its percentile interval (Efron 1979, Ann. Stat. 7, 1).

    Parameters
    ----------
    statistic
        A number of the columns.
    columns
        Arrays of one length; the rows are drawn together.
    rng
        Where the draws come from.
    resamples
        How many.
    level
        Probability of the interval.

    Raises
    ------
    ValueError
        No rows, or columns of unequal length.
    """
    lengths = {len(column) for column in columns}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"A bootstrap needs columns of one length, above zero; got {sorted(lengths)}.")
    (n,) = lengths
    draws = np.empty(resamples)
    for turn in range(resamples):
        rows = rng.integers(0, n, n)
        draws[turn] = statistic(*(column[rows] for column in columns))
    low, high = np.quantile(draws, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(statistic(*columns)), float(low), float(high), float(np.std(draws)))
