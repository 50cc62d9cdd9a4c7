"""Ship a network of one's own: a JAX function or nnx module becomes one file that a server trains without its code.

This is the user's side; it needs JAX and nothing else of the server. The file holds two StableHLO programs made by
`jax.export`, for CPU and CUDA: the network with its gradient, for any number of images, and one that draws its first
parameters from a seed. Docs: docs/use/own-network.md.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import export
from jaxtyping import Array, Key

from inzitu.learn.admission import FORMAT, ShipmentError

PLATFORMS = ("cpu", "cuda")
# JAX leaves it without types.
ABSTRACT: Any = jax.ShapeDtypeStruct


@dataclass(frozen=True, slots=True)
class Shipment:
    """A network ready to be sent.

    Attributes
    ----------
    json
        The two programs, and for which images and how many outputs.
    """

    json: dict[str, Any]

    def write(self, path: Path | str) -> Path:
        """Write the file that goes into a job as NETWORK."""
        path = Path(path)
        path.write_text(json.dumps(self.json, indent=1) + "\n", encoding="utf-8")
        return path


def ship(
    forward: Callable[..., Array],
    initial: Callable[[Key[Array, ""]], Any],
    *,
    input_shape: tuple[int, int, int],
    scalars: int = 0,
) -> Shipment:
    """Ship a function.

    Parameters
    ----------
    forward
        ``forward(parameters, images)``, or with `scalars` ``forward(parameters, images, scalars)``: float32 images
        [n, rows, columns, bands] to raw outputs [n, outputs], one row for each image. Five outputs in a mixture's
        components take 3 x 5: see the heads.
    initial
        ``initial(key)``: the first parameters, any tree of float32 arrays.
    input_shape
        Rows, columns and bands of an image.
    scalars
        How many numbers come with each image.

    Raises
    ------
    ShipmentError
        The functions do not go together, or cannot be exported.
    """
    tree = jax.eval_shape(initial, jax.random.key(0))
    leaves, structure = jax.tree.flatten(tree)
    names = _names(tree)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ShipmentError(
            f"Several parameters are called {twice[0]!r} by their places in the tree: rename their keys."
        )

    def named_forward(parameters: dict[str, Array], images: Array, columns: Array) -> Array:
        own = jax.tree.unflatten(structure, [parameters[name] for name in names])
        return forward(own, images, columns) if scalars else forward(own, images)

    def named_initial(seed: Array) -> dict[str, Array]:
        drawn = jax.tree.leaves(initial(jax.random.wrap_key_data(seed, impl="threefry2x32")))
        return dict(zip(names, drawn, strict=True))

    rows, columns, bands = input_shape
    (n,) = export.symbolic_shape("n")
    parameters = {name: ABSTRACT(leaf.shape, leaf.dtype) for name, leaf in zip(names, leaves, strict=True)}
    images = ABSTRACT((n, rows, columns, bands), jnp.float32)
    beside = ABSTRACT((n, scalars), jnp.float32)
    exported = _exported(named_forward, parameters, images, beside)
    out: Any = exported.out_avals[0]
    if len(exported.out_avals) != 1 or len(out.shape) != 2 or out.shape[0] != n or not isinstance(out.shape[1], int):
        raise ShipmentError(f"The network gives {out.str_short()} for n images; it must give [n, outputs].")
    seed = ABSTRACT((2,), jnp.uint32)
    return Shipment(
        {
            "format": FORMAT,
            "input_shape": list(input_shape),
            "scalars": scalars,
            "outputs": out.shape[1],
            "forward": _text(exported.serialize(vjp_order=1)),
            "initial": _text(_exported(named_initial, seed).serialize()),
        }
    )


def ship_module(
    make: Callable[[nnx.Rngs], nnx.Module], *, input_shape: tuple[int, int, int], scalars: int = 0
) -> Shipment:
    """Ship an nnx module.

    Parameters
    ----------
    make
        ``make(rngs)`` builds the module; called with images [n, rows, columns, bands], and with scalars if there are
        any, it gives raw outputs [n, outputs].
    input_shape
        Rows, columns and bands of an image.
    scalars
        How many numbers come with each image.

    Raises
    ------
    ShipmentError
        The module carries state beside its parameters, or cannot be exported.
    """
    graph, *states = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))), nnx.Param, ...)
    if others := jax.tree.leaves(states[1]):
        raise ShipmentError(
            f"The module keeps {len(others)} arrays beside its parameters (running statistics or random streams, as of "
            "BatchNorm and Dropout); training would not carry them. Use LayerNorm or GroupNorm and leave dropout out."
        )

    def initial(key: Key[Array, ""]) -> Any:
        return nnx.state(make(nnx.Rngs(key)), nnx.Param)

    def forward(parameters: Any, *arrays: Array) -> Array:
        module: Any = nnx.merge(graph, parameters)
        return jnp.asarray(module(*arrays))

    return ship(forward, initial, input_shape=input_shape, scalars=scalars)


def _names(tree: Any) -> list[str]:
    """Name each array by its place in the tree."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    # nnx wraps each array into a variable, whose "value" says nothing.
    names = [jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value") for path in paths]
    return [name or "parameters" for name in names]


def _exported(function: Callable[..., Any], *arguments: Any) -> export.Exported:
    try:
        return export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ShipmentError(f"The network cannot be exported for any number of images: {error}") from error


def _text(content: bytes | bytearray) -> str:
    return base64.b64encode(bytes(content)).decode("ascii")
