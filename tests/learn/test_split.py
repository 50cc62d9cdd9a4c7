from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy_healpix import HEALPix  # type: ignore[import-untyped]  # it ships no types
from hypothesis import given, settings
from hypothesis import strategies as st

from inzitu.learn.split import SplitError, folds_by_cell, split_by_cell


def sky(rows: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 360, rows), np.rad2deg(np.arcsin(rng.uniform(-1, 1, rows)))


def cells(ra: np.ndarray, dec: np.ndarray, order: int) -> np.ndarray:
    return np.asarray(HEALPix(2**order, order="nested").lonlat_to_healpix(ra * u.deg, dec * u.deg))


def test_no_cell_is_on_two_sides() -> None:
    ra, dec = sky(3000)
    split = split_by_cell(ra, dec, seed=0, order=3)
    for cell in np.unique(cells(ra, dec, 3)):
        assert len(set(split[cells(ra, dec, 3) == cell])) == 1


def test_the_shares_are_those_asked_for() -> None:
    ra, dec = sky(20_000)
    shares = np.bincount(split_by_cell(ra, dec, seed=3), minlength=3) / 20_000
    np.testing.assert_allclose(shares, (0.8, 0.1, 0.1), atol=0.005)


def test_the_seed_alone_decides() -> None:
    ra, dec = sky(500)
    assert np.array_equal(split_by_cell(ra, dec, seed=5), split_by_cell(ra, dec, seed=5))
    assert not np.array_equal(split_by_cell(ra, dec, seed=5), split_by_cell(ra, dec, seed=6))


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(3, 60), seed=st.integers(0, 1000))
def test_every_part_with_a_share_gets_a_cell(rows: int, seed: int) -> None:
    ra, dec = np.arange(rows) * 5.0, np.zeros(rows)
    assert set(split_by_cell(ra, dec, seed=seed)) == {0, 1, 2}
    assert set(split_by_cell(ra, dec, seed=seed, fractions=(0.9, 0.1, 0.0))) == {0, 1}


def test_each_row_is_in_one_fold_of_about_the_same_size() -> None:
    ra, dec = sky(5000)
    sizes = np.bincount(folds_by_cell(ra, dec, seed=0))
    assert len(sizes) == 10
    assert sizes.min() > 480


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.2, -0.1, -0.1)])
def test_shares_that_are_no_shares_are_refused(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(SplitError, match="sum to 1"):
        split_by_cell(*sky(10), seed=0, fractions=fractions)


def test_too_few_cells_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(SplitError, match="1 cells of order 6, too few for 3 parts: take a higher order"):
        split_by_cell(np.full(9, 10.0), np.full(9, 10.0), seed=0)
    with pytest.raises(SplitError, match="10 folds of 1 cells"):
        folds_by_cell(np.full(9, 10.0), np.full(9, 10.0), seed=0)
