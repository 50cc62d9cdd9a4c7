"""The crossmatch against a k-d tree over all positions and astropy's separations, over the whole sphere."""

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy.spatial import cKDTree

from inzitu.sky import crossmatch
from inzitu.sky.grid import unit_vectors
from inzitu.sky.zones import HEIGHT

type Positions = tuple[np.ndarray, np.ndarray]


def vectors(positions: Positions) -> np.ndarray:
    lon, lat = np.radians(positions)
    return np.column_stack([np.cos(lon) * np.cos(lat), np.sin(lon) * np.cos(lat), np.sin(lat)])


def chord(radius: float) -> float:
    return float(2 * np.sin(np.radians(radius / 3600) / 2))


def scattered(rng: np.random.Generator, n: int, radius: float) -> Positions:
    """Positions where seams are: the poles, right ascension zero, the edges of zones, and clumps about them."""
    heights = np.array([-90.0, 90.0, 0.0, 45.0, HEIGHT / 3600, -41.8103148957786])
    dec = rng.choice(heights, n) + rng.normal(0, radius / 3600, n)
    dec = np.where(rng.random(n) < 0.2, np.degrees(np.arcsin(rng.uniform(-1, 1, n))), dec)
    wide = rng.normal(0, 2 * radius / 3600, n) / np.maximum(np.cos(np.radians(dec)), 1e-3)
    ra = rng.choice([0.0, 90.0, 180.0], n) + np.where(np.abs(dec) > 90, wide + 180, wide)
    return ra % 360, np.degrees(np.arcsin(np.sin(np.radians(dec))))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), radius=st.sampled_from([0.01, 1.5, 30.0, 60.0, 3600.0, 200_000.0]))
def test_all_pairs_are_those_of_a_k_d_tree_also_at_poles_wrap_and_zone_edges(seed: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    (ra1, dec1), (ra2, dec2) = (scattered(rng, n, radius) for n in (150, 120))
    near = cKDTree(vectors((ra1, dec1))).query_ball_tree(cKDTree(vectors((ra2, dec2))), chord(radius))
    pairs = crossmatch(ra1, dec1, ra2, dec2, radius, every=True)
    expected = [(i, j) for i, neighbours in enumerate(near) for j in sorted(neighbours)]
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == expected


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), radius=st.sampled_from([0.01, 1.5, 60.0, 3600.0, 200_000.0]))
def test_the_nearest_is_the_trees_nearest(seed: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    (ra1, dec1), (ra2, dec2) = (scattered(rng, n, radius) for n in (200, 150))
    distance, row = cKDTree(vectors((ra2, dec2))).query(vectors((ra1, dec1)))
    near = np.flatnonzero(distance <= chord(radius))
    pairs = crossmatch(ra1, dec1, ra2, dec2, radius)
    assert np.array_equal(pairs.first, near)
    # At a pole many are equally near but for the last bit, so it is the distance that must agree.
    there = np.linalg.norm(vectors((ra1, dec1))[near] - vectors((ra2, dec2))[pairs.second], axis=1)
    assert np.allclose(there, distance[near], rtol=0, atol=1e-15)
    assert np.mean(pairs.second == row[near]) > 0.5


def test_separations_are_astropys() -> None:
    rng = np.random.default_rng(1)
    (ra1, dec1), (ra2, dec2) = (scattered(rng, 400, 5.0) for _ in range(2))
    pairs = crossmatch(ra1, dec1, ra2, dec2, 10.0, every=True)
    assert len(pairs) > 100
    one, two = SkyCoord(ra1, dec1, unit="deg"), SkyCoord(ra2, dec2, unit="deg")
    expected = one[pairs.first].separation(two[pairs.second]).to_value(units.arcsec)
    assert np.allclose(pairs.separation, expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=200, deadline=None)
@given(
    ra=st.floats(0, 360),
    dec=st.floats(-90, 90),
    angle=st.floats(0, 360),
    offset=st.floats(0, 0.999),
    radius=st.floats(0.01, 7200),
)
def test_a_neighbour_within_the_radius_is_found_wherever_it_is(
    ra: float, dec: float, angle: float, offset: float, radius: float
) -> None:
    # astropy computes an offset near the pole to a hundredth of a milliarcsecond only, so the truth is its separation.
    here = SkyCoord(ra, dec, unit="deg")
    there = here.directional_offset_by(angle * units.deg, offset * radius * units.arcsec)
    pairs = crossmatch(np.array([ra]), np.array([dec]), np.array([there.ra.deg]), np.array([there.dec.deg]), radius)
    assert len(pairs) == 1
    assert pairs.separation[0] == pytest.approx(here.separation(there).arcsec, abs=1e-9)


def test_a_radius_of_nothing_finds_equal_places_and_every_name_of_a_pole() -> None:
    ra, dec = np.array([10.0, 10.0, 0.0, 77.0]), np.array([5.0, 5.000001, 90.0, 90.0])
    pairs = crossmatch(ra, dec, ra, dec, 0.0, every=True)
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [
        *((0, 0), (1, 1), (2, 2)),
        *((2, 3), (3, 2), (3, 3)),
    ]


def test_rows_without_a_usable_position_match_nothing_and_keep_the_numbers_of_the_others() -> None:
    ra = np.array([np.nan, 10.0, np.inf, 10.0, -999.0, 400.0, 10.0])
    dec = np.array([10.0, np.nan, 10.0, 95.0, -999.0, 10.0, 10.0])
    pairs = crossmatch(ra, dec, ra, dec, 3600.0, every=True)
    assert pairs.first.tolist() == [6]
    assert pairs.second.tolist() == [6]


def test_negative_right_ascensions_are_those_of_the_other_convention() -> None:
    pairs = crossmatch(np.array([-0.5]), np.array([3.0]), np.array([359.5]), np.array([3.0]), 0.001)
    assert len(pairs) == 1


def test_of_equally_near_neighbours_the_lowest_row_is_taken() -> None:
    same = np.full(5, 30.0)
    assert crossmatch(same[:1], same[:1], same, same, 1.0).second.tolist() == [0]
    east_and_west = crossmatch(np.array([0.0]), np.array([0.0]), np.array([0.001, -0.001]), np.zeros(2), 10.0)
    assert east_and_west.second.tolist() == [0]


def test_half_a_million_rows_at_one_placeholder_position_do_not_take_for_ever() -> None:
    zero = np.zeros(500_000)
    assert crossmatch(zero, zero, zero, zero, 1.0).second.max() == 0


@pytest.mark.parametrize("radius", [-1.0, np.nan, np.inf, 1e9])
def test_a_radius_that_means_nothing_is_refused_with_the_limit(radius: float) -> None:
    one = np.array([1.0])
    with pytest.raises(ValueError, match=r"from 0 to 648000 arcsec"):
        crossmatch(one, one, one, one, radius)


def test_columns_of_different_length_are_refused() -> None:
    # In tests the annotations are checked as well, and see it first.
    with pytest.raises((ValueError, TypeCheckError)):
        crossmatch(np.array([1.0]), np.array([1.0, 2.0]), np.array([1.0]), np.array([1.0]), 1.0)


def test_empty_lists_give_no_pairs() -> None:
    none, one = np.empty(0), np.array([1.0])
    assert len(crossmatch(none, none, one, one, 1.0)) == 0
    assert len(crossmatch(one, one, none, none, 1.0, every=True)) == 0


def test_unit_vectors_are_right_to_the_last_bit_or_two_and_poles_are_poles() -> None:
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(-180, 360, 100_000), rng.uniform(-90, 90, 100_000)
    half_turn = np.longdouble("3.14159265358979323846264338327950288")
    lon, lat = (half_turn * angle.astype(np.longdouble) / 180 for angle in (ra, dec))
    truth = np.column_stack([np.cos(lon) * np.cos(lat), np.sin(lon) * np.cos(lat), np.sin(lat)])
    assert np.abs(unit_vectors(ra, dec) - truth).max() < 3e-16
    corners = unit_vectors(np.array([0.0, 90.0, 180.0, 270.0, 360.0, 77.0]), np.array([0.0, 0.0, 0.0, 0.0, 0.0, -90.0]))
    assert corners.tolist() == [[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0], [1, 0, 0], [0, 0, -1]]
