"""The house's own network: the photometry of the source at the centre, and the scalars, in dense layers.

Most of a photometric redshift is in the colours, and the best weights to sum a flux with are known: the shape of the
source. A fit gives them at once, and the extent of the source beside them, where a convolution has to find them in the
noise of each pixel. docs/benchmarks/quasars.md has what a convolution beside them brings: nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from inzitu.learn.images import crop
from inzitu.learn.layers import Dense
from inzitu.learn.networks import Network, Shape, Stages, check_size, last_layer
from inzitu.learn.photometry import Widths, expected, measure

# Deviation of a pixel in units of the normalisation's scale, about: an image is asinh(flux / (2.5 sigma)).
NOISE = 0.4
LEAST_DEVIATION = 0.05
# Share of the values that a training drops after a layer (Srivastava et al. 2014, JMLR 15, 1929).
DROPPED = 0.3
UNITS = 64


class Inzitu(Network):
    """Magnitudes, colours, extent and scalars, joined in dense layers."""

    SIZE = 16
    """What it looks at, at most [pixel]: in 24 it finds the same in seven times as long, being out of the caches."""
    LEAST = 12
    size: int

    def __init__(self, shape: Shape, outputs: int, *, scalars: int, key: Key[Array, ""], compute: DTypeLike) -> None:
        check_size(shape, least=self.LEAST)
        self.size = min(self.SIZE, *shape[:2])
        keys = iter(jax.random.split(key, 3))
        bands = shape[2]
        values = bands * (bands + 1) // 2 + 1
        # What to expect of widths: measured on training images, and left by the training as it is.
        self.mean_width, self.width_deviation = nnx.Param(jnp.zeros(bands)), nnx.Param(jnp.ones(()))
        self.centre, self.deviation = nnx.Param(jnp.zeros(values)), nnx.Param(jnp.ones(values))
        self.joint = Dense(values + scalars, UNITS, key=next(keys), compute=compute)
        self.deep = Dense(UNITS, UNITS, key=next(keys), compute=compute)
        self.head = last_layer(UNITS, outputs, key=next(keys))

    def begin_at(self, bias: Float[Array | np.ndarray, " o"], images: Float[Array, "n y x band"] | None = None) -> None:
        """Let the outputs begin at given values; learn how wide sources are, and what is usual of them."""
        super().begin_at(bias, images)
        if images is not None:
            seen = crop(images, self.size)
            widths = expected(jnp.sinh(seen), NOISE)
            self.mean_width[...], self.width_deviation[...] = widths.mean, widths.deviation
            values = photometry(seen, widths)
            self.centre[...] = jnp.mean(values, axis=0)
            self.deviation[...] = jnp.maximum(jnp.std(values, axis=0), LEAST_DEVIATION)

    def stages(
        self, images: Float[Array, "n y x band"], scalars: Float[Array, "n s"], *, key: Key[Array, ""] | None = None
    ) -> Stages:
        """Give name and result of each layer in turn."""
        dropped = _dropping(key)
        widths = lax.stop_gradient(Widths(self.mean_width[...], self.width_deviation[...]))
        values = (photometry(crop(images, self.size), widths) - self.centre[...]) / self.deviation[...]
        yield "photometry", values
        values = dropped(jax.nn.silu(self.joint(jnp.concatenate([values, scalars], axis=-1))))
        yield "joint", values
        values = dropped(jax.nn.silu(self.deep(values)))
        yield "deep", values
        yield "head", self.head(values)


def _dropping(key: Key[Array, ""] | None) -> Callable[[Array], Array]:
    """Give what drops some of the values, each time others; without a key none."""
    if key is None:
        return lambda values: values
    keys, kept = iter(jax.random.split(key, 2)), 1 - DROPPED
    return lambda values: values * jax.random.bernoulli(next(keys), kept, values.shape) / kept


def photometry(images: Float[Array, "n y x band"], widths: Widths) -> Float[Array, "n f"]:
    """Give asinh magnitudes of the source at the centre, their colours, and how much wider than expected it is.

    The images are normalised; their fluxes come back by sinh. A magnitude is asinh of the flux in units of its noise
    (Lupton, Gunn & Szalay 1999), so that a source too faint for a band has a finite colour.
    """
    sources = measure(jnp.sinh(images), NOISE, widths)
    magnitudes = jnp.arcsinh(sources.fluxes / (2 * sources.noise))
    bands = images.shape[3]
    colours = [magnitudes[:, [a]] - magnitudes[:, [b]] for a in range(bands) for b in range(a + 1, bands)]
    extent = jnp.mean(sources.widths - widths.mean, axis=1, keepdims=True)
    return jnp.concatenate([magnitudes, *colours, extent], axis=-1)
