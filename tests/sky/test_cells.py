import numpy as np
import pytest
from cdshealpix.nested import healpix_to_lonlat

from inzitu.sky import cell29, cell_of, usable


@pytest.mark.parametrize("order", [0, 3, 13, 29])
def test_the_centre_of_a_cell_lies_in_it(order: int) -> None:
    cells = np.random.default_rng(0).integers(0, 12 * 4**order, 1000).astype(np.uint64)
    lon, lat = healpix_to_lonlat(cells, order)
    assert np.array_equal(cell_of(lon.deg, lat.deg, order), cells)


def test_the_cell_of_order_29_lies_inside_those_of_lower_order() -> None:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(-180, 360, 1000), np.degrees(np.arcsin(rng.uniform(-1, 1, 1000)))
    assert np.array_equal(cell29(ra, dec) >> (2 * 22), cell_of(ra, dec, 7).astype(np.int64))


def test_a_row_without_a_usable_position_lies_in_no_cell() -> None:
    ra, dec = np.array([np.nan, 10.0, np.inf, -999.0, 361.0, 0.0]), np.array([0.0, 90.5, 0.0, 0.0, 0.0, -np.inf])
    assert cell29(ra, dec).tolist() == [-1] * 6
    assert not usable(ra, dec).any()


def test_cell_of_names_the_first_row_it_cannot_place() -> None:
    with pytest.raises(ValueError, match=r"Row 1 has no usable position \(ra 5.0, dec 91.0\)"):
        cell_of(np.array([5.0, 5.0]), np.array([5.0, 91.0]), 3)


def test_an_order_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="order 30 is out of range"):
        cell_of(np.array([5.0]), np.array([5.0]), 30)


def test_no_positions_have_no_cells() -> None:
    assert len(cell_of(np.empty(0), np.empty(0), 5)) == 0
