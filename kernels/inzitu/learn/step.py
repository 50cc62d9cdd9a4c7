"""The compiled program of a training: many steps a dispatch, and the scoring of the validation rows.

See `inzitu.learn.train` for the loop around it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]  # it ships no types
from flax import nnx
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key

from inzitu.learn.collapse import own_weights
from inzitu.learn.dataset import Dataset
from inzitu.learn.fusion import unfused
from inzitu.learn.heads import MixtureHead
from inzitu.learn.precision import pytree
from inzitu.learn.recipe import Recipe

MOST_STEPS = 500
LOSS_MEMORY = 0.95


@pytree
@dataclass(frozen=True, slots=True)
class Member:
    """What a step changes of one network: parameters, their running mean, the optimiser's state."""

    parameters: Any
    mean: Any
    optimiser: Any


@pytree
@dataclass(frozen=True, slots=True)
class State:
    """All that changes in a training.

    Attributes
    ----------
    seed
        Where batches and augmentation come from.
    step
        Steps taken.
    loss
        Running mean of the loss.
    failed
        Whether the step that comes next gave a loss or a gradient that is not finite; the parameters are those before.
    members
        The networks, stacked: the member is the first axis of every array.
    best
        Of each member the running mean of the parameters that validated best.
    best_crps, best_weights, waited
        Its validation CRPS, the most weight of its own that each component has in a validation row
        (`inzitu.learn.collapse`), and the evaluations since then.
    """

    seed: Any
    step: Any
    loss: Any
    failed: Any
    members: Any
    best: Any
    best_crps: Any
    best_weights: Any
    waited: Any


class Keys(NamedTuple):
    """What is random in a step: how its images are varied, and what each member drops."""

    images: Key[Array, ""]
    members: Key[Array, " member"]


@dataclass(frozen=True, eq=False)
class Program:
    """What a training's compiled program is made from; two are equal if they compile to the same.

    Attributes
    ----------
    graph
        The network without its parameters.
    recipe
        The recipe, settled.
    steps
        Steps in all.
    sight
        Width of the central square that the network looks at [pixel]; None for the whole image. What it does not see is
        not varied.
    """

    graph: Any
    recipe: Recipe
    steps: int
    sight: int | None = None
    optimiser: optax.GradientTransformation = field(init=False)
    _identity: tuple[Any, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "optimiser", self.recipe.optimiser(self.steps))
        # The seed is in the state, so that another seed, as in another fold, does not compile anew.
        object.__setattr__(self, "_identity", (self.graph, replace(self.recipe, seed=0).digest(), self.steps))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def begin(self, parameters: Any) -> State:
        """Give the first state of stacked parameters."""
        members = Member(parameters, parameters, jax.vmap(self.optimiser.init)(parameters))
        count, head = len(jax.tree.leaves(parameters)[0]), self.recipe.parsed_head()
        components = head.k if isinstance(head, MixtureHead) else 0
        state = State(
            seed=jnp.array(self.recipe.seed, jnp.uint32),
            step=jnp.zeros((), jnp.int32),
            loss=jnp.zeros((), jnp.float32),
            failed=jnp.zeros((), bool),
            members=members,
            best=parameters,
            best_crps=jnp.full(count, jnp.inf, jnp.float32),
            best_weights=jnp.zeros((count, components), jnp.float32),
            waited=jnp.zeros(count, jnp.int32),
        )
        # Copies of their own, to be donated, and of explicit types: a weak one would compile the program again.
        own: State = jax.tree.map(lambda leaf: jnp.array(leaf, leaf.dtype), state)
        return own

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def advance(self, state: State, rows: Int[Array, "most batch"], count: Int[Array, ""], dataset: Dataset) -> State:
        """Take `count` steps with the batches `rows`. A step that fails is the last.

        The members learn from the same images, varied in the same way: they differ by where they begin and by what
        they drop, and end no less apart for it (docs/decisions/011).
        """

        def going(carry: tuple[Int[Array, ""], State]) -> Array:
            unfinished: Array = (carry[0] < count) & ~carry[1].failed
            return unfinished

        def step(carry: tuple[Int[Array, ""], State]) -> tuple[Int[Array, ""], State]:
            turn, state = carry
            keys = self.keys(state)
            each = functools.partial(self._member_step, self.varied(dataset, rows[turn], keys.images), state.step)
            members, (loss, fine) = changed(each, state.members, keys.members)
            failed = ~jnp.all(fine)
            share = jnp.maximum(1.0 - LOSS_MEMORY, 1.0 / (1.0 + state.step))
            smooth = state.loss + share * (jnp.mean(loss) - state.loss)
            return turn + 1, replace(state, members=members, loss=smooth, step=state.step + ~failed, failed=failed)

        advanced: State = lax.while_loop(going, step, (jnp.int32(0), state))[1]
        return advanced

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def validate(self, state: State, blocks: Dataset, mask: Array) -> tuple[State, Float[Array, " member"]]:
        """Score the running means on the validation rows, and keep those that are the best so far."""
        each = each_member(lambda mean: self._validated(mean, blocks, mask), state.waited.shape[0])
        crps, weights = each(state.members.mean)
        better = crps < state.best_crps

        def chosen(new: Array, old: Array) -> Array:
            return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        now, before = (state.members.mean, crps, weights), (state.best, state.best_crps, state.best_weights)
        best, best_crps, best_weights = jax.tree.map(chosen, now, before)
        waited = jnp.where(better, 0, state.waited + 1)
        return replace(state, best=best, best_crps=best_crps, best_weights=best_weights, waited=waited), crps

    def keys(self, state: State) -> Keys:
        """Give what is random in the next step."""
        # Folded once more than the keys of the first parameters, so that none is used twice.
        root = jax.random.fold_in(jax.random.key(state.seed), 2**31)
        images, members = jax.random.split(jax.random.fold_in(root, state.step))
        return Keys(images, jax.random.split(members, state.waited.shape[0]))

    def loss(
        self,
        parameters: Any,
        images: Float[Array, "n y x band"],
        scalars: Float[Array, "n s"],
        labels: Float[Array, " n"],
        *,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, " n"]:
        """Give the loss of each row; with a key as in training."""
        raw = nnx.merge(self.graph, parameters)(images, scalars, key=key)
        nll_weight = self.recipe.nll_weight
        assert nll_weight is not None, "settle the recipe first"
        return self.recipe.parsed_head().loss(raw, labels, nll_weight=nll_weight)

    def varied(
        self, dataset: Dataset, rows: Int[Array, " batch"], key: Key[Array, ""]
    ) -> tuple[Float[Array, "batch y x band"], Float[Array, "batch s"], Float[Array, " batch"]]:
        """Give images, scalars and labels of some rows, varied."""
        augmentation, softening = self.recipe.augmentation, self.recipe.softening
        assert augmentation is not None, "settle the recipe first"
        assert softening is not None, "settle the recipe first"
        images = dataset.images[rows]
        if self.sight is not None:
            images = augmentation.within(images, self.sight)
        images = shared(images.astype(jnp.float32))
        images = augmentation.apply(key, images, softening=softening)
        blending = jax.random.fold_in(key, 1)
        labels, images, scalars = augmentation.blended(blending, dataset.labels[rows], images, dataset.scalars[rows])
        return images, scalars, labels

    def _member_step(
        self, varied: tuple[Array, Array, Array], taken: Int[Array, ""], member: Member, key: Key[Array, ""]
    ) -> tuple[Member, tuple[Array, Array]]:
        def mean_loss(parameters: Any) -> Array:
            return jnp.mean(self.loss(parameters, *varied, key=key))

        loss, slopes = jax.value_and_grad(mean_loss)(member.parameters)
        length = norm(slopes)
        fine = jnp.isfinite(loss) & jnp.isfinite(length)
        assert self.recipe.clip is not None, "settle the recipe first"
        share = jnp.minimum(1.0, self.recipe.clip / length)
        slopes = jax.tree.map(lambda slope: share * slope, slopes)
        changes, optimiser = self.optimiser.update(slopes, member.optimiser, member.parameters)
        # Selected within the sum, where it costs nothing: after a failure the parameters are needed, not the rest.
        parameters = jax.tree.map(lambda p, change: jnp.where(fine, p + change, p), member.parameters, changes)
        assert self.recipe.ema is not None, "settle the recipe first"
        memory = jnp.minimum(self.recipe.ema, (1 + taken) / (10 + taken))
        mean = jax.tree.map(lambda m, p: m + (1 - memory) * (p - m), member.mean, parameters)
        return Member(parameters, mean, optimiser), (loss, fine)

    def _validated(self, parameters: Any, blocks: Dataset, mask: Array) -> tuple[Array, Array]:
        """Give the mean CRPS of the validation rows, and the most that each component has in one of them."""
        network, head = nnx.merge(self.graph, parameters), self.recipe.parsed_head()

        def scored(block: tuple[Dataset, Array]) -> tuple[Array, Array]:
            rows, real = block
            raw = network(rows.images.astype(jnp.float32), rows.scalars)
            own = own_weights(head.distribution(raw))
            return jnp.sum(jnp.where(real, head.crps(raw, rows.labels), 0.0)), jnp.max(own * real[:, None], axis=0)

        crps, own = lax.map(scored, (blocks, mask))
        return jnp.sum(crps) / jnp.sum(mask), jnp.max(own, axis=0)


def norm(tree: Any) -> Float[Array, ""]:
    """Give the Euclidean norm of all values together.

    Column by column first: one sum over both axes of a large matrix takes a CPU a tenth of the whole step of pasquet.
    """
    columns = [jnp.sum(jnp.square(leaf), axis=range(leaf.ndim - 1)) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(sum((jnp.sum(column) for column in unfused(columns)), jnp.float32(0.0)))


def shared(rows: Array) -> Array:
    """Share rows among the devices, if there are several and the rows can be shared equally.

    All that is computed from them follows; the gradients are summed over the devices by the compiler.
    """
    count = len(jax.devices())
    if count == 1 or rows.shape[0] % count:
        return rows
    constrained: Callable[[Array, NamedSharding], Array] = lax.with_sharding_constraint
    return constrained(rows, _over_devices("row"))


def everywhere[T](tree: T) -> T:
    """Put arrays on all devices."""
    if len(jax.devices()) == 1:
        return tree
    placed: T = jax.device_put(tree, _over_devices())
    return placed


def _over_devices(*axes: str) -> NamedSharding:
    partition: Callable[..., Any] = PartitionSpec
    return NamedSharding(Mesh(np.array(jax.devices()), ("row",)), partition(*axes))


def each_member(function: Callable[..., Any], members: int) -> Callable[..., Any]:
    """Let a function of one member take all of them, stacked.

    On a CPU one after the other: a member's batch fills the machine, and side by side they only share its caches. On an
    accelerator side by side. docs/decisions/011 has the times.
    """
    if members == 1:

        def alone(*stacked: Any) -> Any:
            only = function(*jax.tree.map(lambda leaf: leaf[0], stacked))
            return jax.tree.map(lambda leaf: leaf[None], only)

        return alone
    if jax.default_backend() == "cpu":
        return lambda *stacked: lax.map(lambda each: function(*each), stacked)
    return jax.vmap(function)


def changed(function: Callable[..., tuple[Any, Any]], members: Any, *others: Any) -> tuple[Any, Any]:
    """Let a function change each member and give something besides, as `each_member` has them take their turns.

    On a CPU they are changed where they are: to write a large network's states anew takes a tenth of a step.
    """
    count = len(others[0])
    if count == 1 or jax.default_backend() != "cpu":
        both: tuple[Any, Any] = each_member(function, count)(members, *others)
        return both

    def turn(members: Any, own: tuple[Array, Any]) -> tuple[Any, Any]:
        number, given = own
        # Read before anything is written, or all the members are copied for each one's sake: twice the time of a step.
        member = unfused(jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, number, keepdims=False), members))
        member, found = function(member, *given)
        put = functools.partial(lax.dynamic_update_index_in_dim, index=number, axis=0)
        return jax.tree.map(put, members, member), found

    scanned: tuple[Any, Any] = lax.scan(turn, members, (jnp.arange(count), others))
    return scanned
