"""One convolution, in the form that each machine runs fastest.

On a CPU the library's own convolution is slow backwards, where a product of matrices of the same size runs at the
machine's full rate: there a convolution is its patches times a matrix, forwards and backwards. On an accelerator it is
the library's. Both forms are in one program: which one runs is decided when the program is compiled for a platform,
so a predictor exported once runs on either. docs/decisions/010 has the measurements.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# Above so many input channels the gradient of the kernel is taken tap by tap: the patches would be copied for nothing.
TAPS_FROM = 128


def patches(images: Float[Array, "n y x c"], height: int, width: int) -> Float[Array, "n i j d"]:
    """Give the `height` x `width` neighbourhood of each pixel as one vector, in the order of a kernel's axes."""
    rows, columns = images.shape[1] - height + 1, images.shape[2] - width + 1
    taps = [images[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)]
    return jnp.concatenate(taps, axis=-1)


def native(images: Float[Array, "n y x c"], kernel: Float[Array, "p q c d"]) -> Float[Array, "n i j d"]:
    """Convolve by the library, without padding."""
    # HIGHEST keeps float32 from being rounded to TF32 on a GPU; bfloat16 operands are not affected.
    return lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=lax.Precision.HIGHEST
    )


def by_matrix(images: Float[Array, "n y x c"], kernel: Float[Array, "p q c d"]) -> Float[Array, "n i j d"]:
    """Convolve as patches times a matrix, without padding."""
    height, width, _, outputs = kernel.shape
    vectors = patches(images, height, width)
    return (_rows(vectors) @ kernel.reshape(-1, outputs)).reshape(*vectors.shape[:3], outputs)


def _matrix_gradients(
    images: Float[Array, "n y x c"], kernel: Float[Array, "p q c d"], slope: Float[Array, "n i j d"]
) -> tuple[Float[Array, "n y x c"], Float[Array, "p q c d"]]:
    height, width, inputs, outputs = kernel.shape
    rows, columns = slope.shape[1:3]
    slopes = _rows(slope)
    if inputs >= TAPS_FROM:
        taps = [_rows(images[:, i : i + rows, j : j + columns]).T @ slopes for i in range(height) for j in range(width)]
        of_kernel = jnp.stack(taps).reshape(kernel.shape)
    else:
        of_kernel = (_rows(patches(images, height, width)).T @ slopes).reshape(kernel.shape)
    spread = (slopes @ kernel.reshape(-1, outputs).T).reshape(*slope.shape[:3], height * width, inputs)
    of_images = jnp.zeros_like(images)
    for tap in range(height * width):
        i, j = divmod(tap, width)
        around = ((0, 0), (i, height - 1 - i), (j, width - 1 - j), (0, 0))
        of_images = of_images + jnp.pad(spread[..., tap, :], around)
    return of_images, of_kernel


def _native_gradients(
    images: Float[Array, "n y x c"], kernel: Float[Array, "p q c d"], slope: Float[Array, "n i j d"]
) -> tuple[Float[Array, "n y x c"], Float[Array, "p q c d"]]:
    of_images, of_kernel = jax.vjp(native, images, kernel)[1](slope)
    return of_images, of_kernel


@jax.custom_vjp
def _convolve(images: Float[Array, "n y x c"], kernel: Float[Array, "p q c d"]) -> Float[Array, "n i j d"]:
    result: Array = lax.platform_dependent(images, kernel, cpu=by_matrix, default=native)
    return result


def _forward(images: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(images, kernel), (images, kernel)


def _backward(saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    gradients: tuple[Array, Array] = lax.platform_dependent(
        *saved, slope, cpu=_matrix_gradients, default=_native_gradients
    )
    return gradients


_convolve.defvjp(_forward, _backward)


def convolve(
    images: Float[Array, "n y x c"], kernel: Float[Array, "p q c d"], *, padding: str = "VALID"
) -> Float[Array, "n i j d"]:
    """Convolve images with a kernel at stride 1.

    Parameters
    ----------
    images
        Images, channels last.
    kernel
        Weights: height, width, input channel, output channel.
    padding
        ``"VALID"``: only where the kernel fits; ``"SAME"``: zeros around, so that the size stays.
    """
    if padding == "SAME":
        height, width = kernel.shape[:2]
        images = jnp.pad(images, ((0, 0), _around(height), _around(width), (0, 0)))
    return _convolve(images, kernel)


def max_pool(images: Float[Array, "n y x c"]) -> Float[Array, "n i j c"]:
    """Give the largest of each 2 x 2 pixels; an odd last row or column falls away."""
    return jnp.max(_quads(images), axis=(2, 4))


def average_pool(images: Float[Array, "n y x c"]) -> Float[Array, "n i j c"]:
    """Give the mean of each 2 x 2 pixels; an odd last row or column falls away."""
    return jnp.mean(_quads(images), axis=(2, 4))


@functools.partial(jax.jit, inline=True)
def smooth(images: Float[Array, "n y x c"]) -> Float[Array, "n y x c"]:
    """Give the mean over the 2 x 2 pixels at and after each one; at the last row and column over those there are."""
    after = ((0, 0), (0, 1), (0, 1), (0, 0))
    padded, there = jnp.pad(images, after), jnp.pad(jnp.ones_like(images[:1, :, :, :1]), after)
    return _four(padded) / _four(there)


def _four(padded: Float[Array, "n y x c"]) -> Float[Array, "n i j c"]:
    return padded[:, :-1, :-1] + padded[:, 1:, :-1] + padded[:, :-1, 1:] + padded[:, 1:, 1:]


def _quads(images: Float[Array, "n y x c"]) -> Float[Array, "n i 2 j 2 c"]:
    rows, columns = images.shape[1] // 2, images.shape[2] // 2
    return images[:, : 2 * rows, : 2 * columns].reshape(images.shape[0], rows, 2, columns, 2, images.shape[3])


def _rows(vectors: Float[Array, "n i j d"]) -> Float[Array, "nij d"]:
    # Written out, not -1: with a symbolic batch the size must be seen to divide.
    return vectors.reshape(math.prod(vectors.shape[:3]), vectors.shape[3])


def _around(size: int) -> tuple[int, int]:
    return (size - 1) // 2, size // 2
