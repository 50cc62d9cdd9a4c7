"""Proper scores of one PDF and one true redshift, batched over any leading axes.

Mixtures come as weights, means and sigmas [..., k], bins as probabilities [..., bin], truths as z [...], which
broadcast. Everything runs in float32 under jit and in float64 when called with numpy arrays
(`inzitu.learn.precision`). Scores of point estimates are in `inzitu.learn.points`, all of them together in
`inzitu.learn.evaluation`.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from inzitu.learn import bins, gaussian, mixture
from inzitu.learn.bootstrap import Interval, bootstrap
from inzitu.learn.points import PointScores, point_scores
from inzitu.learn.precision import float64_outside

__all__ = [
    "Interval",
    "PointScores",
    "bootstrap",
    "cde_loss_bins",
    "cde_loss_mixture",
    "cdf_mixture",
    "crps_bins",
    "crps_mixture",
    "hpd_bins",
    "hpd_mixture",
    "log_pdf_bins",
    "masked_mean",
    "nll_bins",
    "nll_mixture",
    "pit_bins",
    "pit_mixture",
    "point_scores",
]

_PIECES_OF_A_COMPONENT = 129
_FAR = 9.0  # widths


@float64_outside
def crps_mixture(
    weights: Float[Array, "*#n k"],
    means: Float[Array, "*#n k"],
    sigmas: Float[Array, "*#n k"],
    z: Float[Array, "*#n"],
) -> Float[Array, "*#n"]:
    """Give the continuous ranked probability score, the integral of (F(x) - 1[x >= z])^2 dx.

    CRPS = sum_i w_i A(z - m_i, s_i) - 1/2 sum_ij w_i w_j A(m_i - m_j, sqrt(s_i^2 + s_j^2)) (Grimit et al. 2006,
    QJRMS 132, 2925, eq. 5). Its gradient is bounded and finite everywhere.
    """
    sigmas = mixture.floored(sigmas)
    to_truth = gaussian.distance(z[..., None] - means, sigmas)
    apart = means[..., :, None] - means[..., None, :]
    widths = gaussian.joint_width(sigmas[..., :, None], sigmas[..., None, :])
    among = jnp.sum(weights[..., None, :] * gaussian.distance(apart, widths), axis=-1)
    return jnp.sum(weights * (to_truth - 0.5 * among), axis=-1)


@float64_outside
def nll_mixture(
    weights: Float[Array, "*#n k"],
    means: Float[Array, "*#n k"],
    sigmas: Float[Array, "*#n k"],
    z: Float[Array, "*#n"],
) -> Float[Array, "*#n"]:
    """Give the negative log-likelihood, -log f(z)."""
    return -mixture.log_pdf(mixture.log_of(weights), means, sigmas, z)


@float64_outside
def cdf_mixture(
    weights: Float[Array, "*#n k"],
    means: Float[Array, "*#n k"],
    sigmas: Float[Array, "*#n k"],
    z: Float[Array, "*#n"],
) -> Float[Array, "*#n"]:
    """Give F(z), the probability of a redshift below z."""
    return mixture.cdf(weights, means, sigmas, z)


# The probability integral transform is the CDF at the truth; two names, because they answer two questions.
pit_mixture = cdf_mixture


@float64_outside
def cde_loss_mixture(
    weights: Float[Array, "*#n k"],
    means: Float[Array, "*#n k"],
    sigmas: Float[Array, "*#n k"],
    z: Float[Array, "*#n"],
) -> Float[Array, "*#n"]:
    """Give the conditional density loss, the integral of f^2 less 2 f(z) (Izbicki & Lee 2016, JCGS 25, 1297).

    The integral is sum_ij w_i w_j N(m_i - m_j; 0, s_i^2 + s_j^2).
    """
    sigmas = mixture.floored(sigmas)
    widths = gaussian.joint_width(sigmas[..., :, None], sigmas[..., None, :])
    overlaps = jnp.exp(gaussian.log_density(means[..., :, None], widths, means[..., None, :]))
    squared = jnp.sum(weights[..., :, None] * weights[..., None, :] * overlaps, axis=(-2, -1))
    return squared - 2.0 * jnp.exp(mixture.log_pdf(mixture.log_of(weights), means, sigmas, z))


@float64_outside
def crps_bins(
    probabilities: Float[Array, "*#n bin"], z: Float[Array, "*#n"], max_val: float | Float[Array, ""]
) -> Float[Array, "*#n"]:
    """Give the CRPS of a histogram on 0 <= z <= `max_val`, exact for its piecewise linear CDF.

    Over a piece of width d on which F runs from a to b the integral of F^2 is d (a^2 + a b + b^2) / 3; the bin that
    holds z is two pieces. A truth outside the histogram adds its distance from it.
    """
    num_bins = probabilities.shape[-1]
    width = max_val / num_bins
    below, above = bins.edges_cdf(probabilities)
    share = bins.shares_below(z, num_bins, max_val)
    at_z = below + share * probabilities
    left = share * (below * below + below * at_z + at_z * at_z)
    left_of, right_of = 1.0 - at_z, 1.0 - above
    right = (1.0 - share) * (left_of * left_of + left_of * right_of + right_of * right_of)
    outside = jnp.maximum(z - max_val, 0.0) + jnp.maximum(-z, 0.0)
    return width / 3.0 * jnp.sum(left + right, axis=-1) + outside


@float64_outside
def nll_bins(
    probabilities: Float[Array, "*#n bin"], z: Float[Array, "*#n"], max_val: float | Float[Array, ""]
) -> Float[Array, "*#n"]:
    """Give the negative log-likelihood of a histogram: infinite for a truth outside it."""
    return -log_pdf_bins(mixture.log_of(probabilities), z, max_val)


def log_pdf_bins(
    log_probabilities: Float[Array, "*#n bin"], z: Float[Array, "*#n"], max_val: float | Float[Array, ""]
) -> Float[Array, "*#n"]:
    """Give the logarithm of a histogram's density at z; -inf outside it."""
    num_bins = log_probabilities.shape[-1]
    index = bins.bin_of(z, num_bins=num_bins, max_val=max_val)
    values, index = bins.aligned(log_probabilities, index)
    taken = jnp.take_along_axis(values, index, axis=-1)[..., 0]
    return jnp.where((z >= 0.0) & (z <= max_val), taken - jnp.log(max_val / num_bins), -jnp.inf)


@float64_outside
def pit_bins(
    probabilities: Float[Array, "*#n bin"], z: Float[Array, "*#n"], max_val: float | Float[Array, ""]
) -> Float[Array, "*#n"]:
    """Give the probability integral transform of a histogram."""
    return bins.cdf(probabilities, z, max_val)


@float64_outside
def cde_loss_bins(
    probabilities: Float[Array, "*#n bin"], z: Float[Array, "*#n"], max_val: float | Float[Array, ""]
) -> Float[Array, "*#n"]:
    """Give the conditional density loss of a histogram."""
    width = max_val / probabilities.shape[-1]
    squared = jnp.sum(jnp.square(probabilities), axis=-1) / width
    return squared - 2.0 * jnp.exp(log_pdf_bins(mixture.log_of(probabilities), z, max_val))


def masked_mean(values: Float[Array, " n"], mask: Bool[Array, " n"] | None = None) -> Float[Array, ""]:
    """Give the mean of a score over the rows that are no padding."""
    if mask is None:
        return jnp.mean(values)
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.maximum(jnp.sum(mask), 1)


@float64_outside
def hpd_mixture(
    weights: Float[Array, "*#n k"],
    means: Float[Array, "*#n k"],
    sigmas: Float[Array, "*#n k"],
    z: Float[Array, "*#n"],
) -> Float[Array, "*#n"]:
    """Give the probability of the smallest region of highest density that holds z.

    Uniform on [0, 1] over many sources when the PDFs mean what they say. The line is cut where components turn; of a
    piece on which the density crosses f(z) the share above it is that of a straight line in log f: good to 2e-3.
    """
    sigmas = mixture.floored(sigmas)
    places = jnp.sort(turning_places(means, sigmas), axis=-1)
    weights, means, sigmas = (array[..., None, :] for array in (weights, means, sigmas))
    masses = jnp.diff(mixture.cdf(weights, means, sigmas, places), axis=-1)
    logs = mixture.log_of(weights)
    above = mixture.log_pdf(logs, means, sigmas, places) - mixture.log_pdf(logs, means, sigmas, z[..., None])
    return densest(masses, above)


def turning_places(means: Float[Array, "*n k"], sigmas: Float[Array, "*n k"]) -> Float[Array, "*n p"]:
    """Give places between which the density hardly bends, many around each mean."""
    turns = jnp.linspace(-1.0, 1.0, _PIECES_OF_A_COMPONENT) ** 3 * _FAR
    places = means[..., None] + sigmas[..., None] * turns.astype(means.dtype)
    return places.reshape(*places.shape[:-2], -1)


def densest(masses: Float[Array, "*n e"], above: Float[Array, "*n p"]) -> Float[Array, "*n"]:
    """Give the probability of where a density is above a level.

    Parameters
    ----------
    masses
        Probability of each piece of the line.
    above
        Logarithm of the density over the level, at the ends of the pieces.
    """
    highest = jnp.maximum(above[..., :-1], above[..., 1:])
    lowest = jnp.minimum(above[..., :-1], above[..., 1:])
    # Two ends of one density are wholly above or wholly below.
    share = jnp.clip(highest / jnp.where(highest > lowest, highest - lowest, 1.0), 0.0, 1.0)
    return jnp.clip(jnp.sum(jnp.where(lowest >= 0.0, masses, masses * share), axis=-1), 0.0, 1.0)


@float64_outside
def hpd_bins(
    probabilities: Float[Array, "*#n bin"], z: Float[Array, "*#n"], max_val: float | Float[Array, ""]
) -> Float[Array, "*#n"]:
    """Give the probability of the bins that are more probable than the one that holds z, and half of its own."""
    values, index = bins.aligned(probabilities, bins.bin_of(z, num_bins=probabilities.shape[-1], max_val=max_val))
    own = jnp.take_along_axis(values, index, axis=-1)
    return jnp.sum(jnp.where(values > own, values, 0.0), axis=-1) + 0.5 * own[..., 0]
