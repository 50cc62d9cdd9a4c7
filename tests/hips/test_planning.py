"""What is said of tiles and bytes before anything is cut, against what is then opened and read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hips.conftest import FRAMES, Sky, noise
from inzitu.hips import Survey, bytes_to_read, cutouts, groups

SEAMS = st.sampled_from(
    [(0.0, 90.0), (77.0, -89.9), (45.0, 41.8103), (45.0, 0.0), (90.0, 0.0), (359.99, 41.81), (45.0, -41.9)]
)
ANYWHERE = st.tuples(st.floats(0, 360), st.floats(-90, 90))


@pytest.fixture(scope="module", params=FRAMES)
def survey(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Survey:
    sky = Sky(noise(2, 16), 2, 16, request.param)
    return Survey.open(sky.write(tmp_path_factory.mktemp("planning"), tiles=range(20, 192)))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(places=st.lists(SEAMS | ANYWHERE, min_size=1, max_size=4), size=st.integers(1, 40), scale=st.floats(60, 900))
def test_the_tiles_are_those_that_cutouts_open(
    survey: Survey, places: list[tuple[float, float]], size: int, scale: float
) -> None:
    ra, dec = np.array(places).T
    opened = cutouts([survey], ra, dec, size=size, scale=scale, digests=False).tiles
    tiles, read = bytes_to_read([survey], ra, dec, size, scale)
    assert tiles == len({tile.uri for tile in opened})
    assert read == sum(tile.bytes for tile in opened)  # tiles as small as these are read whole


@pytest.mark.parametrize("frame", FRAMES)
def test_the_bytes_are_those_of_the_rows_that_cutouts_read(frame: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    survey = Survey.open(Sky(noise(0, 256), 0, 256, frame).write(tmp_path / "hips"))
    for count in (1, 3, 40):
        ra, dec = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
        opened = cutouts([survey], ra, dec, size=20, scale=300.0, digests=False).tiles
        tiles, read = bytes_to_read([survey], ra, dec, 20, 300.0)
        assert tiles == len(opened)
        assert read == pytest.approx(sum(tile.bytes for tile in opened), rel=2e-3)


def test_groups_hold_every_row_once_and_open_hardly_a_tile_twice(survey: Survey) -> None:
    rng = np.random.default_rng(6)
    ra, dec = rng.uniform(0, 360, 3000), np.degrees(np.arcsin(rng.uniform(-1, 1, 3000)))
    ra[[5, 700]] = np.nan
    dealt = groups([survey], ra, dec, size=4, scale=60.0, most=256)
    assert sorted(np.concatenate(dealt).tolist()) == list(range(3000))
    assert max(map(len, dealt)) <= 256
    assert dealt[-1].tolist() == [5, 700]
    one, each = (
        sum(bytes_to_read([survey], ra[rows], dec[rows], 4, 60.0)[0] for rows in parts)
        for parts in ([np.arange(3000)], dealt)
    )
    assert each < 2 * one
