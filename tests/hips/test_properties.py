from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hips.conftest import Sky, noise
from inzitu.hips import Survey
from inzitu.hips.properties import BASE, Properties

GENUINE = Path(__file__).parents[2] / "../shared/data/hips-tiles"

V10 = """
# An early one, with the words of its time
publisher_did = ivo://CDS/P/X
label         = X
coordsys      = G
maxOrder      = 3
format        = jpeg fits
"""
V14 = """
creator_did          = ivo://CDS/P/Y
hips_version         = 1.4
hips_order           = 9
# hips_order         = 3
hips_order_min       = 0
hips_tile_width      = 256
hips_frame           = equatorial
hips_tile_format     = png fits
hips_pixel_scale     = 2.236E-4
s_pixel_scale        = 1.1E-4
obs_description      = a = b, even so
"""


def test_words_of_the_first_version_are_understood() -> None:
    early = Properties.parse(V10, where="X")
    assert (early.order, early.tile_width, early.frame) == (3, 512, "galactic")
    assert early.pixel_order == 12
    assert early.native_scale == pytest.approx(BASE / 4096)


@pytest.mark.parametrize("stated", ["1", "0", "-1", "nan", "inf"])
def test_a_scale_of_the_images_that_cannot_be_is_none(stated: str) -> None:
    text = re.sub(r"(?m)^s_pixel_scale.*$", f"s_pixel_scale = {stated}", V14)
    assert Properties.parse(text, where="Y").native_scale == pytest.approx(BASE / (256 << 9))


def test_comments_do_not_count_and_values_may_hold_equal_signs() -> None:
    late = Properties.parse(V14, where="Y")
    assert (late.order, late.tile_width, late.frame) == (9, 256, "equatorial")
    assert late.native_scale == pytest.approx(0.396)
    assert late.stated["obs_description"] == "a = b, even so"


@pytest.mark.parametrize(
    ("survey", "width", "frame"),
    [("DSS2Red", 512, "equatorial"), ("IRAC4", 512, "galactic"), ("Planck-HFI143", 256, "galactic")],
)
def test_genuine_properties_are_understood(survey: str, width: int, frame: str) -> None:
    if not GENUINE.exists():
        pytest.skip("the genuine CDS tiles are not at hand")
    opened = Survey.open(GENUINE / survey)
    assert (opened.order, opened.tile_width, opened.frame) == (3, width, frame)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hips_order": ""}, "no hips_order"),
        ({"hips_order": "three"}, "'three'; it must be a whole number"),
        ({"hips_order": "28"}, "hips_order is 28"),
        ({"hips_order": "-1"}, "hips_order is -1"),
        ({"hips_tile_width": "100"}, "power of two"),
        ({"hips_frame": "C2"}, "must be equatorial, galactic or ecliptic"),
        ({"hips_frame": ""}, "hips_frame is None"),
        ({"s_pixel_scale": "small"}, "must be a number of degrees"),
        ({"hips_tile_format": "jpeg png"}, "jpeg and png tiles only: previews"),
        ({"hips_order": "2"}, "states hips_order 2, but its deepest FITS tiles are in Norder0"),
    ],
)
def test_wrong_properties_are_told_with_what_is_wrong(tmp_path: Path, change: dict[str, str], message: str) -> None:
    sky = Sky(noise(0, 8), 0, 8)
    sky.write(tmp_path)
    sky.write_properties(tmp_path, **change)
    with pytest.raises(ValueError, match=message):
        Survey.open(tmp_path)


def test_what_is_no_hips_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file called properties"):
        Survey.open(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        Survey.open(tmp_path / "nothing")
    Sky(noise(0, 8), 0, 8).write_properties(tmp_path)
    with pytest.raises(ValueError, match="has no FITS tiles"):
        Survey.open(tmp_path)


@pytest.mark.parametrize(
    "page", ["<!DOCTYPE html>\n<html><body>Welcome</body></html>", "\n <html>", "\ufeff<HTML lang=en>"]
)
def test_a_web_page_in_place_of_properties_is_named(tmp_path: Path, page: str) -> None:
    Sky(noise(0, 8), 0, 8).write(tmp_path)
    (tmp_path / "properties").write_text(page)
    with pytest.raises(ValueError, match=r"in place of its properties is a web page .HTML.; point at the base"):
        Survey.open(tmp_path)


@given(st.text())
def test_no_text_does_worse_than_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        Properties.parse(text, where="there")
