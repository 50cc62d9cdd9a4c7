import numpy as np

from inzitu.sky import duplicates


def test_rows_joined_by_a_chain_of_neighbours_are_one_group() -> None:
    ra = np.array([50.0, 10.0, 10.0, 200.0, 10.0])
    dec = np.array([0.0, 0.0, 1.0 / 3600, 0.0, 2.0 / 3600])
    assert duplicates(ra, dec, 1.5).tolist() == [0, 1, 1, 3, 1]


def test_rows_without_a_position_are_alone() -> None:
    ra, dec = np.array([np.nan, np.nan, 1.0, 1.0, 400.0, 400.0]), np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    assert duplicates(ra, dec, 1.5).tolist() == [0, 1, 2, 2, 4, 5]


def test_groups_cross_right_ascension_zero_and_the_pole() -> None:
    ra, dec = np.array([359.9999, 0.0001, 0.0, 180.0]), np.array([0.0, 0.0, 89.9999, 89.9999])
    assert duplicates(ra, dec, 1.5).tolist() == [0, 0, 2, 2]


def test_a_hundred_thousand_equal_rows_are_one_group() -> None:
    same = np.full(100_000, 7.0)
    assert not duplicates(same, same, 1.5).any()


def test_an_empty_list_has_no_groups() -> None:
    assert duplicates(np.empty(0), np.empty(0), 1.5).tolist() == []
