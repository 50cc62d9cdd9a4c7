"""The steps of a training, each taken again by hand: gradient clipped, AdamW in numpy, the running mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from inzitu.learn import train as training
from inzitu.learn.images import Augmentation
from inzitu.learn.mixture import Mixture
from inzitu.learn.predict import predict
from inzitu.learn.recipe import Recipe
from inzitu.learn.step import Program, State
from inzitu.learn.train import Trained, train
from learn.quadrature import Case, crps
from learn.tiny import coloured, offer, thirds

STEPS, RATE, DECAY, CLIP, MEMORY = 15, 3e-3, 0.1, 1e-3, 0.5
# Every image as it is, so that the gradient of a step can be had again; a rate that falls from the first step on.
RECIPE = Recipe(
    network="tiny",
    head="mixture(2)",
    epochs=6,
    batch_size=16,
    learning_rate=RATE,
    warm_up=0.0,
    weight_decay=DECAY,
    clip=CLIP,
    ema=MEMORY,
    augmentation=Augmentation(symmetries=False, noise=0.0, brightness=0.0),
    evaluations=1,
    members=1,
)
IMAGES, LABELS = coloured(60)


@dataclass
class Diary:
    """The weights before the first step and after each, the gradients between them, and what became of each state."""

    weights: list[np.ndarray] = field(default_factory=list)
    gradients: list[np.ndarray] = field(default_factory=list)
    decays: np.ndarray = field(default_factory=lambda: np.zeros(0))
    deleted: list[bool] = field(default_factory=list)
    trained: Trained | None = None


def flat(tree: Any) -> np.ndarray:
    return np.array(ravel_pytree(tree)[0], np.float64)


@pytest.fixture(scope="module")
def diary() -> Iterator[Diary]:
    kept, advance, validate = Diary(), Program.advance, Program.validate

    @partial(jax.jit, static_argnums=0)
    def gradient(program: Program, parameters: Any, images: Any, labels: Any) -> Any:
        def loss(parameters: Any) -> Any:
            return jnp.mean(program.loss(parameters, images, jnp.zeros((len(labels), 0)), labels))

        return jax.grad(loss)(parameters)

    def advanced(program: Program, state: State, rows: np.ndarray, count: int, dataset: Any) -> State:
        assert count == 1
        before = jax.tree.map(lambda leaf: leaf[0], state.members.parameters)
        if not kept.weights:
            kept.weights.append(flat(before))
            kept.decays = flat(jax.tree.map(lambda leaf: jnp.full(leaf.shape, float(leaf.ndim > 1)), before))
        batch = rows[0].ravel()
        kept.gradients.append(flat(gradient(program, before, dataset.images[batch], dataset.labels[batch])))
        after: State = advance(program, state, rows, count, dataset)
        kept.deleted += [leaf.is_deleted() for leaf in jax.tree.leaves(state)]
        kept.weights.append(flat(after.members.parameters))
        return after

    def validated(program: Program, state: State, *rows: Any) -> Any:
        after = validate(program, state, *rows)
        kept.deleted += [leaf.is_deleted() for leaf in jax.tree.leaves(state)]
        return after

    with pytest.MonkeyPatch.context() as patch:
        offer(patch)
        patch.setattr(training, "SECONDS_A_DISPATCH", 0.0)  # a step a dispatch
        patch.setattr(Program, "advance", advanced)
        patch.setattr(Program, "validate", validated)
        kept.trained = train(IMAGES, LABELS, thirds(60), recipe=RECIPE)
        yield kept


def adamw(diary: Diary, *, clip: float) -> list[np.ndarray]:
    """The change of each step (Loshchilov & Hutter 2019, algorithm 2), of gradients no longer than `clip`."""
    first, second, changes = np.zeros_like(diary.decays), np.zeros_like(diary.decays), []
    for turn, (weights, found) in enumerate(zip(diary.weights, diary.gradients, strict=False)):
        gradient = found * min(1.0, clip / np.linalg.norm(found))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        means = first / (1 - 0.9 ** (turn + 1)), second / (1 - 0.999 ** (turn + 1))
        rate = RATE * (0.01 + 0.99 * (1 + np.cos(np.pi * turn / STEPS)) / 2)
        changes.append(-rate * (means[0] / (np.sqrt(means[1]) + 1e-8) + DECAY * diary.decays * weights))
    return changes


def apart(diary: Diary, *, clip: float) -> float:
    """How far the steps of the training are from those by hand, relative to their length."""
    found = np.stack([after - before for before, after in pairwise(diary.weights)])
    return float(np.linalg.norm(found - np.stack(adamw(diary, clip=clip))) / np.linalg.norm(found))


def test_a_step_is_adamw_by_the_gradient_scaled_to_its_longest_norm(diary: Diary) -> None:
    assert len(diary.gradients) == STEPS
    assert min(np.linalg.norm(gradient) for gradient in diary.gradients) > 10 * CLIP
    assert apart(diary, clip=CLIP) < 2e-3
    assert apart(diary, clip=np.inf) > 2e-2


def test_the_model_that_is_validated_and_kept_is_the_running_mean_of_the_weights(diary: Diary) -> None:
    mean = diary.weights[0]
    for turn, weights in enumerate(diary.weights[1:]):
        memory = min(MEMORY, (1 + turn) / (10 + turn))
        mean = memory * mean + (1 - memory) * weights
    assert diary.trained
    kept = flat(diary.trained.parameters)
    np.testing.assert_allclose(kept, mean, atol=1e-6)
    assert np.abs(kept - diary.weights[-1]).max() > 1e-4
    held = thirds(60) == 1
    pdfs = predict(diary.trained, IMAGES[held], average=False)
    assert isinstance(pdfs, Mixture)
    weights, means, sigmas = (np.asarray(array, np.float64) for array in (pdfs.weights, pdfs.means, pdfs.sigmas))
    rows = zip(weights, means, sigmas, LABELS[held].tolist(), strict=True)
    scores = [crps(Case("a validation row", *row)) for row in rows]
    assert diary.trained.validation_crps == pytest.approx(np.mean(scores), rel=1e-5)


def test_the_state_that_a_program_is_given_is_donated_whole(diary: Diary) -> None:
    # Else the states of a large ensemble are on the device twice.
    assert len(diary.deleted) > 20 * STEPS
    assert all(diary.deleted)
