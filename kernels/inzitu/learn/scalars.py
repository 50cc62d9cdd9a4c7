"""The numbers that come with an image, as E(B-V) or a magnitude: by name, scaled as the training rows are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class ScalarsError(ValueError):
    """A number that the network takes is not given."""


@dataclass(frozen=True, slots=True)
class ScalarScale:
    """Centre and width of each scalar.

    Attributes
    ----------
    centres, widths
        Mean and standard deviation over the training rows; a scalar that is the same in all of them has width one.
    """

    centres: tuple[float, ...] = ()
    widths: tuple[float, ...] = ()

    @classmethod
    def measure(cls, columns: Float[np.ndarray, "n s"]) -> ScalarScale:
        """Measure the training rows."""
        if not columns.shape[1]:
            return cls()
        widths = columns.std(axis=0)
        return cls(tuple(columns.mean(axis=0).tolist()), tuple(np.where(widths > 0, widths, 1.0).tolist()))

    def apply(self, columns: Float[Array | np.ndarray, "n s"]) -> Float[Array, "n s"]:
        """Centre and scale."""
        centres, widths = (jnp.asarray(values, jnp.float32) for values in (self.centres, self.widths))
        return (jnp.asarray(columns, jnp.float32) - centres) / widths


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
