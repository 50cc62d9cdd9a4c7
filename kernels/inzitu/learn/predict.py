"""Prediction: images to PDFs by a trained ensemble, in blocks, averaged over the 8 symmetries.

Each network sees an image in its 8 orientations. Their raw outputs (logits, means, logarithms of widths) are averaged,
which keeps the k components of its mixture, where pooling would make 8 k; they are one network's, so component i means
the same in all. They are summed in the order of their size, so that an image and the same image turned give the same
bits. The networks of an ensemble are pooled linearly: m networks of k components give m k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from inzitu.learn import networks
from inzitu.learn.bins import Histogram
from inzitu.learn.calibration import Calibration
from inzitu.learn.heads import parse_head
from inzitu.learn.images import SYMMETRIES, present, symmetry
from inzitu.learn.mixture import Mixture
from inzitu.learn.ood import colours
from inzitu.learn.scalars import stacked
from inzitu.learn.trained import Trained

BLOCK = 128
QUANTILES = {"z_q025": 0.025, "z_q16": 0.16, "z_q84": 0.84, "z_q975": 0.975}

# The arrays of a distribution by name, and the out-of-domain score.
Outputs = dict[str, Array]


def predictor(trained: Trained, *, average: bool = True) -> Callable[[Any, Array, Array], Outputs]:
    """Give the pure function that predicts: stacked parameters, raw images and scalars to arrays.

    Parameters
    ----------
    trained
        What was trained; its parameters are not built in.
    average
        Average over the 8 symmetries.
    """
    shape, recipe = trained.input_shape, trained.recipe
    abstract = nnx.eval_shape(
        lambda: networks.of_recipe(recipe, key=jax.random.key(0), input_shape=shape, predict=True)
    )
    graph, head = nnx.split(abstract)[0], recipe.parsed_head()

    def predict(parameters: Any, images: Array, scalars: Array) -> Outputs:
        normalised, scalars = trained.normalisation.apply(images), trained.scalars.apply(scalars)
        seen = colours(jnp.nan_to_num(images), jnp.asarray(trained.normalisation.sigmas))
        if recipe.masked:
            scalars = jnp.concatenate([scalars, present(images)], axis=-1)

        def member(own: Any) -> Array:
            network = nnx.merge(graph, own)

            def turned(index: Array) -> Array:
                return network(symmetry(normalised, index), scalars)

            # One after the other, each row at its own place: the same bits for the same pixels.
            return _mean(lax.map(turned, jnp.arange(SYMMETRIES if average else 1)))

        return arrays(pooled(head.distribution(lax.map(member, parameters)))) | {"ood": trained.ood.score(seen)}

    return predict


def pooled(members: Mixture | Histogram) -> Mixture | Histogram:
    """Pool distributions linearly over their first axis."""
    if isinstance(members, Histogram):
        return Histogram(jnp.mean(members.probabilities, axis=0), members.max_val)
    count = members.weights.shape[0]
    shares = members.weights / count
    if math.isfinite(members.lower):
        # The pool is of PDFs that were each cut off and renormalised.
        above = jax.scipy.special.ndtr((members.means - members.lower) / members.sigmas)
        shares = shares / jnp.sum(members.weights * above, axis=-1, keepdims=True)
        shares = shares / jnp.sum(shares, axis=(0, -1), keepdims=True)
    weights, means, sigmas = (
        jnp.concatenate(list(array), axis=-1) for array in (shares, members.means, members.sigmas)
    )
    return Mixture(weights, means, sigmas, members.lower)


def arrays(distribution: Mixture | Histogram) -> Outputs:
    """Give a distribution's arrays by name."""
    if isinstance(distribution, Histogram):
        return {"probabilities": distribution.probabilities}
    return {name: getattr(distribution, name) for name in ("weights", "means", "sigmas")}


def predict(
    trained: Trained,
    images: Float[np.ndarray, "n y x band"],
    scalars: Mapping[str, Float[np.ndarray, " n"]] | None = None,
    *,
    average: bool = True,
) -> Mixture | Histogram:
    """Predict the PDF of each image.

    Parameters
    ----------
    trained
        What was trained.
    images
        Images in the archive's units, of the trained shape.
    scalars
        For each of the recipe's scalars a number a row.
    average
        Average over the 8 symmetries.
    """
    check_shape(images, trained.input_shape)
    function = jax.jit(predictor(trained, average=average))
    columns = stacked(trained.recipe.scalars, scalars or {}, len(images))
    found = in_blocks(lambda block, own: function(trained.parameters, block, own), images, columns)
    return distribution(found, trained.recipe.head)


def distribution(found: Mapping[str, np.ndarray], head: str) -> Mixture | Histogram:
    """Give the distribution of arrays by name."""
    parsed = parse_head(head)
    if "probabilities" in found:
        return Histogram(found["probabilities"], parsed.max_val)  # type: ignore[union-attr]
    return Mixture(found["weights"], found["means"], found["sigmas"], parsed.lower)  # type: ignore[union-attr]


def in_blocks(
    call: Callable[[np.ndarray, np.ndarray], Mapping[str, Any]],
    images: Float[np.ndarray, "n y x band"],
    scalars: Float[np.ndarray, "n s"],
) -> dict[str, np.ndarray]:
    """Call a predictor on blocks of one size, the last filled up, and put the real rows together."""
    size = min(BLOCK, 1 << max(len(images) - 1, 0).bit_length())
    parts: list[dict[str, np.ndarray]] = []
    for first in range(0, max(len(images), 1), size):
        block, own = (np.asarray(rows[first : first + size], np.float32) for rows in (images, scalars))
        missing = [(0, size - len(block))]
        found = call(np.pad(block, missing + [(0, 0)] * 3), np.pad(own, [*missing, (0, 0)]))
        parts.append({name: np.asarray(array)[: len(block)] for name, array in found.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def check_shape(images: Float[np.ndarray, "n y x band"], shape: tuple[int, ...]) -> None:
    """Refuse images that are not what the network was trained on."""
    if images.shape[1:] != shape:
        raise networks.NetworkError(f"the images are {images.shape[1:]} (y, x, band), the model was trained on {shape}")


def estimates(
    predicted: Mixture | Histogram, calibration: Calibration | None = None
) -> dict[str, Float[np.ndarray, " n"]]:
    """Give the point estimates and quantiles of PDFs, in float64, under the names of the published columns.

    The PDFs are at their temperature already; the map of the PIT, which bends a CDF, moves median and quantiles.
    """
    exact = jax.tree.map(lambda array: np.asarray(array, np.float64), predicted)
    levels = {"z_median": 0.5, **QUANTILES}
    if calibration is not None:
        levels = {name: float(calibration.level(q)) for name, q in levels.items()}
    quantiles = {name: exact.quantile(np.float64(q)) for name, q in levels.items()}
    return {"z_mean": exact.mean(), "z_mode": exact.mode(), "z_sigma": exact.std(), **quantiles}


def _mean(values: Float[Array, "s ..."]) -> Float[Array, ...]:
    return jnp.mean(jnp.sort(values, axis=0), axis=0)
