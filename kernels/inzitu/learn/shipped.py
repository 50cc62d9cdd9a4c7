"""A shipped network in the server's own training: StableHLO programs behind the interface of a network of the house.

Admit a shipment first (`inzitu.learn.admission`): what is built here is trusted to keep its signature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float, Key

from inzitu.learn import admission
from inzitu.learn.admission import ShipmentError
from inzitu.learn.heads import BinsHead, MixtureHead, parse_head
from inzitu.learn.inspection import read_program
from inzitu.learn.networks import Network


class Shipped(Network):
    """A shipped network, with a bias of ours behind it so that the head can begin at the labels' quantiles."""

    def __init__(self, spec: Mapping[str, Any], *, key: Key[Array, ""]) -> None:
        initial: Any = read_program(spec, "initial").call
        drawn: dict[str, Array] = initial(jax.random.key_data(key).astype(jnp.uint32)[:2])
        self.names = tuple(sorted(drawn))
        self.parameters = nnx.List([nnx.Param(drawn[name]) for name in self.names])
        self.bias = nnx.Param(jnp.zeros(int(spec["outputs"])))
        self.forward = _differentiable(read_program(spec, "forward"))

    def stages(
        self, images: Float[Array, "n y x band"], scalars: Float[Array, "n s"], *, key: Key[Array, ""] | None = None
    ) -> Iterator[tuple[str, Array]]:
        """Give what the program gives, and with the bias."""
        parameters = {name: value[...] for name, value in zip(self.names, self.parameters, strict=True)}
        raw = self.forward(parameters, images.astype(jnp.float32), scalars.astype(jnp.float32))
        yield "shipped program", raw
        yield "bias", raw + self.bias[...]

    def begin_at(self, bias: Float[Array | np.ndarray, " o"], images: Float[Array, "n y x band"] | None = None) -> None:
        """Let the outputs begin near given values: what the program adds to them is its own."""
        self.bias[...] = jnp.asarray(bias, jnp.float32)


def build_shipped(
    spec: Mapping[str, Any],
    *,
    key: Key[Array, ""],
    input_shape: tuple[int, ...],
    head: str | MixtureHead | BinsHead = "mixture(5)",
    scalars: int = 0,
) -> Shipped:
    """Build a network from a shipment that was admitted.

    Parameters
    ----------
    spec
        The shipment, as `inzitu.learn.admission.read` gives it.
    key
        The seed of its first parameters.
    input_shape
        Rows, columns and bands of an image.
    head
        What the outputs mean.
    scalars
        How many numbers come with each image.

    Raises
    ------
    ShipmentError
        It was shipped for other images or another head.
    """
    outputs = (parse_head(head) if isinstance(head, str) else head).outputs
    admission.check_form(spec)
    admission.check_job(spec, input_shape=input_shape, outputs=outputs, scalars=scalars)
    return Shipped(spec, key=key)


def _differentiable(program: export.Exported) -> Callable[..., Array]:
    """Give a function with the program's own gradient, and with a rule for `vmap`, which an exported call lacks.

    Members of an ensemble run one after the other, forwards and backwards.
    """
    call: Any = program.call
    one_by_one: Any = sequential_vmap
    forwards = one_by_one(call)
    backwards = one_by_one(lambda arguments, slope: jax.vjp(call, *arguments)[1](slope))

    @jax.custom_vjp
    def forward(parameters: Any, images: Array, scalars: Array) -> Array:
        return jnp.asarray(forwards(parameters, images, scalars))

    def saved(*arguments: Any) -> tuple[Array, Any]:
        return forward(*arguments), arguments

    forward.defvjp(saved, lambda arguments, slope: backwards(arguments, slope))
    return forward


__all__ = ["ShipmentError", "Shipped", "build_shipped"]
