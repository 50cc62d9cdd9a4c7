"""Scores of a truncated mixture, which is conditional on a redshift above `lower`.

The CRPS goes by quadrature: a pair of truncated normals has no elementary closed form. With S(x) = sum_i w'_i S_i(x)
the survival of the truncated mixture, CRPS = int_lower^z (1 - S)^2 + int_z^inf S^2. S is smooth between the places
where a component begins, turns or ends; Gauss-Legendre on each such piece reaches 1e-7 with components whose widths
differ by any factor. A component that lies wholly below the cut is as exact as any other (`inzitu.learn.tails`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from inzitu.learn import scores, tails
from inzitu.learn.mixture import floored, log_of, log_pdf_above, survival
from inzitu.learn.precision import float64_outside

_NODES = 12
# Where the pieces end, in widths from the mean.
_TURNS = (-7.0, -3.0, -1.0, 1.0, 3.0, 7.0)
# Where an exponential tail is looked at, in units of its scale: beyond, nothing is left of it in either precision.
_ALONG_A_TAIL = np.linspace(0.0, 40.0, 129)


@float64_outside
def crps_truncated(
    weights: Float[Array, "*n k"],
    means: Float[Array, "*n k"],
    sigmas: Float[Array, "*n k"],
    z: Float[Array, "*n"],
    lower: float | Float[Array, ""] = 0.0,
) -> Float[Array, "*n"]:
    """Give the CRPS of mixtures conditional on a redshift above `lower`; a truth below it adds its distance."""
    truth = jnp.maximum(z, lower)[..., None]
    edges = jax.lax.stop_gradient(_turning_points(means, floored(sigmas), lower))
    # The integrand jumps at the truth, so that edge alone carries a gradient.
    edges = jnp.sort(jnp.concatenate([edges, truth, jnp.full_like(truth, lower)], axis=-1), axis=-1)
    nodes, shares = np.polynomial.legendre.leggauss(_NODES)
    low, step = edges[..., :-1, None], jnp.diff(edges, axis=-1)[..., None]
    x = (low + step * (0.5 + 0.5 * jnp.asarray(nodes, edges.dtype))).reshape(*edges.shape[:-1], -1)
    above = low + 0.5 * step >= truth[..., None]
    total = survival(weights[..., None, :], means[..., None, :], sigmas[..., None, :], x, lower=lower)
    total = total.reshape(*step.shape[:-1], _NODES)
    pieces = jnp.sum(jnp.where(above, total, 1.0 - total) ** 2 * jnp.asarray(shares, edges.dtype), axis=-1)
    return jnp.sum(0.5 * step[..., 0] * pieces, axis=-1) + jnp.maximum(lower - z, 0.0)


@float64_outside
def cde_loss_truncated(
    weights: Float[Array, "*n k"],
    means: Float[Array, "*n k"],
    sigmas: Float[Array, "*n k"],
    z: Float[Array, "*n"],
    lower: float | Float[Array, ""] = 0.0,
) -> Float[Array, "*n"]:
    """Give the conditional density loss of mixtures conditional on a redshift above `lower`."""
    sigmas = floored(sigmas)
    logs = log_of(weights)
    shares = jnp.exp(tails.log_shares(logs, means, sigmas, lower))
    first, second = (means[..., :, None], sigmas[..., :, None]), (means[..., None, :], sigmas[..., None, :])
    squared = jnp.sum(shares[..., :, None] * shares[..., None, :] * tails.product(first, second, lower), axis=(-2, -1))
    return squared - 2.0 * jnp.exp(log_pdf_above(logs, means, sigmas, z, lower=lower))


@float64_outside
def hpd_truncated(
    weights: Float[Array, "*n k"],
    means: Float[Array, "*n k"],
    sigmas: Float[Array, "*n k"],
    z: Float[Array, "*n"],
    lower: float | Float[Array, ""] = 0.0,
) -> Float[Array, "*n"]:
    """Give the probability of the smallest region of highest density that holds z; 1 for a truth below `lower`."""
    sigmas = floored(sigmas)
    tails = lower + _tail_scale(means, sigmas, lower)[..., None] * jnp.asarray(_ALONG_A_TAIL, means.dtype)
    places = jnp.concatenate([scores.turning_places(means, sigmas), tails.reshape(*means.shape[:-1], -1)], axis=-1)
    places = jnp.sort(jnp.maximum(places, lower), axis=-1)
    truth = jnp.maximum(z, lower)[..., None]
    weights, means, sigmas = (array[..., None, :] for array in (weights, means, sigmas))
    masses = -jnp.diff(survival(weights, means, sigmas, places, lower=lower), axis=-1)
    at_places, at_truth = (log_pdf_above(log_of(weights), means, sigmas, x, lower=lower) for x in (places, truth))
    above = at_places - at_truth
    return jnp.where(z >= lower, scores.densest(masses, above), 1.0)


def _tail_scale(
    means: Float[Array, "*n k"], sigmas: Float[Array, "*n k"], lower: float | Float[Array, ""]
) -> Float[Array, "*n k"]:
    """Give the scale of the exponential as which a tail beyond h widths falls."""
    return sigmas / jnp.maximum((lower - means) / sigmas, 1.0)


def _turning_points(
    means: Float[Array, "*n k"], sigmas: Float[Array, "*n k"], lower: float | Float[Array, ""]
) -> Float[Array, "*n e"]:
    """Give the ends of the pieces: around each mean, and along the tail of a component that lies below the cut."""
    around = jnp.concatenate([means + turn * sigmas for turn in _TURNS], axis=-1)
    scale = _tail_scale(means, sigmas, lower)
    along = jnp.concatenate([lower + reach * scale for reach in (2.0, 6.0, 20.0)], axis=-1)
    return jnp.maximum(jnp.concatenate([around, along], axis=-1), lower)
