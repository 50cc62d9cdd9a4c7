"""The numbers that come with an image, as E(B-V) or a magnitude: by name, along the axes on which they spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Spread along a principal axis, where that of each scalar is 1, below which there is only rounding.
LEAST_SPREAD = 1e-5


class ScalarsError(ValueError):
    """A number that the network takes is not given."""


@dataclass(frozen=True, slots=True)
class ScalarScale:
    """Where the scalars of the training rows lie, and along which axes they spread.

    Magnitudes of several bands rise and fall together; what tells redshifts apart are their small differences. Along
    the principal axes each is a number of its own, with deviation one.

    Attributes
    ----------
    centres
        Mean of each scalar over the training rows.
    axes
        For each scalar its share in each of the numbers that a network sees.
    """

    centres: tuple[float, ...] = ()
    axes: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def measure(cls, columns: Float[np.ndarray, "n s"]) -> ScalarScale:
        """Measure the training rows. A scalar that is the same in all of them is only centred."""
        if not columns.shape[1]:
            return cls()
        centres, widths = columns.mean(axis=0), columns.std(axis=0)
        widths = np.where(widths > 0, widths, 1.0)
        scaled = (columns - centres) / widths
        spreads, axes = np.linalg.eigh(scaled.T @ scaled / len(columns))
        # What hardly spreads, as the difference of two names for one number, is rounding and stays small.
        axes = axes / np.where(spreads > LEAST_SPREAD, np.sqrt(np.maximum(spreads, LEAST_SPREAD)), 1.0)
        return cls(tuple(centres.tolist()), tuple(map(tuple, (axes / widths[:, None]).tolist())))

    def apply(self, columns: Float[Array | np.ndarray, "n s"]) -> Float[Array, "n s"]:
        """Centre, turn and scale."""
        if not self.centres:
            return jnp.asarray(columns, jnp.float32)
        centred = jnp.asarray(columns, jnp.float32) - jnp.asarray(self.centres, jnp.float32)
        return jnp.matmul(centred, jnp.asarray(self.axes, jnp.float32), precision="highest")


def stacked(
    names: tuple[str, ...], scalars: Mapping[str, Float[np.ndarray, " n"]], rows: int
) -> Float[np.ndarray, "n s"]:
    """Put scalars side by side in the order of their names.

    Raises
    ------
    ScalarsError
        One is not there, or not finite in some rows.
    """
    columns = np.zeros((rows, len(names)))
    for place, name in enumerate(names):
        if name not in scalars:
            given = ", ".join(sorted(scalars)) or "none"
            raise ScalarsError(f"the network takes the scalar {name!r}; given are {given}")
        columns[:, place] = scalars[name]
        if bad := np.flatnonzero(~np.isfinite(columns[:, place])).tolist():
            some = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
            raise ScalarsError(f"the scalar {name!r} is missing in {len(bad)} rows ({some}): leave these rows out")
    return columns
