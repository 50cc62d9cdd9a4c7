"""A convolution in fewer products: for 2 x 2 results 9 instead of 16 of a 2 x 2 kernel, 16 instead of 36 of a 3 x 3.

Short products of polynomials by evaluation and interpolation (Toom 1963, Cook 1966), turned into convolutions by
Winograd (1980) and laid over an image in tiles by Lavin & Gray (2016, arXiv:1509.09308, section 4.1). The products are
those of matrices, pixels x inputs by inputs x outputs; what comes before and after them is sums. Its gradients have the
same form and the same saving.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from inzitu.learn.fusion import unfused

TILE = 2
"""Results a tile and axis. With 4, rounding errors are ten times as large, and the sums cost what the products save."""
# Where the polynomials are evaluated, besides at infinity: small numbers, for small rounding errors.
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0)
SIZES = (2, 3, 5)
"""Sizes of the kernels that gain."""


def convolve_in_tiles(
    images: Float[Array, "n y x c"],
    kernel: Float[Array, "p p c d"],
    around: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
) -> Float[Array, "n i j d"]:
    """Convolve with a square kernel, zeros `around`; the result is that of the sum over taps to rounding.

    Relative errors are about 1e-6 for kernels of 2 and 3 pixels and 5e-6 for 5.
    """
    count, height, width, _ = images.shape
    size, _, inputs, outputs = kernel.shape
    results, values, weights = _transforms(size)
    rows, columns = height + sum(around[0]) - size + 1, width + sum(around[1]) - size + 1
    down, across = -(-rows // TILE), -(-columns // TILE)
    phases = _phases(images, down + size // TILE, across + size // TILE, around[0][0], around[1][0])
    points, pixels = range(len(values)), count * down * across
    spectrum = jnp.einsum("ap,bq,pqcd->abcd", weights, weights, kernel, precision="highest")
    products = [
        [jnp.dot(at.reshape(pixels, inputs), own, precision="highest") for at, own in zip(line, kernels, strict=True)]
        for line, kernels in zip(_evaluated(phases, size), spectrum, strict=True)
    ]
    lines = [[_sums(products[a], row) for row in results] for a in points]
    tiles = [[_sums([lines[a][j] for a in points], row) for j in range(TILE)] for row in results]
    whole = _interleaved([[tile.reshape(count, down, across, outputs) for tile in line] for line in tiles])
    return whole.reshape(count, TILE * down, TILE * across, outputs)[:, :rows, :columns]


def _phases(
    images: Float[Array, "n y x c"], down: int, across: int, top: int, left: int
) -> Float[Array, "n i 2 j 2 c"]:
    """Give the images in blocks of `TILE` pixels: every tile's pixels are then slices without a stride."""
    count, height, width, channels = images.shape
    rows, columns = TILE * down, TILE * across
    images = images[:, : rows - top, : columns - left]
    below, right = max(0, rows - top - height), max(0, columns - left - width)
    images = jnp.pad(images, ((0, 0), (top, below), (left, right), (0, 0)))
    return images.reshape(count, down, TILE, across, TILE, channels)


type Tiles = list[list[Float[Array, "n down across c"]]]
"""A number for each tile, for each point down and point across."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _evaluated(phases: Float[Array, "n i 2 j 2 c"], size: int) -> Tiles:
    """Give the values of every tile's polynomial at the points down and across."""
    strips = unfused(_values(phases, 3, size))  # or both axes would be summed at once: many times the terms
    columns = [_values(strip, 1, size) for strip in strips]
    return [list(line) for line in zip(*columns, strict=True)]


def _evaluated_forward(phases: Float[Array, "n i 2 j 2 c"], size: int) -> tuple[Tiles, None]:
    return _evaluated(phases, size), None


def _gathered(size: int, _: None, slopes: Tiles) -> tuple[Float[Array, "n i 2 j 2 c"]]:
    """Give the gradient of the phases: each gathers what it gave, first across and then down.

    The library's transposed slices, added one after the other or in one loop, take three to five times as long.
    """
    values = _transforms(size)[1]
    across = unfused([[_overlapped(line, values, phase, axis=2) for phase in range(TILE)] for line in slopes])
    columns = list(zip(*across, strict=True))
    down = unfused([[_overlapped(column, values, phase, axis=1) for column in columns] for phase in range(TILE)])
    return (_interleaved(down),)


_evaluated.defvjp(_evaluated_forward, _gathered)


def _values(blocks: Float[Array, "*n"], axis: int, size: int) -> list[Array]:
    """Give the polynomials' values along one axis of blocks; that of the pixels in a block follows it."""
    tiles = blocks.shape[axis] - size // TILE
    phases = [lax.index_in_dim(blocks, phase, axis + 1, keepdims=False) for phase in range(TILE)]
    pixels = [lax.slice_in_dim(phases[i % TILE], i // TILE, i // TILE + tiles, axis=axis) for i in range(size + 1)]
    return [_sums(pixels, row) for row in _transforms(size)[1]]


def _overlapped(slopes: Sequence[Array], values: np.ndarray, phase: int, *, axis: int) -> Array:
    """Give the gradient of one phase of the pixels along an axis, where the tiles overlap."""
    starts = range(phase, len(values), TILE)
    blocks = slopes[0].shape[axis] + (len(values) - 1) // TILE
    parts = []
    for before, start in enumerate(starts):
        spread = [(0, 0)] * slopes[0].ndim
        spread[axis] = (before, blocks - slopes[0].shape[axis] - before)
        parts.append(jnp.pad(_sums(slopes, values[:, start]), spread))
    return functools.reduce(jnp.add, parts)


def _interleaved(tiles: Sequence[Sequence[Float[Array, "n i j c"]]]) -> Float[Array, "n i 2 j 2 c"]:
    return jnp.stack([jnp.stack(line, axis=3) for line in tiles], axis=2)


def _sums(parts: Sequence[Array], weights: np.ndarray) -> Array:
    """Give the weighted sum of arrays; nothing is multiplied by 0 or 1."""
    terms = [part if weight == 1 else weight * part for part, weight in zip(parts, weights, strict=True) if weight]
    return functools.reduce(jnp.add, terms)


@functools.cache
def _transforms(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the matrices of results [tile, point], values [point, pixel] and weights [point, tap] along one axis.

    The results are a product of polynomials transposed: values by the Lagrange polynomials of the points, weights and
    results by the powers of the points (Blahut 2010, Fast Algorithms for Signal Processing, section 5.2).
    """
    points, last = np.array(_POINTS[:size]), size
    powers = np.vander(points, max(size, TILE), increasing=True)
    at_infinity = np.zeros((1, size))
    at_infinity[0, -1] = 1
    scale = [math.prod(points[i] - points[j] for j in range(size) if j != i) for i in range(size)]
    weights = np.concatenate([powers[:, :size] / np.array(scale)[:, None], at_infinity])
    results = np.zeros((TILE, size + 1))
    results[:, :last] = powers[:, :TILE].T
    results[-1, last] = 1
    values = np.zeros((size + 1, size + 1))
    for i in range(size):
        values[i, :size] = np.poly(np.delete(points, i))[::-1]
    values[last] = np.poly(points)[::-1]
    return results.astype(np.float32), values.astype(np.float32), weights.astype(np.float32)
