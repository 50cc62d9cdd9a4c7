"""A histogram as the PDF of a redshift: probabilities of equal bins on 0 <= z <= max_val.

The density is constant within a bin, so the CDF is exactly piecewise linear and every score below is that of this
continuous distribution, not of points at the bins' places. A bin's value, where one is needed, is its centre; a label
equal to `max_val` is in the last bin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from inzitu.learn.precision import float64_outside, pytree


@pytree
@dataclass(frozen=True, slots=True)
class Histogram:
    """Histograms of equal bins, batched over any leading axes; methods as of `inzitu.learn.mixture.Mixture`.

    Attributes
    ----------
    probabilities
        Probability of each bin, summing to one; [..., bin].
    max_val
        Upper edge of the last bin; the lower edge of the first is zero.
    """

    probabilities: Any
    max_val: float = field(metadata={"static": True})

    def __post_init__(self) -> None:
        if not self.max_val > 0.0:
            raise ValueError(f"max_val is {self.max_val:g}; a histogram of redshifts needs an upper edge above zero.")

    @property
    def num_bins(self) -> int:
        """The number of bins."""
        return int(jnp.shape(self.probabilities)[-1])

    @property
    def width(self) -> float:
        """The width of a bin."""
        return self.max_val / self.num_bins

    @float64_outside
    def pdf(self, z: Float[Array, "*#n"]) -> Float[Array, "*#n"]:
        """Give the probability density at z."""
        inside = (z >= 0.0) & (z <= self.max_val)
        index = bin_of(z, num_bins=self.num_bins, max_val=self.max_val)
        taken = jnp.take_along_axis(*aligned(self.probabilities, index), axis=-1)[..., 0]
        return jnp.where(inside, taken / self.width, 0.0)

    @float64_outside
    def cdf(self, z: Float[Array, "*#n"]) -> Float[Array, "*#n"]:
        """Give the probability of a redshift below z."""
        return cdf(self.probabilities, z, self.max_val)

    @float64_outside
    def quantile(self, q: Float[Array, "*#n"]) -> Float[Array, "*#n"]:
        """Give the redshift below which a share q of the probability lies: the CDF's exact inverse."""
        below, above = edges_cdf(self.probabilities)
        q = jnp.asarray(q, below.dtype) * above[..., -1]
        # The first bin whose upper edge reaches q; empty bins before it are passed over.
        index = jnp.minimum(jnp.sum(above < q[..., None], axis=-1), self.num_bins - 1)
        at = [jnp.take_along_axis(*aligned(array, index), axis=-1)[..., 0] for array in (below, self.probabilities)]
        share = jnp.clip((q - at[0]) / jnp.maximum(at[1], np.finfo(below.dtype).tiny), 0.0, 1.0)
        return self.width * (index + share)

    def median(self) -> Any:
        """Give the redshift that halves the probability."""
        return self.quantile(0.5)

    @float64_outside
    def mean(self) -> Float[Array, "*n"]:
        """Give the expected redshift."""
        return jnp.sum(self.probabilities * self._centres(), axis=-1)

    @float64_outside
    def std(self) -> Float[Array, "*n"]:
        """Give the standard deviation, that within a bin included."""
        offsets = self._centres() - jnp.sum(self.probabilities * self._centres(), axis=-1, keepdims=True)
        return jnp.sqrt(jnp.sum(self.probabilities * jnp.square(offsets), axis=-1) + self.width**2 / 12.0)

    @float64_outside
    def mode(self) -> Float[Array, "*n"]:
        """Give the centre of the most probable bin."""
        return self.width * (jnp.argmax(self.probabilities, axis=-1) + 0.5)

    def sample(self, *, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, " ..."]:
        """Draw redshifts: `shape` draws of each histogram, ahead of the leading axes."""
        uniform = jax.random.uniform(key, (*shape, *jnp.shape(self.probabilities)[:-1]))
        return jnp.asarray(self.quantile(uniform))

    def _centres(self) -> Float[Array, " bin"]:
        return centres(self.num_bins, self.max_val, dtype=self.probabilities.dtype)


def centres(num_bins: int, max_val: float, *, dtype: Any = jnp.float32) -> Float[Array, " bin"]:
    """Give the centres of the bins."""
    return (jnp.arange(num_bins, dtype=dtype) + 0.5) * (max_val / num_bins)


def bin_of(z: Float[Array, "*n"], *, num_bins: int, max_val: float | Float[Array, ""]) -> Int[Array, "*n"]:
    """Give the bin that holds z; `max_val` is in the last, and what lies outside counts for the nearest."""
    return jnp.clip(jnp.floor(z * (num_bins / max_val)), 0, num_bins - 1).astype(jnp.int32)


def edges_cdf(probabilities: Float[Array, "*n bin"]) -> tuple[Float[Array, "*n bin"], Float[Array, "*n bin"]]:
    """Give the CDF at the lower and at the upper edge of each bin."""
    above = jnp.cumsum(probabilities, axis=-1)
    return above - probabilities, above


def shares_below(z: Float[Array, "*n"], num_bins: int, max_val: float | Float[Array, ""]) -> Float[Array, "*n bin"]:
    """Give the share of each bin that lies below z."""
    return jnp.clip(z[..., None] * (num_bins / max_val) - jnp.arange(num_bins), 0.0, 1.0)


def cdf(
    probabilities: Float[Array, "*#n bin"], z: Float[Array, "*#n"], max_val: float | Float[Array, ""]
) -> Float[Array, "*#n"]:
    """Give the probability of a redshift below z."""
    return jnp.sum(probabilities * shares_below(z, probabilities.shape[-1], max_val), axis=-1)


def aligned(values: Float[Array, " ..."], index: Int[Array, " ..."]) -> tuple[Array, Array]:
    """Give the values and the index of one bin for each row with equal leading axes, for take_along_axis."""
    leading = jnp.broadcast_shapes(values.shape[:-1], index.shape)
    return jnp.broadcast_to(values, (*leading, values.shape[-1])), jnp.broadcast_to(index, leading)[..., None]
