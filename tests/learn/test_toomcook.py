"""Convolutions in tiles, against the sum over all taps in float64."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from numpy.lib.stride_tricks import sliding_window_view

from inzitu.learn.toomcook import Around, convolve_in_tiles

NONE: Around = ((0, 0), (0, 0))


def plain(images: np.ndarray, kernel: np.ndarray, slope: np.ndarray, around: Around) -> list[np.ndarray]:
    """Give the result and the gradients by images and by kernel, from their definitions."""
    size = kernel.shape[0]
    taps = sliding_window_view(np.pad(images, ((0, 0), *around, (0, 0))), (size, size), axis=(1, 2))
    beyond = [(size - 1 - before, size - 1 - after) for before, after in around]
    back = sliding_window_view(np.pad(slope, ((0, 0), *beyond, (0, 0))), (size, size), axis=(1, 2))
    return [
        np.einsum("nijcpq,pqcd->nijd", taps, kernel),
        np.einsum("nijdpq,pqcd->nijc", back, kernel[::-1, ::-1]),
        np.einsum("nijcpq,nijd->pqcd", taps, slope),
    ]


# More pixels than the kernel: tiles that are full, the last partly empty, and larger than all there is.
@pytest.mark.parametrize("more", [(11, 11), (9, 6), (1, 0)])
@pytest.mark.parametrize(("size", "error"), [(2, 2e-6), (3, 1e-5), (5, 2e-5)])
@pytest.mark.parametrize("same", [False, True])
def test_a_convolution_in_tiles_and_its_gradients_are_the_sums_over_taps(
    size: int, error: float, more: tuple[int, int], *, same: bool
) -> None:
    shape = (size + more[0], size + more[1])
    around: Around = (((size - 1) // 2, size // 2),) * 2 if same else NONE
    rows, columns = (side + sum(beside) for side, beside in zip(shape, around, strict=True))
    rng = np.random.default_rng(size)
    images, kernel = rng.normal(size=(2, *shape, 40)), rng.normal(size=(size, size, 40, 36))
    slope = rng.normal(size=(2, rows - size + 1, columns - size + 1, 36))
    single = [jnp.asarray(values, jnp.float32) for values in (images, kernel)]
    result, back = jax.vjp(lambda images, kernel: convolve_in_tiles(images, kernel, around), *single)
    found = [result, *back(jnp.asarray(slope, jnp.float32))]
    for values, exact in zip(found, plain(images, kernel, slope, around), strict=True):
        assert values.shape == exact.shape
        assert np.abs(values - exact).max() < error * np.abs(exact).max()


def test_half_precision_is_summed_in_single() -> None:
    # Two neighbours' sum, 2 + 1/128, is between two numbers of bfloat16.
    images = 1 + jnp.zeros((1, 8, 8, 32), jnp.bfloat16).at[:, ::2].set(1 / 128)
    result = convolve_in_tiles(images, jnp.ones((2, 2, 32, 32), jnp.bfloat16), NONE)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, 32 * 2 * (2 + 1 / 128), rtol=1e-6)


def test_an_exported_convolution_in_tiles_takes_any_number_of_images() -> None:
    (count,) = export.symbolic_shape("n")
    images, kernel = jax.random.normal(jax.random.key(0), (3, 7, 6, 32)), jnp.ones((3, 3, 32, 32)) / 9
    abstract: Any = jax.ShapeDtypeStruct
    convolve = jax.jit(lambda images: convolve_in_tiles(images, kernel, NONE))
    program: Any = export.export(convolve)(abstract((count, *images.shape[1:]), jnp.float32))
    for taken in (images, images[:1]):
        np.testing.assert_allclose(program.call(taken), convolve(taken), atol=1e-4)
