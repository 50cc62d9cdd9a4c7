"""The layers that the networks of the house are made of."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from inzitu.learn.convolution import convolve
from inzitu.learn.images import difference_matrix

Initial = Callable[..., Array]
Pool = Callable[[Array], Array]
ORTHOGONAL: Initial = jax.nn.initializers.orthogonal()
GLOROT: Initial = jax.nn.initializers.glorot_uniform()


def as_they_are(values: Array) -> Array:
    """Pool nothing."""
    return values


class Convolution(nnx.Module):
    """A convolution at stride 1 with a bias for each output channel.

    Parameters
    ----------
    inputs, outputs
        Channels in and out.
    size
        Height and width of the kernel [pixel].
    padding
        ``"VALID"`` or ``"SAME"``.
    initial, bias
        How the kernel begins, and the value of all biases.
    compute
        Type to multiply in, and of the results: what is kept for the way back is half as much in bfloat16. Sums and
        parameters are float32.
    key
        Where the kernel's first values come from.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        key: Key[Array, ""],
        padding: str = "VALID",
        initial: Initial = ORTHOGONAL,
        bias: float = 0.0,
        compute: DTypeLike = jnp.float32,
    ) -> None:
        self.kernel = nnx.Param(initial(key, (size, size, inputs, outputs), jnp.float32))
        # Typed, or JAX would let it, its sum and its gradient be of the type of what it is added to.
        self.bias = nnx.Param(jnp.full(outputs, bias, jnp.float32))
        self.padding, self.compute = padding, jnp.dtype(compute)

    def __call__(self, images: Float[Array, "n y x c"], *, pool: Pool = as_they_are) -> Float[Array, "n i j d"]:
        """Convolve, pool, and add the biases: of a maximum that gives the same bits in a quarter of the sums."""
        return self.affine(images, self.kernel[...], self.bias[...], pool=pool)

    def affine(
        self,
        images: Float[Array, "n y x c"],
        kernel: Float[Array, "p q c d"],
        bias: Float[Array, " d"],
        *,
        pool: Pool = as_they_are,
    ) -> Float[Array, "n i j d"]:
        """Convolve with a given kernel, pool, and add given biases."""
        product = convolve(images.astype(self.compute), kernel.astype(self.compute), padding=self.padding)
        return (pool(product) + bias).astype(self.compute)


class DifferenceConvolution(Convolution):
    """A convolution of the bands and all their pairwise differences that never forms the differences.

    It is linear, so its kernel folds to one over the bands: W'_a = W_a + sum_{b>a} W_ab - sum_{b<a} W_ba. The values
    that are trained are the unfolded ones, as in the paper; the work is a third for five bands.
    """

    def __init__(
        self, bands: int, outputs: int, size: int, *, key: Key[Array, ""], compute: DTypeLike = jnp.float32
    ) -> None:
        super().__init__(bands * (bands + 1) // 2, outputs, size, key=key, compute=compute)
        self.bands = bands

    def __call__(self, images: Float[Array, "n y x band"], *, pool: Pool = as_they_are) -> Float[Array, "n i j d"]:
        """Convolve with the folded kernel."""
        return self.affine(images, self.folded(), self.bias[...], pool=pool)

    def folded(self) -> Float[Array, "p q band d"]:
        """Give the kernel over the bands alone."""
        return jnp.einsum("pqcd,bc->pqbd", self.kernel[...], difference_matrix(self.bands), precision="highest")


class Dense(nnx.Module):
    """A matrix and a bias.

    Parameters
    ----------
    inputs, outputs
        Numbers in and out.
    initial
        How the matrix begins.
    bias
        The value of all biases.
    compute
        Type to multiply in; sums and results are float32.
    key
        Where the matrix's first values come from.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        key: Key[Array, ""],
        initial: Initial = GLOROT,
        bias: float = 0.0,
        compute: DTypeLike = jnp.float32,
    ) -> None:
        self.kernel = nnx.Param(initial(key, (inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.full(outputs, bias, jnp.float32))
        self.compute = jnp.dtype(compute)

    def __call__(self, vectors: Float[Array, "n c"]) -> Float[Array, "n d"]:
        """Multiply and add."""
        kernel = self.kernel[...].astype(self.compute)
        product = jnp.dot(vectors.astype(self.compute), kernel, precision="highest", preferred_element_type=jnp.float32)
        return product + self.bias[...]


class Prelu(nnx.Module):
    """A rectifier whose negative slope is learned for each channel (He et al. 2015, arXiv:1502.01852, eq. 1)."""

    def __init__(self, channels: int) -> None:
        self.slope = nnx.Param(jnp.full(channels, 0.25, jnp.float32))

    def __call__(self, values: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
        """Rectify."""
        return rectify(values, self.slope[...])


def rectify(values: Float[Array, "*n c"], slope: Float[Array, " c"]) -> Float[Array, "*n c"]:
    """Rectify with a slope below zero for each channel."""
    return (jnp.maximum(values, 0) + slope * jnp.minimum(values, 0)).astype(values.dtype)
