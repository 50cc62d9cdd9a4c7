"""Pictures of whatever there is: one source too, at which the first system's grid failed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from inzitu.run import pictures
from inzitu.run.pictures import draw_pdfs, draw_pit, draw_redshifts


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_grid_of_any_number_of_pdfs_is_drawn(tmp_path: Path, count: int) -> None:
    shape = (count, 3)
    path = draw_pdfs(
        tmp_path / "pdfs.png",
        weights=np.full(shape, 1 / 3),
        means=np.full(shape, 1.0),
        sigmas=np.full(shape, 0.1),
        names=[f"s{row}" for row in range(count)],
        z_predicted=np.ones(count),
        z_true=np.full(count, np.nan),
    )
    pixels = imread(path)[..., :3]
    assert pixels.shape[1] > 300 * min(count, 4)
    assert pixels.std() > 0.01


def test_one_source_with_known_redshift_is_drawn(tmp_path: Path) -> None:
    one = np.array([1.0])
    for path in (
        draw_redshifts(
            tmp_path / "z.png", z_true=one, z_predicted=one, z_low=one - 0.1, z_high=one + 0.1, caption="one"
        ),
        draw_pit(tmp_path / "pit.png", pit=np.array([0.5]), caption="one"),
    ):
        assert imread(path)[..., :3].std() > 0.01


def test_what_is_expected_of_few_sources_does_not_reach_below_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(pictures, "_saved", lambda figure, path: drawn.append(figure))
    draw_pit(tmp_path / "pit.png", pit=np.linspace(0.05, 0.95, 10), caption="ten")
    (axis,) = drawn[0].axes
    low, high = axis.get_ylim()
    assert low == 0
    assert high > 2 + 2 * np.sqrt(2 * 0.8), "two sources are expected in each of five bins"
