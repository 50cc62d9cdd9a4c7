"""A mixture of normal distributions as the PDF of a redshift: 3 k numbers with closed forms for nearly everything.

A mixture may be truncated: conditional on z >= `lower`. The weights, means and widths then are those of the normal
distributions before truncation. Scores are in `inzitu.learn.scores`, heads that make mixtures in `inzitu.learn.heads`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key

from inzitu.learn import gaussian, tails
from inzitu.learn.precision import float64_outside, pytree

# A width of zero is a point; the score of a point is the limit, not a division by zero. The likelihood's gradient by
# the width is t^2/s: it must not overflow float32.
NARROWEST = 1e-12
_CLIMBS = 60  # steps of mean shift from each component's mean


@pytree
@dataclass(frozen=True, slots=True)
class Mixture:
    """Mixtures of k normal distributions, batched over any leading axes.

    The methods take and give JAX arrays, or compute in float64 where the mixture holds numpy arrays (see
    `inzitu.learn.precision`). Their argument broadcasts against the leading axes.

    Attributes
    ----------
    weights
        Shares of the components, summing to one; [..., k].
    means, sigmas
        Means and widths of the components; [..., k].
    lower
        The PDF is truncated here and renormalised; -inf leaves it whole.
    """

    weights: Any
    means: Any
    sigmas: Any
    lower: float = field(default=-math.inf, metadata={"static": True})

    def __post_init__(self) -> None:
        shapes = {jnp.shape(array) for array in (self.weights, self.means, self.sigmas)}
        if len(shapes) > 1 or shapes == {()}:
            raise ValueError(
                f"A mixture needs weights, means and sigmas of one shape [..., k]; got {sorted(shapes, key=str)}."
            )

    @float64_outside
    def pdf(self, z: Float[Array, "*#n"]) -> Float[Array, "*#n"]:
        """Give the probability density at z."""
        return jnp.exp(log_pdf(log_of(self.weights), self.means, self.sigmas, z, lower=self.lower))

    @float64_outside
    def log_pdf(self, z: Float[Array, "*#n"]) -> Float[Array, "*#n"]:
        """Give the logarithm of the probability density at z, right where the density itself is too small to hold."""
        return log_pdf(log_of(self.weights), self.means, self.sigmas, z, lower=self.lower)

    @float64_outside
    def cdf(self, z: Float[Array, "*#n"]) -> Float[Array, "*#n"]:
        """Give the probability of a redshift below z."""
        return cdf(self.weights, self.means, self.sigmas, z, lower=self.lower)

    @float64_outside
    def quantile(self, q: Float[Array, "*#n"]) -> Float[Array, "*#n"]:
        """Give the redshift below which a share q of the probability lies.

        Bisection of one bracket that is the same for every q, so that quantiles never cross, down to the last bit.
        """
        single = self.weights.dtype == jnp.float32
        far, halvings = (13.0, 40) if single else (38.0, 70)
        reach = far * self.sigmas
        low = jnp.maximum(jnp.min(self.means - reach, axis=-1), self.lower)
        high = jnp.maximum(jnp.max(self.means + reach, axis=-1), low + _far_above(self, far))
        low, high, _ = jnp.broadcast_arrays(low, high, jnp.asarray(q))
        bracket: tuple[Array, Array] = (low, high)

        def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = low + 0.5 * (high - low)
            below = cdf(self.weights, self.means, self.sigmas, middle, lower=self.lower) < q
            return jnp.where(below, middle, low), jnp.where(below, high, middle)

        bracket = jax.lax.fori_loop(0, halvings, halve, bracket)
        return 0.5 * (bracket[0] + bracket[1])

    def median(self) -> Any:
        """Give the redshift that halves the probability."""
        return self.quantile(0.5)

    @float64_outside
    def mean(self) -> Float[Array, "*n"]:
        """Give the expected redshift."""
        shares, means, _ = truncated_moments(self.weights, self.means, self.sigmas, lower=self.lower)
        return jnp.sum(shares * means, axis=-1)

    @float64_outside
    def std(self) -> Float[Array, "*n"]:
        """Give the standard deviation."""
        shares, means, variances = truncated_moments(self.weights, self.means, self.sigmas, lower=self.lower)
        offsets = means - jnp.sum(shares * means, axis=-1, keepdims=True)
        return jnp.sqrt(jnp.sum(shares * (variances + jnp.square(offsets)), axis=-1))

    @float64_outside
    def mode(self) -> Float[Array, "*n"]:
        """Give the redshift of highest density: the best of the peaks reached by climbing from every mean.

        Mean shift with unequal widths: x <- sum r_i m_i/s_i^2 / sum r_i/s_i^2, r_i the share of component i in the
        density at x; each step raises the density (Carreira-Perpinan 2000, IEEE PAMI 22, 1318, section 3).
        """
        logs, means, sigmas = (
            jnp.expand_dims(array, -2) for array in (log_of(self.weights), self.means, floored(self.sigmas))
        )

        def climb(_: Any, x: Array) -> Array:
            logits = logs + gaussian.log_density(means, sigmas, x[..., None]) - 2.0 * jnp.log(sigmas)
            return jnp.sum(jax.nn.softmax(logits, axis=-1) * means, axis=-1)

        peaks = jnp.maximum(jax.lax.fori_loop(0, _CLIMBS, climb, self.means), self.lower)
        heights = logsumexp(logs + gaussian.log_density(means, sigmas, peaks[..., None]), axis=-1)
        return jnp.take_along_axis(peaks, jnp.argmax(heights, axis=-1, keepdims=True), axis=-1)[..., 0]

    def sample(self, *, key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, " ..."]:
        """Draw redshifts: `shape` draws of each mixture, ahead of the leading axes."""
        which, where, beyond = jax.random.split(key, 3)
        shape = (*shape, *jnp.shape(self.weights)[:-1])
        weights, means, sigmas = (jnp.asarray(array) for array in (self.weights, self.means, floored(self.sigmas)))
        logits = tails.log_shares(log_of(weights), means, sigmas, self.lower)
        chosen = jax.random.categorical(which, logits, shape=shape)[..., None]
        means, sigmas = (
            jnp.take_along_axis(jnp.broadcast_to(array, (*shape, logits.shape[-1])), chosen, axis=-1)[..., 0]
            for array in (means, sigmas)
        )
        lowest = (self.lower - means) / sigmas
        # JAX draws by erf, which leaves a float32 nothing of a tail.
        inside = means + sigmas * jax.random.truncated_normal(where, jnp.minimum(lowest, 0.0), jnp.inf, shape=shape)
        tail = self.lower + sigmas * tails.quantile(jax.random.exponential(beyond, shape), jnp.maximum(lowest, 0.0))
        return jnp.where(lowest > 0.0, tail, inside)


def floored(sigmas: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Give widths that can be divided by."""
    return jnp.maximum(sigmas, NARROWEST)


def log_of(weights: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Give the logarithm of weights, finite with its gradient for a weight of zero."""
    return jnp.log(jnp.maximum(weights, np.finfo(weights.dtype).tiny))


def log_pdf(
    log_weights: Float[Array, "*#n k"],
    means: Float[Array, "*#n k"],
    sigmas: Float[Array, "*#n k"],
    z: Float[Array, "*#n"],
    *,
    lower: float = -math.inf,
) -> Float[Array, "*#n"]:
    """Give the logarithm of a mixture's density at z, by log-sum-exp; -inf below `lower`."""
    if lower == -math.inf:
        return logsumexp(log_weights + gaussian.log_density(means, floored(sigmas), z[..., None]), axis=-1)
    return log_pdf_above(log_weights, means, sigmas, z, lower=lower)


def log_pdf_above(
    log_weights: Float[Array, "*#n k"],
    means: Float[Array, "*#n k"],
    sigmas: Float[Array, "*#n k"],
    z: Float[Array, "*#n"],
    *,
    lower: tails.Cut,
) -> Float[Array, "*#n"]:
    """Give the logarithm of a truncated mixture's density at z; -inf below `lower`.

    Where the components are about equally dense the sum is one of differences: the derivative of a share by a mean far
    below the cut is large, and must vanish to the last digit where equal components trade it.
    """
    sigmas = floored(sigmas)
    logs = tails.log_shares(log_weights, means, sigmas, lower)
    each = tails.log_density(means, sigmas, jnp.maximum(z, lower)[..., None], lower)
    densest = jax.lax.stop_gradient(jnp.max(each, axis=-1))
    lack = jnp.sum(jnp.exp(logs) * jnp.expm1(each - densest[..., None]), axis=-1)
    alike = lack > -0.5
    inside = jnp.where(alike, densest + jnp.log1p(jnp.where(alike, lack, 0.0)), logsumexp(logs + each, axis=-1))
    return jnp.where(z >= lower, inside, -jnp.inf)


def cdf(
    weights: Float[Array, "*#n k"],
    means: Float[Array, "*#n k"],
    sigmas: Float[Array, "*#n k"],
    z: Float[Array, "*#n"],
    *,
    lower: float = -math.inf,
) -> Float[Array, "*#n"]:
    """Give the probability of a redshift below z."""
    if lower == -math.inf:
        return jnp.sum(weights * gaussian.cumulative((z[..., None] - means) / floored(sigmas)), axis=-1)
    return 1.0 - survival(weights, means, sigmas, jnp.maximum(z, lower), lower=lower)


def survival(
    weights: Float[Array, "*#n k"],
    means: Float[Array, "*#n k"],
    sigmas: Float[Array, "*#n k"],
    z: Float[Array, "*#n"],
    *,
    lower: tails.Cut,
) -> Float[Array, "*#n"]:
    """Give the probability of a redshift above z >= lower of a truncated mixture; a sum of differences as its PDF."""
    sigmas = floored(sigmas)
    shares = jnp.exp(tails.log_shares(log_of(weights), means, sigmas, lower))
    each = tails.survival(means, sigmas, z[..., None], lower)
    most = jax.lax.stop_gradient(jnp.max(each, axis=-1))
    return most - jnp.sum(shares * (most[..., None] - each), axis=-1)


def truncated_moments(
    weights: Float[Array, "*n k"], means: Float[Array, "*n k"], sigmas: Float[Array, "*n k"], *, lower: float
) -> tuple[Float[Array, "*n k"], Float[Array, "*n k"], Float[Array, "*n k"]]:
    """Give share, mean and variance of each component after truncation."""
    if lower == -math.inf:
        return weights, means, jnp.square(sigmas)
    sigmas = floored(sigmas)
    return jnp.exp(tails.log_shares(log_of(weights), means, sigmas, lower)), *tails.moments(means, sigmas, lower)


def _far_above(mixture: Mixture, far: float) -> Any:
    """Give a distance above `lower` beyond which no truncated component has probability left."""
    if mixture.lower == -math.inf:
        return 0.0
    h = jnp.maximum((mixture.lower - mixture.means) / floored(mixture.sigmas), 0.0)
    return jnp.max(mixture.sigmas * far * far / (h + far), axis=-1)
