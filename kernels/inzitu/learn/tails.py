"""Normal distributions conditional on a value above a cut, as exact far below it as anywhere, in either precision.

A component whose mean lies h widths below the cut has a probability of exp(-h^2/2) above it. Ratios of such numbers are
taken here without them: with t the distance above the cut in widths, S(h+t)/S(h) = exp(-t (h + t/2)) r(h)/r(h+t), where
r(u) = phi(u)/S(u), the hazard, hardly exceeds u. Only the shares of several components need the squares themselves,
and get them with more digits than the precision has.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Bool, Float
from scipy.special import erfcx

from inzitu.learn import gaussian

Cut = float | Float[Array, ""]

# u from 0 to infinity becomes y = 1 - 2 PIVOT/(u + PIVOT) from -1 to 1, where the moments times a power of u + SHIFT
# are polynomials to 1e-14 (the substitution of Shepherd & Laframboise 1981, Math. Comp. 36, 249, for erfcx).
_PIVOT, _SHIFT = 4.0, 2.0
# exp(-800) is zero in either precision.
_NOTHING_LEFT = 800.0


@jax.custom_jvp
def excess(u: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Give how far above u >= 0 a standard normal lies in the mean if it lies above u: phi(u)/Phi(-u) - u."""
    return _polynomial(u, 1) / (u + _SHIFT)


@excess.defjvp
def _excess_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """The mean excess falls by the variance."""
    (u,) = primals
    return excess(u), -spread(u) * tangents[0]


def spread(u: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Give the variance of a standard normal that lies above u >= 0."""
    return _polynomial(u, 2) / jnp.square(u + _SHIFT)


def survival(
    means: Float[Array, "*#n"], sigmas: Float[Array, "*#n"], z: Float[Array, "*#n"], lower: Cut
) -> Float[Array, "*#n"]:
    """Give the probability of a value above z >= `lower`."""
    deep, below, above = _parted((lower - means) / sigmas)
    t = jnp.minimum((z - lower) / sigmas, _NOTHING_LEFT / jnp.maximum(below, 1.0))
    ratio = jnp.exp(-t * (below + 0.5 * t)) * _hazard(below) / _hazard(below + t)
    shallow = gaussian.cumulative((means - z) / sigmas) / gaussian.cumulative(-above)
    return jnp.where(deep, ratio, shallow)


def quantile(depth: Float[Array, "*#n"], h: Float[Array, "*#n"]) -> Float[Array, "*#n"]:
    """Give t with S(h+t)/S(h) = exp(-depth), for h >= 0: how far beyond h a share exp(-depth) of the tail lies.

    By Newton's steps from the t of exp(-t (h + t/2)), which is never too small; the logarithm of S is concave, so they
    come down to the root.
    """
    t = 2.0 * depth / jnp.maximum(h + jnp.sqrt(h * h + 2.0 * depth), 1e-30)
    for _ in range(6):
        hazard = _hazard(h + t)
        t = jnp.maximum(t + (depth - t * (h + 0.5 * t) + jnp.log(_hazard(h) / hazard)) / hazard, 0.0)
    return t


def log_density(
    means: Float[Array, "*#n"], sigmas: Float[Array, "*#n"], z: Float[Array, "*#n"], lower: Cut
) -> Float[Array, "*#n"]:
    """Give the logarithm of the density at z >= `lower`."""
    deep, below, above = _parted((lower - means) / sigmas)
    t = (z - lower) / sigmas
    tail = jnp.log(_hazard(below) / sigmas) - t * (below + 0.5 * t)
    return jnp.where(deep, tail, gaussian.log_density(means, sigmas, z) - log_ndtr(-above))


def log_shares(
    log_weights: Float[Array, "*#n k"], means: Float[Array, "*#n k"], sigmas: Float[Array, "*#n k"], lower: Cut
) -> Float[Array, "*#n k"]:
    """Give the logarithm of each component's share of the probability above `lower`.

    In float32 the logarithm of the ratio of two shares is good to 2e-6 for a cut at zero, and to 1e-7 h^2 h
    widths below another cut: `lower` - mean itself is rounded.
    """
    deep, below, above = _parted((lower - means) / sigmas)
    distances = jnp.where(deep, lower - means, 0.0)
    tail = -_half_squares(distances, sigmas) - jnp.log(_hazard(below)) - gaussian.LOG_SQRT_2PI
    # Where a component is not below the cut, the least square is zero, and the logarithms are those of probabilities.
    return jax.nn.log_softmax(log_weights + jnp.where(deep, tail, log_ndtr(-above)), axis=-1)


def moments(
    means: Float[Array, "*#n"], sigmas: Float[Array, "*#n"], lower: Cut
) -> tuple[Float[Array, "*#n"], Float[Array, "*#n"]]:
    """Give mean and variance (Johnson & Kotz 1970, section 13.7)."""
    deep, below, above = _parted((lower - means) / sigmas)
    hazard = gaussian.density(above) / gaussian.cumulative(-above)
    mean = jnp.where(deep, lower + sigmas * excess(below), means + sigmas * hazard)
    return mean, jnp.square(sigmas) * jnp.where(deep, spread(below), 1.0 + hazard * (above - hazard))


def product(first: tuple[Array, Array], second: tuple[Array, Array], lower: Cut) -> Float[Array, "*n"]:
    """Give the integral above `lower` of the product of the densities of two (means, sigmas).

    The product of two normals is a normal at their weighted mean times what it is for the whole line
    (`inzitu.learn.scores.cde_loss_mixture`): of the integral the part above `lower` is left.
    """
    (m, s), (n, t) = first, second
    widths = gaussian.joint_width(s, t)
    h, g = (lower - m) / s, (lower - n) / t
    both = h * (t / widths) + g * (s / widths)
    deep = jnp.minimum(h, g) > 0.0
    ratio = _hazard(jnp.maximum(h, 0.0)) * _hazard(jnp.maximum(g, 0.0)) / (widths * _hazard(jnp.maximum(both, 0.0)))
    logs = gaussian.log_density(m, widths, n) + log_ndtr(-both) - log_ndtr(-h) - log_ndtr(-g)
    # No density of a component that is not below the cut exceeds 0.8 / width; rounded squares do.
    logs = jnp.minimum(jnp.where(deep, 0.0, logs), -jnp.log(jnp.minimum(s, t)))
    return jnp.where(deep, ratio, jnp.exp(logs))


def _parted(h: Float[Array, "*n"]) -> tuple[Bool[Array, "*n"], Float[Array, "*n"], Float[Array, "*n"]]:
    """Give where h > 0, and h for the formula that holds there and for the other, zero where it does not apply."""
    deep = h > 0.0
    return deep, jnp.where(deep, h, 0.0), jnp.where(deep, 0.0, h)


def _hazard(u: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return u + excess(u)


def _half_squares(distances: Float[Array, "*#n k"], sigmas: Float[Array, "*#n k"]) -> Float[Array, "*#n k"]:
    """Give (distances/sigmas)^2 / 2 less about the least of a mixture, to a third more digits than the precision has.

    Numbers of half the digits have exact squares and products: h^2 = c^2 + (h - c) (h + c) with such a c.
    """
    c, coarse = _half_of_the_digits(distances / sigmas), _half_of_the_digits(sigmas)
    rest = ((distances - c * coarse) - c * (sigmas - coarse)) / sigmas
    whole = 0.5 * c * c
    return (whole - jnp.min(whole, axis=-1, keepdims=True)) + rest * (c + 0.5 * rest)


def _half_of_the_digits(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    kind = np.finfo(x.dtype)
    half = jax.lax.reduce_precision(x, exponent_bits=kind.nexp, mantissa_bits=(kind.nmant - 1) // 2)
    return jax.lax.stop_gradient(half)


def _polynomial(u: Float[Array, "*n"], moment: int) -> Float[Array, "*n"]:
    y = 1.0 - 2.0 * _PIVOT / (u + _PIVOT)
    value = jnp.zeros_like(y)
    for coefficient in _coefficients(moment, float(np.finfo(u.dtype).eps)):
        value = value * y + coefficient
    return value


@functools.cache
def _coefficients(moment: int, precision: float) -> tuple[float, ...]:
    """Give a moment of the excess, times (u + SHIFT)^moment, as a polynomial in y, the highest power first."""
    angles = np.pi * (np.arange(64) + 0.5) / 64
    u = _PIVOT / np.square(np.tan(0.5 * angles))
    values = _moments(u)[moment - 1] * (u + _SHIFT) ** moment
    series = 2.0 / 64 * np.cos(np.arange(64)[:, None] * angles) @ values
    series[0] /= 2.0
    terms = int(np.flatnonzero(np.abs(series) > max(0.1 * precision, 1e-14))[-1]) + 1
    return tuple(np.polynomial.chebyshev.cheb2poly(series[:terms])[::-1].tolist())


def _moments(u: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Give mean and variance of the excess, in float64, by Laplace's fraction r = u + 1/(u + 2/(u + ...))."""
    later = np.zeros_like(u)
    for n in range(400, 1, -1):
        later = n / (np.maximum(u, 1.0) + later)
    mean = np.where(u < 1.0, np.sqrt(2.0 / np.pi) / erfcx(u / np.sqrt(2.0)) - u, 1.0 / (u + later))
    return mean, mean * (np.where(u < 1.0, 1.0 / mean - u, later) - mean)
