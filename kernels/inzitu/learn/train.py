"""The training loop, with nothing of the model in it.

The host says which rows come next, looks at the losses, validates, writes checkpoints and reports; all else is one
compiled program on the device (`inzitu.learn.step`). A resumed training gives the same bits as one that was never
interrupted.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Integer

from inzitu.learn import networks
from inzitu.learn.checkpoints import Checkpoints
from inzitu.learn.collapse import remarks
from inzitu.learn.dataset import BLOCK, Dataset, Stamps, batches, check, digest, padded
from inzitu.learn.diagnosis import TrainingError, explained
from inzitu.learn.images import Normalisation, present
from inzitu.learn.ood import MOST_REFERENCES, OodModel, colours
from inzitu.learn.recipe import Recipe
from inzitu.learn.scalars import ScalarScale, stacked
from inzitu.learn.split import Part
from inzitu.learn.step import MOST_STEPS, Program, State, everywhere
from inzitu.learn.streaming import Rows, Source, rows_of
from inzitu.learn.trained import Trained

__all__ = ["Recipe", "Report", "Trained", "TrainingError", "train"]

# A dispatch lasts about this long, so that who waits sees the training move and can stop it [s].
SECONDS_A_DISPATCH = 1.0
VALIDATION_BLOCK = 256
# Training rows that the noise of the bands is measured on, about.
MOST_MEASURED = 50_000
# Training images that a network may look at before its first step, about.
MOST_LOOKED_AT = 1_000


@dataclass(frozen=True, slots=True)
class Report:
    """How far a training is.

    Attributes
    ----------
    step, steps
        Steps taken, and in all.
    loss
        Running mean of the training loss.
    validation_crps, best_crps
        CRPS of the validation rows when last scored, and the lowest so far, mean over the members; NaN before.
    seconds_left
        Time to the last step at the present rate [s].
    """

    step: int
    steps: int
    loss: float
    validation_crps: float
    best_crps: float
    seconds_left: float


def train(
    images: Stamps,
    labels: Float[np.ndarray, " n"],
    split: Integer[np.ndarray, " n"],
    *,
    recipe: Recipe,
    scalars: Mapping[str, Float[np.ndarray, " n"]] | None = None,
    checkpoints: Path | None = None,
    checkpoint_seconds: float = 20.0,
    memory: int | None = None,
    report: Callable[[Report], None] | None = None,
) -> Trained:
    """Train an ensemble of networks.

    Parameters
    ----------
    images
        Images in the archive's units [n, y, x, band], perhaps memory-mapped or in Zarr.
    labels
        Redshifts.
    split
        `Part` of each row; test rows are not touched, nor are those of another number.
    recipe
        What to train and how.
    scalars
        For each of the recipe's scalars a number a row.
    checkpoints
        Folder for checkpoints; if it holds some of the same training, that goes on.
    checkpoint_seconds
        Time between checkpoints [s].
    memory
        What the training rows' images may take on the device [byte]; beyond it they are streamed, with the same result.
    report
        Called after each dispatch; what it raises ends the training.

    Raises
    ------
    TrainingError
        A loss or a gradient is not finite; says in which layer and for which rows.
    ValueError
        Rows, recipe and network do not go together.
    """
    check(images, labels, split)
    rows = {part: np.flatnonzero(split == part) for part in Part}
    recipe = recipe.settled(len(rows[Part.TRAIN]))
    assert recipe.softening is not None
    given = stacked(recipe.scalars, scalars or {}, images.shape[0])
    some = rows[Part.TRAIN][:: 1 + len(rows[Part.TRAIN]) // MOST_MEASURED]
    scale = ScalarScale.measure(given[rows[Part.TRAIN]])
    columns = _columns(scale.apply(given), images, masked=recipe.masked)
    normalisation = Normalisation.measure(images[some], softening=recipe.softening)
    training, held = (
        Source(images, labels, columns, rows[part], normalisation) for part in (Part.TRAIN, Part.VALIDATION)
    )
    looked_at = normalisation.apply(images[some[:: 1 + len(some) // MOST_LOOKED_AT]])
    program, state = _begun(recipe, looked_at, labels, rows)
    draw = functools.partial(_drawn, recipe, len(rows[Part.TRAIN]))
    state, blocks = everywhere((state, held.placed()))
    stamps = rows_of(training, draw, batch=recipe.batch_size, memory=memory)
    loop = _Loop(program, stamps, blocks, rows[Part.TRAIN], report or (lambda _: None))
    with _opened(checkpoints, recipe.digest() + digest(images, labels, split, columns)) as store:
        state, history = loop.run(state, store, checkpoint_seconds)
    return Trained(
        recipe=recipe,
        input_shape=(images.shape[1], images.shape[2], images.shape[3]),
        normalisation=normalisation,
        scalars=scale,
        parameters=jax.tree.map(np.asarray, state.best),
        z_range=(float(labels[rows[Part.TRAIN]].min()), float(labels[rows[Part.TRAIN]].max())),
        rows={part.name.lower(): len(rows[part]) for part in Part},
        split_digest=digest(split),
        validation_crps=float(np.mean(state.best_crps)),
        ood=_usual(images[rows[Part.TRAIN][:: -(-len(rows[Part.TRAIN]) // MOST_REFERENCES)]], normalisation),
        history=tuple(history),
        remarks=remarks(np.asarray(state.best_weights)),
    )


@dataclass(frozen=True, slots=True)
class _Loop:
    program: Program
    training: Rows
    held: Dataset
    rows: np.ndarray
    report: Callable[[Report], None]

    def run(self, state: State, store: Checkpoints | None, seconds: float) -> tuple[State, list[Mapping[str, float]]]:
        """Go from the first state, or the last checkpoint, through all steps or until nothing improves."""
        history: list[Mapping[str, float]] = []
        if store and (found := store.restore(state)):
            state, history = everywhere(jax.tree.map(jnp.asarray, found[0])), found[1]
        recipe, steps = self.program.recipe, self.program.steps
        blocks, mask = padded(self.held, min(VALIDATION_BLOCK, self.held.labels.shape[0]))
        every = max(1, steps // recipe.evaluations)
        step, pace, saved = int(state.step), _Pace(), time.monotonic()
        crps = history[-1]["validation_crps"] if history else float("nan")
        while step < steps and np.any(np.asarray(state.waited) < recipe.patience):
            count = min(pace.count, every - step % every, steps - step, self.training.ahead(step))
            state = self._dispatch(state, step, count)
            step, loss = step + count, float(state.loss)
            pace.took(count)
            if step % every == 0 or step == steps:
                state, scored = self.program.validate(state, blocks, mask)
                crps = float(np.mean(scored))
                history.append({"step": float(step), "loss": loss, "validation_crps": crps})
            if store and time.monotonic() - saved >= seconds:
                store.save(step, state, history)
                saved = time.monotonic()
            best = float(np.mean(state.best_crps))
            self.report(Report(step, steps, loss, crps, best, pace.seconds_a_step * (steps - step)))
        return state, history

    def _dispatch(self, state: State, step: int, count: int) -> State:
        dataset, drawn = self.training.at(step, count)
        rows = np.zeros((MOST_STEPS, *drawn.shape[1:]), np.int32)
        rows[:count] = drawn
        state = self.program.advance(state, rows, count, dataset)
        if bool(state.failed):
            self._explain(state, dataset, drawn[int(state.step) - step])
        return state

    def _explain(self, state: State, dataset: Dataset, drawn: Integer[np.ndarray, " batch"]) -> None:
        """Raise an error that says what was not finite in the step that comes next."""
        (of_all,) = _drawn(self.program.recipe, len(self.rows), int(state.step), 1)
        varied = self.program.varied(dataset, jnp.asarray(drawn), self.program.keys(state).images)
        for member in range(len(state.waited)):
            parameters = jax.tree.map(lambda leaf, member=member: leaf[member], state.members.parameters)
            if reason := explained(self.program, parameters, *varied, self.rows[of_all]):
                raise TrainingError(f"step {int(state.step)}, member {member}: {reason}")
        raise TrainingError(f"step {int(state.step)}: a loss or gradient was not finite; lower the learning rate")


class _Pace:
    """How many steps make a dispatch of about a second."""

    def __init__(self) -> None:
        self.count, self.seconds_a_step, self._last = 1, 0.0, time.monotonic()

    def took(self, count: int) -> None:
        now = time.monotonic()
        self.seconds_a_step, self._last = (now - self._last) / count, now
        # The first dispatch compiles; so that one slow moment does not starve the next, the count at most doubles.
        self.count = max(1, min(2 * self.count, MOST_STEPS, int(SECONDS_A_DISPATCH / max(self.seconds_a_step, 1e-6))))


def _begun(
    recipe: Recipe, images: jax.Array, labels: np.ndarray, rows: Mapping[Part, np.ndarray]
) -> tuple[Program, State]:
    head = recipe.parsed_head()
    for part in (Part.TRAIN, Part.VALIDATION):
        head.check_labels(labels[rows[part]])
    bias = head.initial_bias(labels[rows[Part.TRAIN]].astype(np.float64))
    build = functools.partial(networks.of_recipe, recipe, input_shape=images.shape[1:])
    abstract = nnx.eval_shape(lambda: build(key=jax.random.key(0)))
    program = Program(nnx.split(abstract)[0], recipe, recipe.steps(len(rows[Part.TRAIN])), sight=abstract.size)

    def member(key: jax.Array, bias: jax.Array, images: jax.Array) -> Any:
        network = build(key=key)
        network.begin_at(bias, images)
        return nnx.split(network)[1]

    # One program instead of the hundreds that networks are made of, each of which would be compiled by itself.
    @jax.jit
    def begun(seed: jax.Array, bias: jax.Array, images: jax.Array) -> State:
        keys = [jax.random.fold_in(jax.random.key(seed), number) for number in range(recipe.members or 1)]
        return program.begin(jax.lax.map(lambda key: member(key, bias, images), jnp.stack(keys)))

    return program, begun(recipe.seed, bias, images)


def _drawn(recipe: Recipe, rows: int, first: int, count: int) -> Integer[np.ndarray, "count batch"]:
    """Give which of the training rows some steps take."""
    return batches(rows, recipe.batch_size, first=first, count=count, seed=(recipe.seed,))


def _columns(scalars: jax.Array, images: Stamps, *, masked: bool) -> np.ndarray:
    """Give what comes with an image: its scalars and, if asked for, which bands are there."""
    rows = images.shape[0]
    blocks = range(0, rows, BLOCK) if masked else ()
    there = [np.asarray(present(images[first : first + BLOCK])) for first in blocks] or [np.zeros((rows, 0))]
    return np.concatenate([np.asarray(scalars), np.concatenate(there)], axis=1)


def _opened(folder: Path | None, identity: str) -> AbstractContextManager[Checkpoints | None]:
    return nullcontext() if folder is None else Checkpoints.open(folder, identity=identity)


def _usual(images: np.ndarray, normalisation: Normalisation) -> OodModel:
    seen = colours(jnp.nan_to_num(jnp.asarray(images, jnp.float32)), jnp.asarray(normalisation.sigmas))
    return OodModel.fit(np.asarray(seen))
