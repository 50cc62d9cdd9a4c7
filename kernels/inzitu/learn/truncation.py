"""CRPS of a truncated mixture, by quadrature: a pair of truncated normals has no elementary closed form.

With S(x) = sum_i w'_i S_i(x) the survival of the truncated mixture, CRPS = int_lower^z (1 - S)^2 + int_z^inf S^2. S is
smooth between the places where a component begins, turns or ends; Gauss-Legendre on each such piece reaches 1e-7 with
components whose widths differ by any factor. Survivals are ratios of tails taken as differences of logarithms, so a
component that lies wholly below the cut is as exact as any other.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from inzitu.learn.mixture import floored, survival
from inzitu.learn.precision import float64_outside

_NODES = 12
# Where the pieces end, in widths from the mean.
_TURNS = (-7.0, -3.0, -1.0, 1.0, 3.0, 7.0)


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
    components, survivals = survival(
        weights[..., None, :], means[..., None, :], sigmas[..., None, :], x[..., None], lower=lower
    )
    total = jnp.sum(components * survivals, axis=-1).reshape(*step.shape[:-1], _NODES)
    pieces = jnp.sum(jnp.where(above, total, 1.0 - total) ** 2 * jnp.asarray(shares, edges.dtype), axis=-1)
    return jnp.sum(0.5 * step[..., 0] * pieces, axis=-1) + jnp.maximum(lower - z, 0.0)


def _turning_points(
    means: Float[Array, "*n k"], sigmas: Float[Array, "*n k"], lower: float | Float[Array, ""]
) -> Float[Array, "*n e"]:
    """Give the ends of the pieces: around each mean, and along the tail of a component that lies below the cut."""
    around = jnp.concatenate([means + turn * sigmas for turn in _TURNS], axis=-1)
    # A tail beyond h widths falls as an exponential of this scale.
    scale = sigmas / jnp.maximum((lower - means) / sigmas, 1.0)
    along = jnp.concatenate([lower + reach * scale for reach in (2.0, 6.0, 20.0)], axis=-1)
    return jnp.maximum(jnp.concatenate([around, along], axis=-1), lower)
