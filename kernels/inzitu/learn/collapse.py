"""Components of a mixture that a training has lost: without weight, or in the place of another one.

A mixture that has lost some predicts, but with fewer components than were asked for, and nothing in its loss says so.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from inzitu.learn.bins import Histogram
from inzitu.learn.mixture import Mixture

# A component with no more weight than this in any row [1], or no further than this from another [width], is lost.
IDLE = 0.01
TOGETHER = 0.05


def own_weights(predicted: Mixture | Histogram) -> Float[Array, "*n k"]:
    """Give the weight of each component, 0 where another before it stands in its place; of bins there are none."""
    match predicted:
        case Histogram(probabilities, _):
            return jnp.asarray(probabilities)[..., :0]
        case Mixture(weights, means, sigmas, _):
            first, second = (np.array(pair) for pair in np.tril_indices(weights.shape[-1], -1)[::-1])
            width = sigmas[..., first]
            close = jnp.abs(means[..., first] - means[..., second]) < TOGETHER * width
            alike = jnp.abs(jnp.log(sigmas[..., second] / width)) < TOGETHER
            taken = close & alike & (weights[..., first] >= IDLE)
            return jnp.where(jnp.zeros(weights.shape, bool).at[..., second].max(taken), 0.0, weights)


def remarks(most: Float[np.ndarray, "member k"]) -> tuple[str, ...]:
    """Say in words which members have lost components.

    Parameters
    ----------
    most
        The most that `own_weights` gives each component in any validation row.
    """
    found = []
    for member, own in enumerate(most):
        if lost := int(np.sum(own < IDLE)):
            left = len(own) - lost
            found.append(
                f"member {member}: the mixture has collapsed from {len(own)} components to {left}; the others have "
                f"less than {IDLE:.0%} of the weight in every validation row, or stand in the place of another. "
                f"HEAD=mixture({max(1, left)}) may do as well."
            )
    return tuple(found)
