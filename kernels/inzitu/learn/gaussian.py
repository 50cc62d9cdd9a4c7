"""The normal distribution: the few functions that the scores of mixtures are made of.

All stay finite, with their gradients, for any finite arguments and widths above zero.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import erf, erfc
from jaxtyping import Array, Float

SQRT2 = math.sqrt(2.0)
LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
# Beyond so many widths a normal distribution is a point in either precision: erfc(50/sqrt 2) < 1e-500.
_FAR = 50.0


def density(t: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Give phi(t) = exp(-t^2/2) / sqrt(2 pi)."""
    return jnp.exp(-0.5 * jnp.square(t) - LOG_SQRT_2PI)


def cumulative(t: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Give Phi(t), by erfc so that the lower tail keeps its digits."""
    return 0.5 * erfc(-t / SQRT2)


@jax.custom_jvp
def distance(m: Float[Array, "*n"], s: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Give A(m, s) = E|X| of a normal X of mean m and width s > 0.

    A(m, s) = |m| + s h(|m|/s), h(t) = 2 (phi(t) - t Phi(-t)): the form of Grimit et al. (2006, QJRMS 132, 2925, eq. 5),
    m (2 Phi(m/s) - 1) + 2 s phi(m/s), without its cancellation.
    """
    t = jnp.minimum(jnp.abs(m) / s, _FAR)
    return jnp.abs(m) + s * (2.0 * density(t) - t * erfc(t / SQRT2))


@distance.defjvp
def _distance_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """dA/dm = 2 Phi(m/s) - 1 and dA/ds = 2 phi(m/s): bounded, whatever the arguments."""
    m, s = primals
    t = jnp.clip(m / s, -_FAR, _FAR)
    return distance(m, s), erf(t / SQRT2) * tangents[0] + 2.0 * density(t) * tangents[1]


def log_density(m: Float[Array, "*#n"], s: Float[Array, "*#n"], z: Float[Array, "*#n"]) -> Float[Array, "*#n"]:
    """Give the logarithm of the density of N(m, s) at z."""
    return -0.5 * jnp.square((z - m) / s) - jnp.log(s) - LOG_SQRT_2PI


def joint_width(s: Float[Array, "*#n"], t: Float[Array, "*#n"]) -> Float[Array, "*#n"]:
    """Give sqrt(s^2 + t^2) without under- or overflow of the squares."""
    wide, narrow = jnp.maximum(s, t), jnp.minimum(s, t)
    return wide * jnp.sqrt(1.0 + jnp.square(narrow / wide))
