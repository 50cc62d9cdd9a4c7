"""Stamps that do not fit on the device are streamed, and the training is the same to the bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import zarr

from inzitu.learn.images import Normalisation
from inzitu.learn.recipe import Recipe
from inzitu.learn.streaming import Resident, Source, Streamed, rows_of
from inzitu.learn.train import Trained, train
from learn.tiny import coloured, offer, thirds

RECIPE = Recipe(network="tiny", head="mixture(2)", epochs=8, batch_size=16, learning_rate=3e-3, members=2)
ROW = 8 * 8 * 2 * 4


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch)


def source(rows: int) -> Source:
    images, labels = coloured(rows)
    return Source(images, labels, np.zeros((rows, 0)), np.arange(rows), Normalisation.measure(images))


def draw(first: int, count: int) -> np.ndarray:
    return np.random.default_rng(first).integers(0, 50, (count, 8)).astype(np.int32)


def test_rows_are_streamed_where_they_do_not_fit() -> None:
    assert isinstance(rows_of(source(50), draw, batch=8, memory=50 * ROW), Resident)
    assert isinstance(rows_of(source(50), draw, batch=8, memory=None), Resident)
    streamed = rows_of(source(50), draw, batch=8, memory=49 * ROW)
    assert isinstance(streamed, Streamed)
    assert streamed.steps == 3  # two chunks of three steps of eight rows are 48


def test_the_rows_of_a_step_are_those_of_the_list_whatever_the_chunk() -> None:
    rows = source(50)
    streamed = Streamed(rows, lambda first, count: draw(0, 12)[first : first + count], 4)
    whole = np.asarray(rows.placed().images)
    for step, count in ((0, 2), (2, 2), (5, 3), (8, 4), (1, 1)):
        dataset, places = streamed.at(step, count)
        assert dataset.images.shape[0] <= 32
        np.testing.assert_array_equal(np.asarray(dataset.images)[places], whole[draw(0, 12)[step : step + count]])
        assert len(places) == count <= streamed.ahead(step)


def test_a_streamed_training_equals_a_resident_one_bit_for_bit(tmp_path: Path) -> None:
    images, labels = coloured(90)
    split = thirds(90)
    split[80:] = -1  # rows that have no part in it
    np.save(tmp_path / "pixels.npy", images)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    # As `inzitu cutouts --out NAME.zarr` writes it; a few rows a chunk.
    zarr.open_group(tmp_path / "cut.zarr", mode="w").create_array("pixels", data=images, chunks=(7, 8, 8, 2))
    array = zarr.open_group(tmp_path / "cut.zarr", mode="r")["pixels"]

    def trained(stamps: Any, memory: int | None) -> Trained:
        return train(stamps, labels, split, recipe=RECIPE, memory=memory)

    resident = trained(mapped, None)
    for streamed in (trained(mapped, 30 * ROW), trained(array, 30 * ROW)):
        assert streamed.history == resident.history
        for one, other in zip(*(jax.tree.leaves(t.parameters) for t in (resident, streamed)), strict=True):
            np.testing.assert_array_equal(one, other)
    kept = split >= 0
    alone = train(images[kept], labels[kept], split[kept], recipe=RECIPE)
    assert alone.history == resident.history


def test_half_precision_is_chosen_by_all_rows_not_by_those_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inzitu.learn.streaming.HALF_FROM", 40 * ROW)
    assert source(50).placed(np.arange(3)).images.dtype == np.float16
    assert source(30).placed(np.arange(3)).images.dtype == np.float32
    assert dataclasses.replace(source(50), rows=np.arange(30)).row_bytes == ROW
