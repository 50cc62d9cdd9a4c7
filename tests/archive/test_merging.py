"""De-duplication by rule: who is kept, and what becomes of the others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inzitu.archive import merging
from inzitu.archive.merging import Verdict, merge
from inzitu.errors import LimitFault


def same_place(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(n, 150.0), np.full(n, 2.0)


def test_agreeing_rows_merge_into_the_first() -> None:
    merged = merge(*same_place(3), np.array([3.0, 3.01, 2.99]), radius=1.5)
    assert merged.kept.tolist() == [0, 0, 0]
    assert merged.verdict.tolist() == [Verdict.KEPT, Verdict.MERGED, Verdict.MERGED]
    assert merged.trusted.tolist() == [0]


def test_disagreeing_rows_without_a_rule_are_disputed_and_not_trusted() -> None:
    merged = merge(*same_place(2), np.array([0.5, 3.0]), radius=1.5)
    assert merged.verdict.tolist() == [Verdict.DISPUTED, Verdict.DISPUTES]
    assert merged.trusted.tolist() == []


def test_the_better_quality_is_kept_and_overrules() -> None:
    merged = merge(*same_place(3), np.array([0.5, 3.0, 3.01]), radius=1.5, quality=np.array([2.0, 4.0, np.nan]))
    assert merged.kept.tolist() == [1, 1, 1]
    assert merged.verdict.tolist() == [Verdict.OVERRULED, Verdict.KEPT_BY_QUALITY, Verdict.MERGED]
    assert merged.trusted.tolist() == [1]


def test_of_equal_quality_the_survey_named_first_is_kept() -> None:
    surveys = np.array(["2dF", "SDSS", "elsewhere"])
    merged = merge(*same_place(3), np.array([0.5, 3.0, 1.0]), radius=1.5, survey=surveys, priority=["SDSS", "2dF"])
    assert merged.kept.tolist() == [1, 1, 1]
    assert merged.verdict.tolist() == [Verdict.OVERRULED, Verdict.KEPT_BY_SURVEY, Verdict.OVERRULED]


def test_one_dispute_is_enough_whatever_else_was_settled() -> None:
    merged = merge(*same_place(3), np.array([3.0, 0.5, 1.0]), radius=1.5, quality=np.array([4.0, 4.0, 1.0]))
    assert merged.verdict.tolist() == [Verdict.DISPUTED, Verdict.DISPUTES, Verdict.OVERRULED]


def test_a_row_without_redshift_is_kept_only_where_no_other_has_one() -> None:
    merged = merge(*same_place(2), np.array([np.nan, 3.0]), radius=1.5, quality=np.array([9.0, 1.0]))
    assert merged.kept.tolist() == [1, 1]
    assert merged.verdict.tolist() == [Verdict.OVERRULED, Verdict.KEPT]


@pytest.mark.parametrize("none", [np.inf, -np.inf, -9.0, -1.0])
def test_what_cannot_be_a_redshift_is_none(none: float) -> None:
    assert merge(*same_place(1), np.array([none]), radius=1.5).verdict.tolist() == [Verdict.ALONE]
    assert merge(*same_place(2), np.array([none, none]), radius=1.5).verdict.tolist()[0] != Verdict.DISPUTED
    merged = merge(*same_place(2), np.array([none, 3.0]), radius=1.5)
    assert merged.kept.tolist() == [1, 1]
    assert merged.verdict.tolist() == [Verdict.OVERRULED, Verdict.KEPT]


def test_a_radius_of_nothing_joins_equal_places_and_one_out_of_range_is_refused() -> None:
    ra, dec = np.array([10.0, 10.0, 10.0001]), np.zeros(3)
    assert merge(ra, dec, np.ones(3), radius=0.0).kept.tolist() == [0, 0, 2]
    for radius in (-1.0, np.nan, np.inf, 1e6):
        with pytest.raises(ValueError, match=r"Radius .* is out of range; give one from 0 to 648000 arcsec"):
            merge(ra, dec, np.ones(3), radius=radius)
    for agreement in (-0.1, np.nan):
        with pytest.raises(ValueError, match=r"agreement .* is out of range; give a part of 1 \+ z"):
            merge(ra, dec, np.ones(3), radius=1.0, agreement=agreement)


def test_agreement_grows_with_one_plus_z() -> None:
    z = np.array([3.0, 3.035])
    assert merge(*same_place(2), z, radius=1.5).verdict[1] == Verdict.MERGED
    assert merge(*same_place(2), z, radius=1.5, agreement=0.005).verdict[1] == Verdict.DISPUTES


def test_rows_apart_or_without_position_are_alone() -> None:
    ra, dec = np.array([10.0, 20.0, np.nan, np.nan]), np.array([0.0, 0.0, np.nan, np.nan])
    assert merge(ra, dec, np.ones(4), radius=1.5).verdict.tolist() == [Verdict.ALONE] * 4


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        merge(*same_place(2), np.ones(2), radius=1.5, quality=np.ones(3))


def test_an_empty_list_has_no_objects() -> None:
    assert len(merge(np.empty(0), np.empty(0), np.empty(0), radius=1.5).trusted) == 0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_object_keeps_one_row_and_the_choice_does_not_depend_on_the_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    ra, z, quality = rng.integers(0, 20, n) * 1.0, rng.choice([0.5, 1.0, 3.0], n), rng.permutation(n) * 1.0
    merged = merge(ra, np.zeros(n), z, radius=1.5, quality=quality)
    assert len(merged.trusted) == len(np.unique(ra))
    shuffled = rng.permutation(n)
    again = merge(ra[shuffled], np.zeros(n), z[shuffled], radius=1.5, quality=quality[shuffled])
    assert set(shuffled[again.trusted]) == set(merged.trusted)
    assert np.array_equal(quality[merged.trusted], [quality[ra == ra[row]].max() for row in merged.trusted])


def test_a_crowd_that_is_no_list_of_sources_is_refused_in_little_time_and_memory() -> None:
    rng = np.random.default_rng(0)
    n = 200_000
    ra, dec = 150 + rng.uniform(0, 1e-4, n), 2 + rng.uniform(0, 1e-4, n)
    with pytest.raises(LimitFault, match=r"have 39,999,800,000 neighbours.*50,000,000 are.*ra 150\.000"):
        merge(ra, dec, np.zeros(n), radius=1.5)
    # One placeholder in as many rows is one place.
    assert len(merge(np.zeros(n), np.zeros(n), np.zeros(n), radius=1.5).trusted) == 1


def test_a_dense_list_whose_rows_are_further_apart_than_the_radius_is_one_of_sources(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(merging, "MOST_PAIRS", 2000)
    across, up = np.meshgrid(np.arange(40), np.arange(40))
    ra, dec = 150 + across.ravel() * 1.6 / 3600, up.ravel() * 1.6 / 3600
    assert len(merge(ra, dec, np.zeros(1600), radius=1.5).trusted) == 1600
    with pytest.raises(LimitFault, match=r"have 6,240 neighbours within 1\.7 arcsec"):  # 2 x 2 x 39 x 40
        merge(ra, dec, np.zeros(1600), radius=1.7)
