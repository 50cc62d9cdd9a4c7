"""The rows of a training on the device: normalised images, labels, scalars."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Int8, Integer

from inzitu.learn.images import Normalisation
from inzitu.learn.ood import NEIGHBOURS
from inzitu.learn.precision import pytree
from inzitu.learn.split import Part

# Above this the images are kept as float16: 3 digits of a normalised pixel are more than its noise.
HALF_FROM = 1 << 30
# Rows that are read and normalised at a time.
BLOCK = 4096
# Training rows; fewer say nothing of what is usual.
FEWEST = NEIGHBOURS + 1


class DatasetError(ValueError):
    """Rows that cannot be learned from."""


@runtime_checkable
class Stamps(Protocol):
    """Images [n, y, x, band] that are read where they are: numpy's, memory-mapped or not, or an array of Zarr."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Their number, rows, columns and bands."""

    def __getitem__(self, rows: Any, /) -> Any:
        """Give some of them as numpy's."""


@pytree
@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows on the device.

    Attributes
    ----------
    images
        Normalised images [row, y, x, band], float32 or float16.
    labels
        Redshifts [row].
    scalars
        Normalised numbers beside the images [row, scalar].
    """

    images: Any
    labels: Any
    scalars: Any

    @classmethod
    def place(
        cls,
        images: Float[np.ndarray, "n y x band"],
        labels: Float[np.ndarray, " n"],
        scalars: Float[np.ndarray, "n s"],
        normalisation: Normalisation,
    ) -> Dataset:
        """Normalise rows and put them on the device."""
        half = images.size * 4 > HALF_FROM
        parts = [
            np.asarray(normalisation.apply(images[i : i + BLOCK]), np.float16 if half else np.float32)
            for i in range(0, len(images), BLOCK)
        ]
        return cls(
            jnp.asarray(np.concatenate(parts)), jnp.asarray(labels, jnp.float32), jnp.asarray(scalars, jnp.float32)
        )


def check(images: Stamps, labels: Float[np.ndarray, " n"], split: Integer[np.ndarray, " n"]) -> None:
    """Refuse rows that no training can learn from.

    Raises
    ------
    DatasetError
        Images of another form, lengths that differ, a part with too few rows, labels that are not finite or all equal.
    """
    if len(images.shape) != 4 or images.shape[1] != images.shape[2]:
        raise DatasetError(f"the images have the shape {images.shape}; give them as (n, y, x, band), as high as wide")
    if not images.shape[0] == len(labels) == len(split):
        raise DatasetError(
            f"{images.shape[0]} images, {len(labels)} labels and a split of {len(split)} rows: give one each a row"
        )
    for part, fewest in ((Part.TRAIN, FEWEST), (Part.VALIDATION, 1)):
        if (count := np.count_nonzero(split == part)) < fewest:
            raise DatasetError(
                f"the split has {count or 'no'} {part.name.lower()} rows, {fewest} are needed: give more rows or other "
                "fractions"
            )
    used = (split == Part.TRAIN) | (split == Part.VALIDATION)
    with np.errstate(over="ignore"):  # what float32 cannot hold is not finite
        bad = np.flatnonzero(used & ~np.isfinite(np.asarray(labels, np.float32)))
    if bad.size:
        raise DatasetError(f"{bad.size} rows have no finite label (rows {_some(bad)}): leave them out")
    if np.ptp(labels[split == Part.TRAIN]) == 0:
        raise DatasetError(f"all training labels are {labels[split == Part.TRAIN][0]:g}: there is nothing to learn")


def digest(*arrays: Any) -> str:
    """Give a digest of arrays, so that a checkpoint is never continued with other data."""
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(f"{array.dtype}{array.shape}".encode())
        for first in range(0, array.shape[0], BLOCK):
            whole.update(np.ascontiguousarray(array[first : first + BLOCK]).data)
    return whole.hexdigest()


def batches(rows: int, size: int, *, first: int, count: int, seed: tuple[int, ...]) -> Int[np.ndarray, "count size"]:
    """Give the rows of `count` batches from the batch `first` on.

    Epochs are permutations one after the other, cut into batches without regard to where one ends: no row is left out
    and no batch is short. Any batch is found from the seed and its number alone, so a training can go on anywhere.
    """
    start, stop = first * size, (first + count) * size
    epochs = range(start // rows, -(-stop // rows))
    order = np.concatenate([np.random.default_rng((*seed, epoch)).permutation(rows) for epoch in epochs])
    offset = epochs.start * rows
    return order[start - offset : stop - offset].reshape(count, size).astype(np.int32)


def _some(rows: Int8[np.ndarray, " n"] | np.ndarray) -> str:
    return ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")


# One program: each sum that stands alone is compiled, or at least looked up, by itself.
@functools.partial(jax.jit, static_argnums=1)
def padded(dataset: Dataset, block: int) -> tuple[Dataset, jax.Array]:
    """Give rows as blocks [block number, row in block, ...], the last filled up, and a mask of the real ones."""
    rows = dataset.labels.shape[0]
    count = -(-rows // block)
    filled = jax.tree.map(
        lambda leaf: jnp.pad(leaf, [(0, count * block - rows)] + [(0, 0)] * (leaf.ndim - 1)).reshape(
            count, block, *leaf.shape[1:]
        ),
        dataset,
    )
    return filled, (jnp.arange(count * block) < rows).reshape(count, block)
