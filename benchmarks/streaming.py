"""Training on stamps on the device, in a memory-mapped file, and in Zarr as `inzitu cutouts` writes it."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from inzitu.learn import train
from inzitu.learn.recipe import Recipe

ROWS, CHUNK = 20_000, 256
NETWORKS = ("dcmdn-a", "inzitu")
DISPATCHES = 8


def run() -> str:
    """Return images a second in training and what reading at random gives, of rows that do not fit by four times."""
    with tempfile.TemporaryDirectory() as folder:
        forms = _written(Path(folder))
        rows = [
            "| stamps | read at random [images/s] | " + " | ".join(f"{name} [images/s]" for name in NETWORKS) + " |"
        ]
        rows.append("|---|---:|" + "---:|" * len(NETWORKS))
        for words, (stamps, memory) in forms.items():
            rates = [_rate(stamps, memory, network) for network in NETWORKS]
            rows.append(f"| {words} | {_read(stamps):,.0f} | " + " | ".join(f"{rate:,.0f}" for rate in rates) + " |")
    return "\n".join(rows)


def _written(folder: Path) -> dict[str, tuple[Any, int | None]]:
    images = np.random.default_rng(0).normal(size=(ROWS, 28, 28, 5)).astype(np.float32)
    np.save(folder / "pixels.npy", images)
    group = zarr.open_group(folder / "cut.zarr", mode="w")
    group.create_array("pixels", data=images, chunks=(CHUNK, 28, 28, 5))
    mapped, few = np.load(folder / "pixels.npy", mmap_mode="r"), images.nbytes // 4
    return {"on the device": (mapped, None), "streamed from .npy": (mapped, few), "from Zarr": (group["pixels"], few)}


def _read(stamps: Any) -> float:
    rows = np.random.default_rng(1).permutation(ROWS)[: ROWS // 4]
    began = time.perf_counter()
    stamps[rows]
    return len(rows) / (time.perf_counter() - began)


def _rate(stamps: Any, memory: int | None, network: str) -> float:
    """Return the median rate of some dispatches, the first ones left out."""
    marks: list[tuple[int, float]] = []

    def report(told: train.Report) -> None:
        marks.append((told.step, time.perf_counter()))
        if len(marks) > DISPATCHES:
            raise StopIteration

    split = np.resize(np.array([0] * 9 + [1], np.int8), ROWS)
    labels = np.random.default_rng(2).uniform(0, 3, ROWS).astype(np.float32)
    recipe = Recipe(network=network, batch_size=256, epochs=100, evaluations=1)
    with contextlib.suppress(StopIteration):
        train.train(stamps, labels, split, recipe=recipe, memory=memory, report=report)
    images = recipe.batch_size * (recipe.settled(ROWS).members or 1)
    pairs = pairwise(marks[3:])
    return statistics.median(images * (step - before) / (now - then) for (before, then), (step, now) in pairs)
