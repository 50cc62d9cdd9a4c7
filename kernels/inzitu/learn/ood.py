"""How unlike the training sources a source is, by its colours: the out-of-domain score of a row.

A network sees quasars beyond its training redshifts as the most similar ones that it knows, and is sure of them. Their
colours tell: the flux within a small aperture, in each band, divided between neighbouring bands. The score is the place
of a row's distance to its nearest training rows among the training rows' own such distances. All is arrays and
JAX-traceable, so it can be a part of an exported program. Measured in docs/benchmarks/scores.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from inzitu.learn.precision import pytree

NEIGHBOURS = 10
MOST_REFERENCES = 2048
APERTURE = 4.0  # radius [pixel]
# Fluxes below so many times the aperture's noise count as noise: a ratio of two of them is no colour.
SOFTENING = 5.0
FARTHEST = 1e30  # [sigma]: sums of more would not be finite


@pytree
@dataclass(frozen=True, slots=True)
class OodModel:
    """The training rows' colours, scaled, and how far apart they are.

    Attributes
    ----------
    references
        Scaled features of training rows; [m, f].
    centre, scale
        Mean and standard deviation of the features; [f].
    distances
        Distance of each reference from its neighbours, ascending; [m].
    """

    references: Any
    centre: Any
    scale: Any
    distances: Any

    @classmethod
    def fit(cls, features: Float[np.ndarray, "n f"], *, seed: int = 0) -> OodModel:
        """Learn what is usual from the features of the training rows.

        Raises
        ------
        ValueError
            Too few rows, or values that are not finite.
        """
        features = np.asarray(features, np.float64)
        if len(features) <= NEIGHBOURS or not np.isfinite(features).all():
            raise ValueError(
                f"An out-of-domain score needs more than {NEIGHBOURS} rows of finite features; got {len(features)}."
            )
        if len(features) > MOST_REFERENCES:
            features = np.random.default_rng(seed).choice(features, MOST_REFERENCES, replace=False)
        centre, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
        references = jnp.asarray((features - centre) / scale, jnp.float32)
        # The nearest of a reference is itself.
        own = np.sort(np.asarray(_distances(references, references, skip=1)))
        return cls(np.asarray(references), centre.astype(np.float32), scale.astype(np.float32), own)

    def score(self, features: Float[Array, "n f"]) -> Float[Array, " n"]:
        """Give 0 for the most usual row, 0.5 for one in the midst, near 1 for one farther off than any reference."""
        scaled = (features - self.centre) / self.scale
        distance = _distances(jnp.asarray(scaled, jnp.float32), jnp.asarray(self.references))
        own = jnp.asarray(self.distances)
        places = jnp.arange(1, own.size + 1) / (own.size + 1)
        # Beyond the last reference the score still tells near from far.
        beyond = 1.0 - own[-1] / jnp.maximum(distance, own[-1]) / (own.size + 1)
        return jnp.where(distance < own[-1], jnp.interp(distance, own, places, left=0.0), beyond)

    def arrays(self) -> dict[str, np.ndarray]:
        """Give the arrays by name, for safetensors; `OodModel(**arrays)` has them back."""
        return {name: np.asarray(getattr(self, name)) for name in ("references", "centre", "scale", "distances")}


def colours(images: Float[Array, "n y x band"], sigmas: Float[Array, " band"]) -> Float[Array, "n c"]:
    """Give the differences of neighbouring bands' asinh magnitudes within the aperture; of one band the magnitude.

    Parameters
    ----------
    images
        Images in the archive's units, the source in the middle.
    sigmas
        Noise of a pixel in each band [unit of the images].
    """
    rows, columns, bands = images.shape[1:]
    y, x = np.mgrid[:rows, :columns]
    inside = np.hypot(y - (rows - 1) / 2, x - (columns - 1) / 2) < APERTURE
    scaled = jnp.clip(images / jnp.asarray(sigmas), -FARTHEST, FARTHEST)
    fluxes = jnp.einsum("nyxb,yx->nb", scaled, jnp.asarray(inside, images.dtype))
    magnitudes = jnp.arcsinh(fluxes / (SOFTENING * np.sqrt(inside.sum())))
    return magnitudes if bands == 1 else magnitudes[:, :-1] - magnitudes[:, 1:]


def _distances(features: Float[Array, "n f"], references: Float[Array, "m f"], *, skip: int = 0) -> Float[Array, " n"]:
    """Give the mean distance to the nearest references."""
    squares = jnp.sum(features**2, axis=1)[:, None] + jnp.sum(references**2, axis=1)
    apart = jnp.sqrt(jnp.maximum(squares - 2.0 * jnp.matmul(features, references.T, precision="highest"), 0.0))
    return jnp.mean(jnp.sort(apart, axis=1)[:, skip : skip + NEIGHBOURS], axis=1)
