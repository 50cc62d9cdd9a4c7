"""One convolution, in the form that each machine runs fastest, which differs by pass and by size.

On an accelerator it is the library's. On a CPU the library is fast forwards but not in its gradients, which inside a
loop, as in training, take twenty to a hundred times as long as they need: there the gradient of the images is a
convolution forwards, with the kernel turned over, and that of the kernel a product of matrices; with many channels all
three go in tiles (`inzitu.learn.toomcook`), on few pixels as products of patches. The forms of both machines are in one
program: which one runs is decided when the program is compiled for a platform, so a predictor exported once runs on
either. docs/decisions/010 has the measurements behind the numbers here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from inzitu.learn import toomcook
from inzitu.learn.toomcook import Around

# Results of so few pixels are quicker as a product of matrices.
FEW_PIXELS = 8
# With many outputs and few inputs patches are a small part of what is written; with many inputs they are copied for
# nothing, and the gradient of a kernel is taken tap by tap.
MANY_OUTPUTS, FEW_INPUTS = 192, 64
# A GPU's matrix units take bfloat16 by so many channels; XLA fills up those of float16 alone.
EVEN_CHANNELS = 8
# From so many channels in and out the products are worth saving (`inzitu.learn.toomcook`).
MANY_CHANNELS = 32

NONE: Around = ((0, 0), (0, 0))


def patches(images: Float[Array, "n y x c"], height: int, width: int) -> Float[Array, "n i j d"]:
    """Give the `height` x `width` neighbourhood of each pixel as one vector, in the order of a kernel's axes."""
    rows, columns = images.shape[1] - height + 1, images.shape[2] - width + 1
    taps = [images[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)]
    return jnp.concatenate(taps, axis=-1)


def native(
    images: Float[Array, "n y x c"], kernel: Float[Array, "p q c d"], around: Around | str = NONE, *, stride: int = 1
) -> Float[Array, "n i j d"]:
    """Convolve by the library; `around` may be a padding by name."""
    outputs = kernel.shape[3]
    if images.dtype == jnp.bfloat16:
        more = [-channels % EVEN_CHANNELS for channels in kernel.shape[2:]]
        images = jnp.pad(images, ((0, 0), (0, 0), (0, 0), (0, more[0])))
        kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, more[0]), (0, more[1])))
    # HIGHEST keeps float32 from being rounded to TF32 on a GPU; bfloat16 operands are not affected.
    convolved = lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        around,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,
    )
    return convolved[..., :outputs]


def by_matrix(
    images: Float[Array, "n y x c"], kernel: Float[Array, "p q c d"], around: Around = NONE
) -> Float[Array, "n i j d"]:
    """Convolve as patches times a matrix."""
    height, width, _, outputs = kernel.shape
    vectors = patches(_padded(images, around), height, width)
    return (_rows(vectors) @ kernel.reshape(-1, outputs)).reshape(*vectors.shape[:3], outputs)


def kernel_gradient(
    images: Float[Array, "n y x c"], slope: Float[Array, "n i j d"], shape: tuple[int, ...], around: Around = NONE
) -> Float[Array, "p q c d"]:
    """Give the gradient with respect to the kernel as a product of matrices, or one for each tap."""
    height, width, inputs, outputs = shape
    rows, columns = slope.shape[1:3]
    images = _padded(images, around)
    if _is_flat(inputs, outputs):
        return (_rows(patches(images, height, width)).T @ _rows(slope)).reshape(shape)
    corners = [(i, j) for i in range(height) for j in range(width)]
    taps = [_rows(images[:, i : i + rows, j : j + columns]).T @ _rows(slope) for i, j in corners]
    return jnp.stack(taps).reshape(shape)


def image_gradient_by_matrix(
    kernel: Float[Array, "p q c d"], slope: Float[Array, "n i j d"], around: Around = NONE
) -> Float[Array, "n y x c"]:
    """Give the gradient with respect to the images: each patch's gradient, laid where it came from."""
    height, width, inputs, outputs = kernel.shape
    spread = (_rows(slope) @ kernel.reshape(-1, outputs).T).reshape(*slope.shape[:3], height * width, inputs)
    parts = []
    for tap in range(height * width):
        i, j = divmod(tap, width)
        parts.append(jnp.pad(spread[..., tap, :], ((0, 0), (i, height - 1 - i), (j, width - 1 - j), (0, 0))))
    (top, bottom), (left, right) = around
    whole = functools.reduce(jnp.add, parts)
    return whole[:, top : whole.shape[1] - bottom, left : whole.shape[2] - right]


def image_gradient_forwards(
    kernel: Float[Array, "p q c d"], slope: Float[Array, "n i j d"], around: Around = NONE
) -> Float[Array, "n y x c"]:
    """Give the gradient with respect to the images as a convolution of the slopes with the kernel turned over."""
    (rows, columns), (down, across) = kernel.shape[:2], around
    beyond = ((rows - 1 - down[0], rows - 1 - down[1]), (columns - 1 - across[0], columns - 1 - across[1]))
    return native(slope, jnp.swapaxes(kernel[::-1, ::-1], 2, 3), beyond)


def _on_cpu(images: Array, kernel: Array, around: Around) -> Array:
    match _form(images, kernel, around):
        case "matrix":
            result = by_matrix(images, kernel, around)
        case "tiles":
            result = toomcook.convolve_in_tiles(images, kernel, around)
        case "library":
            # The gradients of a flat kernel need its patches anyway.
            result = (by_matrix if _is_flat(*kernel.shape[2:]) else native)(images, kernel, around)
    # Tiles are summed in float32 whatever comes in; the forms of both machines must give one type.
    return result.astype(images.dtype)


def _gradients_on_cpu(images: Array, kernel: Array, slope: Array, around: Around) -> tuple[Array, Array]:
    match _form(images, kernel, around):
        case "tiles":
            in_tiles = functools.partial(toomcook.convolve_in_tiles, around=around)
            result, back = jax.vjp(in_tiles, images, kernel)
            of_images, of_kernel = back(slope.astype(result.dtype))
        case "matrix":
            of_images = image_gradient_by_matrix(kernel, slope, around)
            of_kernel = kernel_gradient(images, slope, kernel.shape, around)
        case "library":
            of_images = image_gradient_forwards(kernel, slope, around)
            of_kernel = kernel_gradient(images, slope, kernel.shape, around)
    return of_images.astype(images.dtype), of_kernel.astype(kernel.dtype)


def _form(images: Array, kernel: Array, around: Around) -> Literal["matrix", "tiles", "library"]:
    """Say which form is fastest on a CPU."""
    height, width, inputs, outputs = kernel.shape
    rows, columns = images.shape[1] + sum(around[0]) - height + 1, images.shape[2] + sum(around[1]) - width + 1
    if height * width == 1 or rows * columns <= FEW_PIXELS:
        return "matrix"
    if height == width and height in toomcook.TILES and min(inputs, outputs) >= MANY_CHANNELS:
        return "tiles"
    return "library"


def _is_flat(inputs: int, outputs: int) -> bool:
    """Say whether patches cost little beside what comes of them."""
    return outputs >= MANY_OUTPUTS and inputs < FEW_INPUTS


def _native_gradients(images: Array, kernel: Array, slope: Array, around: Around) -> tuple[Array, Array]:
    of_images, of_kernel = jax.vjp(functools.partial(native, around=around), images, kernel)[1](slope)
    return of_images, of_kernel


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(images: Array, kernel: Array, around: Around) -> Array:
    cpu, default = (functools.partial(form, around=around) for form in (_on_cpu, native))
    result: Array = lax.platform_dependent(images, kernel, cpu=cpu, default=default)
    return result


def _forward(images: Array, kernel: Array, around: Around) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(images, kernel, around), (images, kernel)


def _backward(around: Around, saved: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    cpu, default = (functools.partial(form, around=around) for form in (_gradients_on_cpu, _native_gradients))
    gradients: tuple[Array, Array] = lax.platform_dependent(*saved, slope, cpu=cpu, default=default)
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
    height, width = kernel.shape[:2]
    around = NONE if padding == "VALID" else (((height - 1) // 2, height // 2), ((width - 1) // 2, width // 2))
    return _convolve(images, kernel, around)


def in_pieces(
    function: Callable[[Array], Array], images: Float[Array, "n y x c"], *, pixels: int
) -> Float[Array, "n ..."]:
    """Let a function of images take them on a CPU some at a time, so that what it makes of them stays in the cache.

    Parameters
    ----------
    function
        Gives of each image something of its own.
    images
        Any number; where it is not known yet, as in a program that is exported, it becomes known when that is called.
    pixels
        Pixels that are taken at a time, about.
    """
    count, *shape = images.shape
    piece = max(1, pixels // math.prod(shape[:2]))

    def on_cpu(images: Array) -> Array:
        pieces = (count + piece - 1) // piece
        filled = jnp.pad(images, ((0, pieces * piece - count), (0, 0), (0, 0), (0, 0)))
        parts: Array = lax.map(function, filled.reshape(pieces, piece, *shape))
        return parts.reshape(pieces * piece, *parts.shape[2:])[:count]

    if isinstance(images.shape[0], int) and count <= piece:  # type: ignore[redundant-expr]  # it may be a symbol
        return function(images)
    taken: Array = lax.platform_dependent(images, cpu=on_cpu, default=function)
    return taken


@jax.custom_vjp
def max_pool(images: Float[Array, "n y x c"]) -> Float[Array, "n i j c"]:
    """Give the largest of each 2 x 2 pixels; an odd last row or column falls away."""
    return jnp.max(_quads(images), axis=(2, 4))


def _pooled(images: Array) -> tuple[Array, tuple[Array, Array]]:
    largest = max_pool(images)
    return largest, (images, largest)


def _unpooled(saved: tuple[Array, Array], slope: Array) -> tuple[Array]:
    # The library's rule writes down which pixels are the largest, and reads that again to count them.
    images, largest = saved
    quads = _quads(images)
    among = [[quads[:, :, i, :, j] == largest for j in (0, 1)] for i in (0, 1)]
    share = slope / sum(one.astype(slope.dtype) for row in among for one in row)
    spread = jnp.where(quads == largest[:, :, None, :, None], share[:, :, None, :, None], 0)
    rows, columns = 2 * quads.shape[1], 2 * quads.shape[3]
    around = ((0, 0), (0, images.shape[1] - rows), (0, images.shape[2] - columns), (0, 0))
    return (jnp.pad(spread.reshape(images.shape[0], rows, columns, images.shape[3]), around),)


max_pool.defvjp(_pooled, _unpooled)


def average_pool(images: Float[Array, "n y x c"]) -> Float[Array, "n i j c"]:
    """Give the mean of each 2 x 2 pixels; an odd last row or column falls away."""
    quads = _quads(images)  # four terms of one sum are fused with what comes before; a mean over two axes is not
    return (quads[:, :, 0, :, 0] + quads[:, :, 0, :, 1] + quads[:, :, 1, :, 0] + quads[:, :, 1, :, 1]) / 4


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


def _padded(images: Float[Array, "n y x c"], around: Around) -> Float[Array, "n i j c"]:
    return images if around == NONE else jnp.pad(images, ((0, 0), *around, (0, 0)))
