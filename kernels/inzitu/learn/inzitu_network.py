"""The house's own network: aperture fluxes, which carry the colours, beside a small convolution, which sees the rest.

Most of a photometric redshift is in the colours, and the best weights to sum a flux with are known: the shape of the
source. Gaussian apertures of a few widths give them at once, where a convolution has to find them. What they miss,
neighbours, extent, blends, is left to a small convolution with a tenth of dcmdn-a's work. docs/benchmarks/quasars.md
has what each part brings.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from inzitu.learn.convolution import max_pool
from inzitu.learn.images import crop
from inzitu.learn.layers import Convolution, Dense
from inzitu.learn.networks import Network, Shape, Stages, check_size, last_layer

# Widths of the apertures [pixel], and how deep a flux is known in units of the normalisation: its noise is about 1/2.5.
WIDTHS = (1.2, 2.0, 3.5, 6.0)
NOISE = 0.4


class Inzitu(Network):
    """Apertures and a small convolution, joined in dense layers."""

    SIZE = 24
    LEAST = 12
    size: int

    def __init__(self, shape: Shape, outputs: int, *, scalars: int, key: Key[Array, ""], compute: DTypeLike) -> None:
        check_size(shape, least=self.LEAST)
        self.size = min(self.SIZE, *shape[:2])
        keys = iter(jax.random.split(key, 8))
        bands = shape[2]
        colours = len(WIDTHS) * bands * (bands + 1) // 2
        self.colours = Dense(colours, 96, key=next(keys))
        self.entry = Convolution(bands, 16, 3, key=next(keys), padding="SAME", compute=compute)
        self.middle = Convolution(16, 32, 3, key=next(keys), padding="SAME", compute=compute)
        self.residual = Residual(32, 64, key=next(keys), compute=compute)
        self.joint = Dense(96 + 64 + scalars, 96, key=next(keys))
        self.deep = Dense(96, 64, key=next(keys))
        self.head = last_layer(64, outputs, key=next(keys))

    def stages(self, images: Float[Array, "n y x band"], scalars: Float[Array, "n s"]) -> Stages:
        """Give name and result of each layer in turn."""
        images = crop(images, self.size)
        colours = jax.nn.silu(self.colours(apertures(images)))
        yield "apertures", colours
        values = jax.nn.silu(self.entry(images, pool=max_pool))
        yield "convolution 1", values
        values = jax.nn.silu(self.middle(values, pool=max_pool))
        yield "convolution 2", values
        values = self.residual(values)
        yield "residual", values
        joint = jax.nn.silu(self.joint(jnp.concatenate([colours, jnp.mean(values, axis=(1, 2)), scalars], axis=-1)))
        yield "joint", joint
        deep = jax.nn.silu(self.deep(joint))
        yield "deep", deep
        yield "head", self.head(deep)


class Residual(nnx.Module):
    """Two convolutions with a way around them."""

    def __init__(self, inputs: int, outputs: int, *, key: Key[Array, ""], compute: DTypeLike) -> None:
        first, second, around = jax.random.split(key, 3)
        self.first = Convolution(inputs, outputs, 3, key=first, padding="SAME", compute=compute)
        self.second = Convolution(outputs, outputs, 3, key=second, padding="SAME", compute=compute)
        self.around = Convolution(inputs, outputs, 1, key=around, compute=compute)

    def __call__(self, values: Float[Array, "n y x c"]) -> Float[Array, "n y x d"]:
        """Convolve and add."""
        return jax.nn.silu(self.second(jax.nn.silu(self.first(values))) + self.around(values))


def apertures(images: Float[Array, "n y x band"]) -> Float[Array, "n f"]:
    """Give asinh magnitudes in Gaussian apertures at the centre, and their colours.

    The images are normalised; their fluxes come back by sinh. A magnitude is asinh of the flux in units of its noise
    (Lupton, Gunn & Szalay 1999), so that a source too faint for a band has a finite colour.
    """
    weights = _weights(images.shape[1], images.shape[2])
    # The square of a weight's sum against the sum of its squares: the noise of a weighted flux.
    noise = NOISE * np.sqrt((weights**2).sum(axis=(1, 2)))
    fluxes = jnp.einsum("nyxb,wyx->nwb", jnp.sinh(images), weights, precision="highest") / noise[:, None]
    magnitudes = jnp.arcsinh(fluxes / 2)
    bands = images.shape[3]
    colours = [magnitudes[..., a] - magnitudes[..., b] for a in range(bands) for b in range(a + 1, bands)]
    flat = [magnitudes[..., band] for band in range(bands)]
    # Magnitudes run to 7, colours to 4: brought to about one.
    return jnp.concatenate([jnp.concatenate(flat, axis=-1) / 4, *colours], axis=-1)


def _weights(rows: int, columns: int) -> Float[np.ndarray, "w y x"]:
    y, x = np.mgrid[:rows, :columns]
    square = (y - (rows - 1) / 2) ** 2 + (x - (columns - 1) / 2) ** 2
    return np.stack([np.exp(-square / (2 * width**2)) for width in WIDTHS]).astype(np.float32)
