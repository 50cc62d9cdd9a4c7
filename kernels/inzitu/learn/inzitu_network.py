"""The house's own network: aperture fluxes, which carry the colours, beside a small convolution, which sees the rest.

Most of a photometric redshift is in the colours, and the best weights to sum a flux with are known: the shape of the
source. Gaussian apertures give them at once, where a convolution has to find them. What they miss, neighbours, extent,
blends, is left to a small convolution with a hundredth of dcmdn-a's work. docs/benchmarks/quasars.md has what each part
brings.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from inzitu.learn.convolution import average_pool, max_pool
from inzitu.learn.images import crop
from inzitu.learn.layers import Convolution, Dense
from inzitu.learn.networks import Network, Shape, Stages, check_size, last_layer

# Width of the aperture that the colours are taken in, and of those that tell how extended a source is [pixel].
WIDTH, OTHER_WIDTHS = 2.2, (1.2, 3.5)
# How deep a flux is known in units of the normalisation: its noise is about 1/2.5.
NOISE = 0.4
# Share of the values that a training drops after a layer (Srivastava et al. 2014, JMLR 15, 1929). It drops most of what
# the convolution says, so that a few hundred sources are not learned by heart.
DROPPED, DROPPED_SHAPES = 0.1, 0.5


class Inzitu(Network):
    """Apertures and a small convolution, joined in dense layers."""

    SIZE = 24
    LEAST = 12
    size: int

    def __init__(self, shape: Shape, outputs: int, *, scalars: int, key: Key[Array, ""], compute: DTypeLike) -> None:
        check_size(shape, least=self.LEAST)
        self.size = min(self.SIZE, *shape[:2])
        keys = iter(jax.random.split(key, 5))
        bands = shape[2]
        fluxes = bands * (bands + 1) // 2 + len(OTHER_WIDTHS) * bands
        self.entry = Convolution(bands, 16, 3, key=next(keys), padding="SAME", compute=compute)
        self.middle = Convolution(16, 32, 3, key=next(keys), padding="SAME", compute=compute)
        self.joint = Dense(fluxes + 32 + scalars, 64, key=next(keys))
        self.deep = Dense(64, 64, key=next(keys))
        self.head = last_layer(64, outputs, key=next(keys))

    def stages(
        self, images: Float[Array, "n y x band"], scalars: Float[Array, "n s"], *, key: Key[Array, ""] | None = None
    ) -> Stages:
        """Give name and result of each layer in turn."""
        dropped = _dropping(key)
        images = crop(images, self.size)
        fluxes = apertures(images)
        yield "apertures", fluxes
        values = jax.nn.silu(self.entry(average_pool(images), pool=max_pool))
        yield "convolution 1", values
        values = jax.nn.silu(self.middle(values))
        yield "convolution 2", values
        shapes = dropped(jnp.mean(values, axis=(1, 2)), DROPPED_SHAPES)
        values = dropped(jax.nn.silu(self.joint(jnp.concatenate([fluxes, shapes, scalars], axis=-1))), DROPPED)
        yield "joint", values
        values = dropped(jax.nn.silu(self.deep(values)), DROPPED)
        yield "deep", values
        yield "head", self.head(values)


def _dropping(key: Key[Array, ""] | None) -> Callable[[Array, float], Array]:
    """Give what drops a share of values, each time others; without a key none."""
    if key is None:
        return lambda values, _: values
    keys = iter(jax.random.split(key, 3))
    return lambda values, share: values * jax.random.bernoulli(next(keys), 1 - share, values.shape) / (1 - share)


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
    # Magnitudes run to 7, concentrations to a few tenths: brought to about one.
    return jnp.concatenate([first - 3, *colours, *[4 * (other - first) for other in others]], axis=-1)


def _weights(rows: int, columns: int) -> Float[np.ndarray, "w y x"]:
    y, x = np.mgrid[:rows, :columns]
    square = (y - (rows - 1) / 2) ** 2 + (x - (columns - 1) / 2) ** 2
    return np.stack([np.exp(-square / (2 * width**2)) for width in (WIDTH, *OTHER_WIDTHS)]).astype(np.float32)
