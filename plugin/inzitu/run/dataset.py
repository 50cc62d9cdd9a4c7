"""The step dataset: the stamps of the sources with redshift as arrays, for who wants the pixels themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inzitu.errors import TableFault
from inzitu.run.stamps import StampSet
from inzitu.run.work import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inzitu.pipelines.parameters import DatasetParameters
    from inzitu.run.work import Work

ROWS_A_BLOCK = 1024


def dataset(_: DatasetParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Write images (n, y, x, c) and labels (n,), the rows of both in the order of the list."""
    stamps = StampSet.open(inputs)
    index = np.flatnonzero((stamps.column("list") == "training") & (stamps.column("cut_status") == "ok"))
    if not len(index):
        raise TableFault("No source has a redshift and complete stamps; the selection says what became of each row.")
    images = np.lib.format.open_memmap(
        work.folder / "images.npy", mode="w+", dtype=np.float32, shape=(len(index), *stamps.pixels.shape[1:])
    )
    for start in range(0, len(index), ROWS_A_BLOCK):
        block = index[start : start + ROWS_A_BLOCK]
        images[start : start + len(block)] = stamps.pixels[block]
        work.progress(start + len(block), len(index))
    images.flush()
    np.save(work.folder / "labels.npy", stamps.column("z")[index].astype(np.float32))
    return Outcome(made={name: work.folder / f"{name}.npy" for name in ("images", "labels")})
