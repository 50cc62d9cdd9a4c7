"""A PDF as a published table holds it: weights, means and widths of normal distributions, whatever the head.

* A mixture as it is.
* A mixture that ends at z = 0 with its weights divided by its probability above: they sum to more than one, the
  density above 0 is theirs, and 1 - F(z) is the sum of w_i Phi((m_i - z) / s_i).
* A histogram as one component a bin, at the bin's centre with half its width: a smooth density, and the weights are the
  bins' exact probabilities, so that nothing is lost. docs/decisions/024 has the errors.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from inzitu.learn.bins import Histogram
from inzitu.learn.heads import BinsHead, parse_head
from inzitu.learn.mixture import Mixture

Columns = dict[str, Float[np.ndarray, "n k"]]


def columns(distribution: Mixture | Histogram) -> Columns:
    """Give weights, means and sigmas."""
    match distribution:
        case Histogram(probabilities, max_val):
            weights = np.asarray(probabilities, np.float64)
            width = max_val / weights.shape[-1]
            means = np.broadcast_to((np.arange(weights.shape[-1]) + 0.5) * width, weights.shape)
            return {"weights": weights, "means": means, "sigmas": np.full(weights.shape, width / 2)}
        case Mixture(weights, means, sigmas, lower):
            weights, means, sigmas = (np.asarray(array, np.float64) for array in (weights, means, sigmas))
            above = np.sum(weights * ndtr((means - lower) / sigmas), axis=-1, keepdims=True)
            return {"weights": weights / above, "means": means, "sigmas": sigmas}


def distribution(found: Mapping[str, np.ndarray], head: str) -> Mixture | Histogram:
    """Give the PDFs of columns, exactly those that a head predicted."""
    weights, means, sigmas = (np.asarray(found[name], np.float64) for name in ("weights", "means", "sigmas"))
    # Of a truncated mixture they sum to more than one, of float32 to nearly one.
    weights = weights / weights.sum(axis=-1, keepdims=True)
    match parse_head(head):
        case BinsHead(max_val=max_val):
            return Histogram(weights, max_val)
        case parsed:
            return Mixture(weights, means, sigmas, parsed.lower)
