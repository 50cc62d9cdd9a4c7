"""A network of a thousand parameters, and images whose redshift is their colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from inzitu.learn import networks
from inzitu.learn.convolution import max_pool
from inzitu.learn.layers import Convolution, Dense
from inzitu.learn.networks import Network, Shape, Stages

if TYPE_CHECKING:
    import pytest
    from jax.typing import DTypeLike


class Tiny(Network):
    def __init__(self, shape: Shape, outputs: int, *, scalars: int, key: jax.Array, compute: DTypeLike) -> None:
        keys = jax.random.split(key, 3)
        self.convolution = Convolution(shape[2], 8, 3, key=keys[0], compute=compute)
        side = (shape[0] - 2) // 2
        self.dense = Dense(side * side * 8 + scalars, 32, key=keys[1])
        self.head = Dense(32, outputs, key=keys[2], initial=jax.nn.initializers.normal(0.01))

    def stages(self, images: jax.Array, scalars: jax.Array, *, key: jax.Array | None = None) -> Stages:
        values = max_pool(jax.nn.relu(self.convolution(images)))
        yield "convolution", values
        values = jnp.tanh(self.dense(jnp.concatenate([values.reshape(values.shape[0], -1), scalars], axis=-1)))
        yield "dense", values
        yield "head", self.head(values)


def offer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.DESIGNS, "tiny", (Tiny, (8, 8, 2)))


def coloured(rows: int, *, seed: int = 0, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Point sources in two bands with some noise; the redshift is the ratio of the fluxes."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.5, 1.5, rows)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    source = np.exp(-(x**2 + y**2) / 4)
    bright = rng.uniform(20, 100, rows)
    images = np.stack([bright, bright * z], axis=-1)[:, None, None, :] * source[None, :, :, None]
    return (images + rng.normal(size=images.shape)).astype(np.float32), z.astype(np.float32)


def thirds(rows: int) -> np.ndarray:
    """Two thirds to train, a sixth to validate, a sixth to test."""
    return np.resize(np.array([0, 0, 0, 0, 1, 2], np.int8), rows)
