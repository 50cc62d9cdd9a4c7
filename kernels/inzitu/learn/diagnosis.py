"""Why a loss is not finite: the first layer, and the rows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from inzitu.learn.networks import Network
from inzitu.learn.step import Program


class TrainingError(ValueError):
    """The training cannot go on."""


def explained(
    program: Program,
    parameters: Any,
    images: Float[Array, "n y x band"],
    scalars: Float[Array, "n s"],
    labels: Float[Array, " n"],
    rows: np.ndarray,
) -> str | None:
    """Say where a batch stops being finite, in words; None if it does not.

    Parameters
    ----------
    program
        The training's program.
    parameters
        Parameters of one member.
    images, scalars, labels
        The batch, as the network sees it.
    rows
        Numbers of the batch's rows in the user's list.
    """
    if bad := _layer(parameters):
        return f"the parameters of {bad} are not finite"
    network = nnx.merge(program.graph, parameters)
    if not bool(jnp.all(jnp.isfinite(images)) & jnp.all(jnp.isfinite(scalars))):
        return f"the input is not finite in {_rows(images, rows) or _rows(scalars, rows)}"
    if isinstance(network, Network):
        for name, values in network.stages(images, scalars):
            if found := _rows(values, rows):
                return f"{name} gives values that are not finite for {found}; lower the learning rate"
    losses = program.loss(parameters, images, scalars, labels)
    if found := _rows(losses, rows):
        return f"the loss is not finite for {found}: look at their labels, or lower the learning rate"
    slopes = jax.grad(lambda p: jnp.mean(program.loss(p, images, scalars, labels)))(parameters)
    if bad := _layer(slopes):
        return f"the gradient of {bad} is not finite although every loss is"
    return None


def _rows(values: Float[Array, "n ..."], rows: np.ndarray) -> str:
    axes = tuple(range(1, values.ndim))
    bad = rows[~np.asarray(jnp.all(jnp.isfinite(values), axis=axes))]
    if not bad.size:
        return ""
    return f"{bad.size} rows (" + ", ".join(map(str, bad[:5])) + (", ...)" if bad.size > 5 else ")")


def _layer(tree: Any) -> str:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not bool(jnp.all(jnp.isfinite(leaf))):
            return jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
    return ""
