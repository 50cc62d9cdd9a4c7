"""Rows for a training: all on the device where they fit, else those of the next steps while the last ones run.

Either gives the same images to the same steps, so a training is the same to the bit. Rows that are streamed stay where
they are, in memory, in a memory-mapped file or in Zarr; a thread of the host gathers, normalises and sends them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from inzitu.learn.dataset import HALF_FROM, Dataset, Stamps
from inzitu.learn.images import Normalisation
from inzitu.learn.step import MOST_STEPS, everywhere

# The rows of so many steps from a first one on.
Draw = Callable[[int, int], Int[np.ndarray, "step batch"]]


@dataclass(frozen=True, slots=True)
class Resident:
    """Rows that are all on the device."""

    dataset: Dataset
    draw: Draw

    def ahead(self, step: int) -> int:
        """Give how many steps can be taken from one on without waiting."""
        return MOST_STEPS

    def at(self, step: int, count: int) -> tuple[Dataset, Int[np.ndarray, "step batch"]]:
        """Give the dataset, and the rows of so many steps."""
        return self.dataset, self.draw(step, count)


@dataclass(frozen=True, slots=True)
class Source:
    """Rows on the host.

    Attributes
    ----------
    images
        Images in the archive's units, perhaps memory-mapped or in Zarr [n, y, x, band].
    labels, scalars
        Redshifts [n], and numbers beside the images [n, s].
    rows
        Which of them are trained on [m].
    normalisation
        Scale of each band.
    """

    images: Stamps
    labels: Float[np.ndarray, " n"]
    scalars: Float[np.ndarray, "n s"]
    rows: Int[np.ndarray, " m"]
    normalisation: Normalisation

    @property
    def row_bytes(self) -> int:
        """What a row's image takes on the device [byte]."""
        return int(np.prod(self.images.shape[1:])) * (2 if self._half else 4)

    def placed(self, chosen: Int[np.ndarray, " k"] | None = None) -> Dataset:
        """Put some rows on the device, by their places among those trained on; all by default."""
        rows = self.rows if chosen is None else self.rows[chosen]
        if chosen is None:
            return Dataset.place(self.images[rows], self.labels[rows], self.scalars[rows], self.normalisation)
        images = np.asarray(self.normalisation.apply(self.images[rows]), np.float16 if self._half else np.float32)
        labels, scalars = (jnp.asarray(values[rows], jnp.float32) for values in (self.labels, self.scalars))
        return Dataset(jnp.asarray(images), labels, scalars)

    @property
    def _half(self) -> bool:
        return len(self.rows) * int(np.prod(self.images.shape[1:])) * 4 > HALF_FROM


@dataclass(frozen=True, slots=True)
class Streamed:
    """Rows of which those of a chunk of steps are on the device, and those of the next chunk on their way.

    Attributes
    ----------
    source
        The rows.
    draw
        Which of them each step takes.
    steps
        Steps a chunk.
    """

    source: Source
    draw: Draw
    steps: int
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _chunks: dict[int, Future[tuple[Dataset, np.ndarray]]] = field(default_factory=dict)

    def ahead(self, step: int) -> int:
        """Give how many steps are left in a step's chunk."""
        return self.steps - step % self.steps

    def at(self, step: int, count: int) -> tuple[Dataset, Int[np.ndarray, "step batch"]]:
        """Give the dataset of a step's chunk, and the rows in it of so many steps."""
        chunk = step // self.steps
        for old in [known for known in self._chunks if known not in (chunk, chunk + 1)]:
            del self._chunks[old]
        for wanted in (chunk, chunk + 1):
            if wanted not in self._chunks:
                self._chunks[wanted] = self._pool.submit(self._gathered, wanted)
        dataset, rows = self._chunks[chunk].result()
        first = step % self.steps
        return dataset, rows[first : first + count]

    def _gathered(self, chunk: int) -> tuple[Dataset, Int[np.ndarray, "step batch"]]:
        drawn = self.draw(chunk * self.steps, self.steps)
        wanted, places = np.unique(drawn, return_inverse=True)
        # Filled up to one length, so that no chunk compiles the program again.
        full = np.resize(wanted, min(drawn.size, len(self.source.rows)))
        return everywhere(self.source.placed(full)), places.reshape(drawn.shape).astype(np.int32)


Rows = Resident | Streamed


def rows_of(source: Source, draw: Draw, *, batch: int, memory: int | None) -> Rows:
    """Keep rows on the device if they fit into a memory, stream them if not.

    Parameters
    ----------
    source
        The rows.
    draw
        Which of them each step takes.
    batch
        Rows a step.
    memory
        What images may take on the device [byte]; None for no limit.
    """
    if memory is None or len(source.rows) * source.row_bytes <= memory:
        return Resident(everywhere(source.placed()), draw)
    # Two chunks are there at a time.
    steps = memory // (2 * source.row_bytes * batch)
    return Streamed(source, draw, max(1, min(steps, MOST_STEPS)))
