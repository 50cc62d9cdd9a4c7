"""What cannot be cut is refused with the value, the limit and the remedy; at the limits the pixels are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hips.conftest import Sky, noise
from inzitu.hips import Status, Survey, cutouts
from inzitu.hips.cutouts import FINEST

EDGE = float(np.degrees(np.arcsin(2 / 3)))
"""Declination at which the polar caps begin, and lines on the sky bend."""


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return Survey.open(Sky(noise(1, 8), 1, 8).write(tmp_path_factory.mktemp("limits")))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"scale": 1e-300}, "pixels are 1e-300 arcsec wide; they must be 1e-06 or more"),
        ({"scale": np.nan}, "pixels are nan arcsec wide; they must be 1e-06 or more"),
        ({"scale": np.inf}, "at most 10 deg"),
        ({"size": 10**10, "scale": 1e-6}, "10000000000 pixels; it must be 1 to 32768"),
        ({"angle": np.nan}, "position angle nan is no angle; give degrees"),
        ({"angle": -np.inf}, "position angle -inf is no angle"),
    ],
)
@pytest.mark.parametrize("rows", [0, 2])
def test_what_cannot_be_cut_is_refused_even_if_there_are_no_rows(
    survey: Survey, wrong: dict[str, Any], said: str, rows: int
) -> None:
    with pytest.raises(ValueError, match=said):
        cutouts([survey], np.ones(rows), np.ones(rows), **{"size": 4, "scale": 9.0} | wrong)


def test_one_angle_among_many_that_is_none_is_refused(survey: Survey) -> None:
    with pytest.raises(ValueError, match="position angle nan is no angle"):
        cutouts([survey], np.ones(2), np.ones(2), size=4, scale=9.0, angle=[0.0, np.nan])


@pytest.mark.parametrize("scale", [FINEST, 1e-3, 1.0, 60.0])
def test_stamps_much_finer_than_the_survey_hold_the_pixel_under_them(survey: Survey, scale: float) -> None:
    """Of 13,000 arcsec are the survey's pixels: away from their sides, every stamp lies within one."""
    ra, dec = np.random.default_rng(5).uniform([[0], [-89]], [[360], [89]], (2, 200))
    near = np.stack([cutouts([survey], ra, dec, size=2, scale=s, resampling="nearest").pixels for s in (scale, 2000.0)])
    inside = np.ptp(near, axis=(0, 2, 3)).max(axis=-1) == 0  # all that lies around it is one pixel, too
    assert inside.sum() > 50
    cut = cutouts([survey], ra, dec, size=2, scale=scale, resampling="area")
    assert (cut.status == Status.OK).all()
    np.testing.assert_allclose(cut.pixels[inside], near[0, inside], rtol=1e-5)


@pytest.mark.parametrize(("ra", "dec"), [(45.0, 0.0), (0.0, 90.0), (0.0, EDGE), (10.0, -EDGE), (90.0, 0.0)])
@pytest.mark.parametrize("scale", [FINEST, 1e-3, 1.0, 60.0])
def test_stamps_much_finer_than_the_survey_are_means_on_its_seams_too(
    tmp_path: Path, ra: float, dec: float, scale: float
) -> None:
    level = Survey.open(Sky(np.full(12 * 4 * 64, 7.0), 1, 8).write(tmp_path))
    cut = cutouts([level], ra, dec, size=3, scale=scale, resampling="area")
    np.testing.assert_allclose(cut.pixels, 7.0, rtol=1e-5)
