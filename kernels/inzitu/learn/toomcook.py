"""A convolution in fewer products: 4 x 4 results of a kernel of 5 x 5 take 64 instead of 400.

Short products of polynomials by evaluation and interpolation (Toom 1963, Cook 1966), turned into convolutions by
Winograd (1980) and laid over an image in tiles by Lavin & Gray (2016, arXiv:1509.09308, section 4.1). One axis follows
the other: at each point down a convolution across is left, and at each point across of that a product of matrices,
pixels x inputs by inputs x outputs. What comes before and after is sums. The gradients have the same form and the same
saving.
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

type Around = tuple[tuple[int, int], tuple[int, int]]
"""Zeros before and after the rows, and before and after the columns."""

TILES = {2: 3, 3: 4, 5: 4}
"""Results in a tile along an axis, for each size of kernel that gains."""
# Where the polynomials are evaluated, besides at infinity: small numbers, for small rounding errors.
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
_DOWN, _ACROSS = 1, 2


def convolve_in_tiles(
    images: Float[Array, "n y x c"], kernel: Float[Array, "p p c d"], around: Around
) -> Float[Array, "n i j d"]:
    """Convolve with a square kernel, zeros `around`; the result is that of the sum over taps to rounding.

    Errors are about 1e-6 of the largest value for kernels of 2 pixels, 7e-6 for 3 and 5, and up to 1.4e-5 in the
    gradient of a kernel.
    """
    return _convolved(images.astype(jnp.float32), kernel.astype(jnp.float32), around, _DOWN)


def _convolved(
    images: Float[Array, "n y x c"], kernel: Float[Array, "p q c d"], around: Around, axis: int
) -> Float[Array, "n i j d"]:
    """Convolve along an axis and the ones after it."""
    if axis > _ACROSS:
        # Two axes, not four: or a CPU is slow at the gradients.
        vectors = images.reshape(math.prod(images.shape[:3]), images.shape[3])
        return jnp.dot(vectors, kernel[0, 0], precision="highest").reshape(*images.shape[:3], kernel.shape[3])
    size = kernel.shape[axis - 1]
    results, _, weights = _transforms(size)
    before, after = around[axis - 1]
    pixels = images.shape[axis] + before + after - size + 1
    evaluated = _evaluated(_blocks(images, axis, before, tiles=-(-pixels // TILES[size]), size=size), axis, size)
    spectrum = jnp.tensordot(weights, kernel, axes=(1, axis - 1), precision="highest")
    products = [
        _convolved(values, jnp.moveaxis(own, 0, axis - 1), around, axis + 1)
        for values, own in zip(evaluated, jnp.split(spectrum, len(spectrum)), strict=True)
    ]
    whole = _interleaved([_sums(products, row) for row in results], axis)
    return lax.slice_in_dim(whole, 0, pixels, axis=axis)


def _blocks(
    images: Float[Array, "n y x c"], axis: int, before: int, *, tiles: int, size: int
) -> Float[Array, "n p q r c"]:
    """Give the images in blocks of a tile's pixels: a pixel of every tile is then a slice without a stride."""
    blocks, tile = tiles + _overlap(size), TILES[size]
    padded = _padded(images, axis, before, blocks * tile - before - images.shape[axis])
    return padded.reshape(*images.shape[:axis], blocks, tile, *images.shape[axis + 1 :])


def _overlap(size: int) -> int:
    """Say how many blocks after its own a tile reads from."""
    return -(-(size - 1) // TILES[size])


type Values = list[Float[Array, "n k l c"]]
"""For each point a number of every tile."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _evaluated(blocks: Float[Array, "n p q r c"], axis: int, size: int) -> Values:
    """Give the values of every tile's polynomial at the points."""
    tile, values = TILES[size], _transforms(size)[1]
    tiles = blocks.shape[axis] - _overlap(size)
    phases = [lax.index_in_dim(blocks, phase, axis + 1, keepdims=False) for phase in range(tile)]
    starts = [divmod(pixel, tile) for pixel in range(len(values))]
    pixels = [lax.slice_in_dim(phases[phase], start, start + tiles, axis=axis) for start, phase in starts]
    return [_sums(pixels, row) for row in values]


def _evaluated_forward(blocks: Float[Array, "n p q r c"], axis: int, size: int) -> tuple[Values, None]:
    return _evaluated(blocks, axis, size), None


def _gathered(axis: int, size: int, _: None, slopes: Values) -> tuple[Float[Array, "n p q r c"]]:
    """Give the gradient of the blocks: each pixel gathers what it gave.

    The library's transposed slices, added one after the other or in one loop, take three to five times as long.
    """
    tile, values, overlap = TILES[size], _transforms(size)[1], _overlap(size)
    phases = []
    for phase in range(tile):
        parts = [_sums(slopes, values[:, pixel]) for pixel in range(phase, len(values), tile)]
        spread = [_padded(part, axis, before, overlap - before) for before, part in enumerate(parts)]
        phases.append(functools.reduce(jnp.add, spread))
    return (jnp.stack(phases, axis=axis + 1),)


_evaluated.defvjp(_evaluated_forward, _gathered)


def _padded(values: Float[Array, "n y x c"], axis: int, before: int, after: int) -> Float[Array, "n i j c"]:
    return jnp.pad(values, [(before, after) if number == axis else (0, 0) for number in range(4)])


def _interleaved(phases: Sequence[Float[Array, "n k l d"]], axis: int) -> Float[Array, "n i j d"]:
    shape = phases[0].shape
    return jnp.stack(phases, axis=axis + 1).reshape(*shape[:axis], shape[axis] * len(phases), *shape[axis + 1 :])


def _sums(parts: Sequence[Array], weights: np.ndarray) -> Array:
    """Give the weighted sum of arrays; nothing is multiplied by 0 or 1."""
    terms = [part if weight == 1 else weight * part for part, weight in zip(parts, weights, strict=True) if weight]
    return functools.reduce(jnp.add, terms)


@functools.cache
def _transforms(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the matrices of results [pixel, point], values [point, pixel] and weights [point, tap].

    The results are a product of polynomials transposed: values by the Lagrange polynomials of the points, weights and
    results by the powers of the points (Blahut 2010, Fast Algorithms for Signal Processing, section 5.2).
    """
    tile = TILES[size]
    points = np.array(_POINTS[: size + tile - 2])
    last = len(points)
    powers = np.vander(points, max(size, tile), increasing=True)
    others = [np.delete(points, i) for i in range(last)]
    scale = [math.prod(points[i] - others[i]) for i in range(last)]
    weights = np.zeros((last + 1, size))
    weights[:last] = powers[:, :size] / np.array(scale)[:, None]
    results = np.zeros((tile, last + 1))
    results[:, :last] = powers[:, :tile].T
    weights[last, -1] = results[-1, last] = 1
    values = np.zeros((last + 1, last + 1))
    for i in range(last):
        values[i, :last] = np.poly(others[i])[::-1]
    values[last] = np.poly(points)[::-1]
    return results.astype(np.float32), values.astype(np.float32), weights.astype(np.float32)
