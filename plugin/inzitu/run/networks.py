"""The network that a job asks for: of the house or the user's own, and what it takes, known before anything is built.

Nothing is computed here: shapes are walked through the network as JAX traces it, so that a network of any size is
examined in seconds and in little memory. A shipped program is looked at by a process of its own
(`inzitu.learn.admission`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import Jaxpr, jaxprs_in_params

from inzitu.errors import LimitFault, ParameterFault
from inzitu.learn import admission, anatomy, declaration, networks
from inzitu.learn.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from inzitu.manifest import Limits
    from inzitu.pipelines.parameters import TrainParameters

COPIES = 6
"""Numbers that a training keeps for each parameter: itself, its mean, the best mean, two moments, the gradient."""
# JAX leaves it without types.
_ABSTRACT: Any = jax.ShapeDtypeStruct
_SAME = ("head", "scalars", "masked", "epochs", "batch_size", "learning_rate", "members", "seed")


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """What a network takes.

    Attributes
    ----------
    parameters
        Trained numbers of one member.
    flops
        Floating-point operations of one member's way forward for one image.
    memory
        A training step of the whole ensemble [byte].
    """

    parameters: int
    flops: float
    memory: int


def read_network(path: Path) -> Mapping[str, Any]:
    """Read a user's own network: a declaration in YAML, or what `inzitu.learn.ship` wrote.

    Raises
    ------
    ParameterFault
        It is neither.
    """
    content = path.read_bytes()
    try:
        if content.lstrip()[:1] == b"{":
            return admission.read(content)
        return declaration.read(content.decode("utf-8"))
    except ValueError as error:
        raise ParameterFault(f"The network: {error}") from error


def recipe_of(parameters: TrainParameters, network: Path | None) -> Recipe:
    """Give the recipe that a job's parameters ask for; the network that a job may bring is the one named ``own``.

    Raises
    ------
    ParameterFault
        The network or a number cannot be.
    """
    if parameters.network == "own" and network is None:
        raise ParameterFault("The network own is none of the house: send it as UPLOAD=network,param:NAME.")
    spec = read_network(network) if network is not None and parameters.network == "own" else parameters.network
    try:
        return Recipe(network=spec, **{name: getattr(parameters, name) for name in _SAME})
    except ValueError as error:
        raise ParameterFault(str(error)) from error


def examined(
    parameters: TrainParameters, *, bands: int, size: int, limits: Limits, network: Path | None, beside: int = 1
) -> NetworkCost:
    """Give what a job's network takes, or refuse it.

    Parameters
    ----------
    parameters
        Network, head and how it learns.
    bands
        Bands of an image.
    size
        Rows and columns of an image [pixel].
    limits
        What the deployment allows.
    network
        The user's own network, where the job brings one.
    beside
        How many such trainings run side by side, which share the memory.

    Raises
    ------
    ParameterFault
        The network cannot be read or built, or cannot take such images.
    LimitFault
        It has more parameters, or a step takes more memory, than allowed.
    """
    recipe = recipe_of(parameters, network)
    shape = (size, size, bands)
    memory = limits.training_memory_mb << 20
    try:
        match recipe.network:
            case str():
                cost = traced(recipe, shape)
            case {"layers": _} as spec:
                _check_declared(spec, recipe, shape, parameters=limits.parameters, memory=memory)
                cost = traced(recipe, shape)
            case spec:
                cost = _shipped(spec, recipe, shape, parameters=limits.parameters, memory=memory)
    except ValueError as error:
        raise ParameterFault(f"The network: {error}") from error
    if cost.parameters > limits.parameters:
        raise LimitFault(
            f"The network has {cost.parameters:,} parameters for images of {size} x {size} pixels in {bands} bands; "
            f"this service takes {limits.parameters:,}. Choose a smaller network or smaller stamps."
        )
    if beside * cost.memory > memory:
        several = f" in each of {beside} trainings at once" if beside > 1 else ""
        raise LimitFault(
            f"A training step of {recipe.batch_size} images{several} takes {beside * cost.memory / 2**20:,.0f} MB; "
            f"this service takes {limits.training_memory_mb:,} MB. Choose a smaller BATCH_SIZE, fewer MEMBERS or a "
            "smaller network."
        )
    return cost


def traced(recipe: Recipe, shape: tuple[int, int, int]) -> NetworkCost:
    """Walk shapes through a network of the house or a declared one, forward and back."""
    abstract = nnx.eval_shape(lambda: networks.of_recipe(recipe, key=jax.random.key(0), input_shape=shape))
    graph, state = nnx.split(abstract)

    def forward(state: Any, images: Any, scalars: Any) -> Any:
        return nnx.merge(graph, state)(images, scalars)

    def batch(count: int) -> tuple[Any, Any]:
        return (
            _ABSTRACT((count, *shape), jnp.float32),
            _ABSTRACT((count, _scalars(recipe, shape)), jnp.float32),
        )

    # What autodiff keeps for the way back are the leaves of the function that goes it; beside them, about three of the
    # largest arrays are under way at any time.
    kept = jax.eval_shape(lambda *arrays: jax.vjp(forward, *arrays)[1], state, *batch(recipe.batch_size))
    largest = max(_sizes(jax.make_jaxpr(forward)(state, *batch(recipe.batch_size)).jaxpr))
    activations = sum(map(_bytes, jax.tree.leaves(kept))) + 3 * largest
    # The plugins of accelerators count no operations of a program that is not compiled; a CPU does.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        counted: Any = jax.jit(forward).lower(state, *batch(1)).cost_analysis()
    parameters = networks.parameter_count(abstract)
    return NetworkCost(parameters, counted["flops"], _memory(recipe, parameters, activations))


def _sizes(program: Jaxpr) -> Iterator[int]:
    """Yield the size of each array that a program makes [byte]."""
    for operation in program.eqns:
        yield from (_bytes(made.aval) for made in operation.outvars)
        for inner in jaxprs_in_params(operation.params):
            yield from _sizes(inner)


def _bytes(array: Any) -> int:
    return int(array.size * array.dtype.itemsize)


def _check_declared(
    spec: Mapping[str, Any], recipe: Recipe, shape: tuple[int, int, int], *, parameters: int, memory: int
) -> None:
    declaration.check(
        spec,
        shape,
        outputs=recipe.parsed_head().outputs,
        scalars=_scalars(recipe, shape),
        limits=anatomy.Limits(parameters=parameters, activations=memory // 4),
    )


def _shipped(
    spec: Mapping[str, Any], recipe: Recipe, shape: tuple[int, int, int], *, parameters: int, memory: int
) -> NetworkCost:
    found = admission.admit(
        spec,
        input_shape=shape,
        outputs=recipe.parsed_head().outputs,
        scalars=_scalars(recipe, shape),
        limits=admission.ShipmentLimits(parameters=parameters, memory=memory, batch=recipe.batch_size),
    )
    # A step is the way forward and twice that for the way back.
    return NetworkCost(found.parameters, found.flops / 3, _memory(recipe, found.parameters, found.memory))


def _memory(recipe: Recipe, parameters: int, activations: int) -> int:
    """Return what a step of all members takes, of which each has so many parameters and activations [byte]."""
    members = recipe.settled(recipe.batch_size).members or 1
    # On a CPU the members take their turns (`inzitu.learn.step.each_member`).
    at_once = 1 if jax.default_backend() == "cpu" else members
    return COPIES * 4 * parameters * members + activations * at_once


def _scalars(recipe: Recipe, shape: tuple[int, int, int]) -> int:
    return len(recipe.scalars) + (shape[2] if recipe.masked else 0)
