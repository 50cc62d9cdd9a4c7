"""The house's own network: aperture fluxes and the scalars, in dense layers.

Most of a photometric redshift is in the colours, and the best weights to sum a flux with are known: the shape of the
source. Gaussian apertures give them at once, and the extent of the source beside them, where a convolution has to find
them in the noise of each pixel. docs/benchmarks/quasars.md has what a convolution beside them brings: nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from inzitu.learn.images import crop
from inzitu.learn.layers import Dense
from inzitu.learn.networks import Network, Shape, Stages, check_size, last_layer

# Width of the aperture that the colours are taken in, and of those that tell how extended a source is [pixel].
WIDTH, OTHER_WIDTHS = 2.2, (1.2, 3.5)
# How deep a flux is known in units of the normalisation: its noise is about 1/2.5.
NOISE = 0.4
LEAST_DEVIATION = 0.05
# Share of the values that a training drops after a layer (Srivastava et al. 2014, JMLR 15, 1929).
DROPPED = 0.3
UNITS = 64


class Inzitu(Network):
    """Apertures and scalars, joined in dense layers."""

    SIZE = 24
    LEAST = 12
    size: int

    def __init__(self, shape: Shape, outputs: int, *, scalars: int, key: Key[Array, ""], compute: DTypeLike) -> None:
        check_size(shape, least=self.LEAST)
        self.size = min(self.SIZE, *shape[:2])
        keys = iter(jax.random.split(key, 3))
        bands = shape[2]
        fluxes = bands * (bands + 1) // 2 + len(OTHER_WIDTHS) * bands
        self.centre, self.deviation = nnx.Param(jnp.zeros(fluxes)), nnx.Param(jnp.ones(fluxes))
        self.joint = Dense(fluxes + scalars, UNITS, key=next(keys), compute=compute)
        self.deep = Dense(UNITS, UNITS, key=next(keys), compute=compute)
        self.head = last_layer(UNITS, outputs, key=next(keys))

    def begin_at(self, bias: Float[Array | np.ndarray, " o"], images: Float[Array, "n y x band"] | None = None) -> None:
        """Let the outputs begin at given values, and magnitudes and colours at mean 0 and deviation 1."""
        super().begin_at(bias, images)
        if images is not None:
            seen = apertures(crop(images, self.size))
            self.centre[...] = jnp.mean(seen, axis=0)
            self.deviation[...] = jnp.maximum(jnp.std(seen, axis=0), LEAST_DEVIATION)

    def stages(
        self, images: Float[Array, "n y x band"], scalars: Float[Array, "n s"], *, key: Key[Array, ""] | None = None
    ) -> Stages:
        """Give name and result of each layer in turn."""
        dropped = _dropping(key)
        fluxes = (apertures(crop(images, self.size)) - self.centre[...]) / self.deviation[...]
        yield "apertures", fluxes
        values = dropped(jax.nn.silu(self.joint(jnp.concatenate([fluxes, scalars], axis=-1))))
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


def apertures(images: Float[Array, "n y x band"]) -> Float[Array, "n f"]:
    """Give asinh magnitudes in a Gaussian aperture at the centre, their colours, and the differences to other widths.

    The images are normalised; their fluxes come back by sinh. A magnitude is asinh of the flux in units of its noise
    (Lupton, Gunn & Szalay 1999), so that a source too faint for a band has a finite colour.
    """
    weights = _weights(images.shape[1], images.shape[2])
    # The square of a weight's sum against the sum of its squares: the noise of a weighted flux.
    noise = NOISE * np.sqrt((weights**2).sum(axis=(1, 2)))
    fluxes = jnp.einsum("nyxb,wyx->wnb", jnp.sinh(images), weights, precision="highest") / noise[:, None, None]
    first, *others = jnp.arcsinh(fluxes / 2)
    bands = images.shape[3]
    colours = [first[:, [a]] - first[:, [b]] for a in range(bands) for b in range(a + 1, bands)]
    return jnp.concatenate([first, *colours, *[other - first for other in others]], axis=-1)


def _weights(rows: int, columns: int) -> Float[np.ndarray, "w y x"]:
    y, x = np.mgrid[:rows, :columns]
    square = (y - (rows - 1) / 2) ** 2 + (x - (columns - 1) / 2) ** 2
    return np.stack([np.exp(-square / (2 * width**2)) for width in (WIDTH, *OTHER_WIDTHS)]).astype(np.float32)
