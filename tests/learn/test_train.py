from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inzitu.learn import networks
from inzitu.learn import recipe as recipes
from inzitu.learn.dataset import batches
from inzitu.learn.heads import HeadError
from inzitu.learn.images import Augmentation
from inzitu.learn.mixture import Mixture
from inzitu.learn.predict import predict
from inzitu.learn.recipe import Recipe, RecipeError
from inzitu.learn.split import Part
from inzitu.learn.train import Report, Trained, TrainingError, train
from learn.tiny import Tiny, coloured, offer, thirds

if TYPE_CHECKING:
    from collections.abc import Callable

    from inzitu.learn.networks import Stages

TINY = Recipe(network="tiny", head="mixture(2)", epochs=8, batch_size=16, learning_rate=3e-3, members=1, evaluations=4)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch)


def crps(trained: Trained, images: np.ndarray, labels: np.ndarray) -> float:
    """Of samples: E|x - z| - 1/2 E|x - x'| (Gneiting & Raftery 2007, eq. 20)."""
    pdfs, rng = predict(trained, images), np.random.default_rng(0)
    assert isinstance(pdfs, Mixture)
    first, second = np.empty((2, 2000, len(labels)))
    for samples in (first, second):
        for row in range(len(labels)):
            weights = pdfs.weights[row].astype(float)
            chosen = rng.choice(len(weights), 2000, p=weights / weights.sum())
            samples[:, row] = rng.normal(pdfs.means[row, chosen], pdfs.sigmas[row, chosen])
    return float(np.mean(np.abs(first - labels)) - 0.5 * np.mean(np.abs(first - second)))


def same(one: Trained, other: Trained) -> bool:
    pairs = zip(jax.tree.leaves(one.parameters), jax.tree.leaves(other.parameters), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs) and one.history == other.history


def test_64_images_are_learned_by_heart() -> None:
    images, labels = coloured(65)
    split = np.zeros(65, np.int8)
    split[-1] = 1
    still = Augmentation(symmetries=False, noise=0.0, brightness=0.0)
    recipe = dataclasses.replace(TINY, epochs=400, augmentation=still, batch_size=64, patience=1000)
    trained = train(images, labels, split, recipe=dataclasses.replace(recipe, evaluations=1))
    found = predict(trained, images[:64], average=False)
    assert np.mean(np.abs(found.mean() - labels[:64])) < 0.02


def test_shuffled_labels_give_the_climatology() -> None:
    images, labels = coloured(600)
    labels = np.random.default_rng(1).permutation(labels)
    split = thirds(600)
    trained = train(images, labels, split, recipe=dataclasses.replace(TINY, epochs=6))
    # Of a uniform distribution of width 1, by a forecaster who knows it: 1/6.
    assert crps(trained, images[split == 2], labels[split == 2]) == pytest.approx(1 / 6, rel=0.1)


def test_what_can_be_learned_is_learned() -> None:
    images, labels = coloured(600)
    split = thirds(600)
    trained = train(images, labels, split, recipe=dataclasses.replace(TINY, epochs=12))
    assert crps(trained, images[split == 2], labels[split == 2]) < 0.06
    assert trained.rows == {"train": 400, "validation": 100, "test": 100}
    assert trained.history[-1]["step"] == 12 * 400 / 16


_ON_FOUR_DEVICES = """
import sys, json
import numpy as np, pytest, jax
assert len(jax.devices()) == 4
from inzitu.learn.train import train
from learn.test_train import TINY
from learn.tiny import coloured, offer, thirds
with pytest.MonkeyPatch.context() as patch:
    offer(patch)
    print(json.dumps(train(*coloured(60), thirds(60), recipe=TINY).history))
"""


def test_four_devices_give_the_same_loss_curve() -> None:
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "PYTHONPATH": "tests"}
    command = [sys.executable, "-c", _ON_FOUR_DEVICES]
    done = subprocess.run(command, env=environment, check=True, timeout=200, capture_output=True, text=True)
    four = json.loads(done.stdout)
    one = train(*coloured(60), thirds(60), recipe=TINY).history
    for name in ("step", "loss", "validation_crps"):
        np.testing.assert_allclose([entry[name] for entry in four], [entry[name] for entry in one], rtol=1e-4)


def test_another_seed_is_another_training() -> None:
    images, labels = coloured(60)
    one, other = (train(images, labels, thirds(60), recipe=dataclasses.replace(TINY, seed=seed)) for seed in (3, 4))
    assert not same(one, other)


class Killed(Exception):
    pass


def killer(step: int) -> Callable[[Report], None]:
    def report(report: Report) -> None:
        if report.step >= step:
            raise Killed

    return report


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:orbax")
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    images, labels = coloured(90)
    recipe = dataclasses.replace(TINY, members=2)
    whole = train(images, labels, thirds(90), recipe=recipe)
    steps: list[int] = []
    for stop in (3, 11):
        with pytest.raises(Killed):
            train(
                images,
                labels,
                thirds(90),
                recipe=recipe,
                checkpoints=tmp_path,
                checkpoint_seconds=0.0,
                report=killer(stop),
            )
    resumed = train(
        images, labels, thirds(90), recipe=recipe, checkpoints=tmp_path, report=lambda report: steps.append(report.step)
    )
    assert steps[0] > 11
    assert same(whole, resumed)


_FIRST = """
import sys, json, pathlib
import pytest
from inzitu.learn.train import train
from learn.test_train import TINY
from learn.tiny import coloured, offer, thirds
with pytest.MonkeyPatch.context() as patch:
    offer(patch)
    options = {"checkpoints": pathlib.Path(sys.argv[1]), "checkpoint_seconds": 0.0}
    found = train(*coloured(60), thirds(60), recipe=TINY, **options, report=lambda told: print(told.step, flush=True))
print(json.dumps(found.history))
"""


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:orbax")
def test_of_two_workers_at_one_training_the_second_waits_and_goes_on_with_what_the_first_left(tmp_path: Path) -> None:
    command, environment = [sys.executable, "-c", _FIRST, str(tmp_path)], os.environ | {"PYTHONPATH": "tests"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        assert int(first.stdout.readline()) < 20
        steps: list[int] = []
        second = train(
            *coloured(60), thirds(60), recipe=TINY, checkpoints=tmp_path, report=lambda told: steps.append(told.step)
        )
        left = json.loads(first.stdout.read().splitlines()[-1])
    assert steps == []  # the first has taken every step
    assert left == list(map(dict, second.history))
    assert same(second, train(*coloured(60), thirds(60), recipe=TINY))


def test_the_way_is_reported_with_the_time_left() -> None:
    images, labels = coloured(60)
    reports: list[Report] = []
    train(images, labels, thirds(60), recipe=TINY, report=reports.append)
    steps = [report.step for report in reports]
    assert steps == sorted(set(steps))
    assert reports[-1].step == reports[-1].steps == 20
    assert reports[-1].seconds_left == 0
    assert all(np.isfinite(report.loss) for report in reports)
    assert np.isfinite(reports[-1].validation_crps)


def test_training_stops_when_the_validation_rows_get_no_better() -> None:
    images, labels = coloured(60)
    labels[thirds(60) == 0] = np.random.default_rng(0).uniform(5, 6, 40)
    recipe = dataclasses.replace(TINY, epochs=400, evaluations=200, patience=3)
    trained = train(images, labels, thirds(60), recipe=recipe)
    assert trained.history[-1]["step"] < 600


def test_each_member_of_an_ensemble_is_another_network() -> None:
    images, labels = coloured(60)
    trained = train(images, labels, thirds(60), recipe=dataclasses.replace(TINY, members=3))
    found = predict(trained, images[:5])
    assert isinstance(found, Mixture)
    assert found.weights.shape == (5, 6)
    np.testing.assert_allclose(found.weights.sum(axis=-1), 1, rtol=1e-6)
    assert len(np.unique(found.means[0])) == 6


def test_a_scalar_that_is_the_answer_is_used() -> None:
    images, labels = coloured(300)
    images = np.random.default_rng(0).normal(size=images.shape).astype(np.float32)
    recipe = dataclasses.replace(TINY, scalars=("answer",), epochs=15)
    trained = train(images, labels, thirds(300), recipe=recipe, scalars={"answer": labels})
    found = predict(trained, images, {"answer": labels})
    assert np.corrcoef(found.mean(), labels)[0, 1] > 0.9
    with pytest.raises(ValueError, match="takes the scalar 'answer'; given are none"):
        train(images, labels, thirds(300), recipe=recipe)


def test_a_missing_band_is_known_to_be_missing() -> None:
    images, labels = coloured(400)
    missing = np.arange(400) % 2 == 0
    images[missing, :, :, 1] = np.nan
    trained = train(images, labels, thirds(400), recipe=dataclasses.replace(TINY, masked=True, epochs=30))
    widths = predict(trained, images).std()
    assert np.isfinite(widths).all()
    # Without the second band there is no colour: the climatology's width of 0.29, whatever the image.
    assert np.median(widths[missing]) > 0.2
    assert np.median(widths[~missing]) < 0.6 * np.median(widths[missing])


class Brittle(Tiny):
    """A layer in its midst breaks at an image much brighter than all others."""

    def stages(self, images: jax.Array, scalars: jax.Array, *, key: jax.Array | None = None) -> Stages:
        (_, convolved), (_, dense), _ = super().stages(images, scalars, key=key)
        yield "convolution", convolved
        dense = dense + self.broken(dense, jnp.max(images, axis=(1, 2, 3), keepdims=True)[:, 0, 0] > 10)
        yield "dense", dense
        yield "head", self.head(dense)

    def broken(self, dense: jax.Array, bright: jax.Array) -> jax.Array:
        return jnp.where(bright, jnp.inf, 0.0)


class Sloping(Brittle):
    """The layer gives a number, but has no slope there."""

    def broken(self, dense: jax.Array, bright: jax.Array) -> jax.Array:
        return jnp.sqrt(0.0 * jnp.where(bright, dense, 0.0))


@pytest.mark.parametrize(
    ("design", "message"),
    [
        (Brittle, r"dense gives values that are not finite for 2 rows \((\d+), (\d+)\)"),
        (Sloping, r"the gradient of (convolution|dense)\.(bias|kernel) is not finite although every loss is"),
    ],
)
def test_a_loss_that_is_not_finite_is_diagnosed_with_layer_and_rows(
    design: type[Tiny], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(networks.DESIGNS, "brittle", (design, (8, 8, 2)))
    images, labels = coloured(60)
    # The training rows are not the first of the list: what is named are the rows of the user.
    split = thirds(60)[::-1].copy()
    bad = [9, 40]
    assert (split[bad] == 0).all()
    images[bad, 4, 4, 0] = 1e7
    recipe = dataclasses.replace(TINY, network="brittle", batch_size=40)
    with pytest.raises(TrainingError, match=r"^step 0, member 0: " + message) as told:
        train(images, labels, split, recipe=recipe)
    found = re.search(message, str(told.value))
    assert found
    if "rows" in message:
        assert sorted(map(int, found.groups())) == bad


def test_what_a_training_measures_is_of_its_training_rows_alone() -> None:
    images, labels = coloured(60)
    split = thirds(60)
    recipe = dataclasses.replace(TINY, scalars=("ebv",), epochs=2)
    ebv = np.random.default_rng(0).uniform(size=60)
    trained = train(images, labels, split, recipe=recipe, scalars={"ebv": ebv})

    def with_other(part: Part, factor: float) -> Trained:
        """Change pixels, redshifts and scalars of one part."""
        pixels, z, colour = images.copy(), labels.copy(), ebv.copy()
        for values in (pixels, z, colour):
            values[split == part] *= factor
        return train(pixels, z, split, recipe=recipe, scalars={"ebv": colour})

    def measured(trained: Trained) -> list[Any]:
        usual = [array.tobytes() for array in trained.ood.arrays().values()]
        return [trained.normalisation, trained.scalars, trained.z_range, *usual]

    other_validation, other_test = with_other(Part.VALIDATION, 1.7), with_other(Part.TEST, 1e3)
    other_training = with_other(Part.TRAIN, 1.7)
    assert measured(other_validation) == measured(trained)
    assert [entry["loss"] for entry in other_validation.history] == [entry["loss"] for entry in trained.history]
    assert other_validation.validation_crps != trained.validation_crps
    assert same(other_test, trained)
    assert measured(other_test) == measured(trained)
    assert all(one != other for one, other in zip(measured(other_training)[:3], measured(trained)[:3], strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images, labels, split: labels.put(3, np.nan), "1 rows have no finite label .rows 3."),
        (lambda images, labels, split: labels.fill(0.3), "all training labels are 0.3: there is nothing to learn"),
        (lambda images, labels, split: split.fill(0), "the split has no validation rows"),
        (lambda images, labels, split: split[:15].fill(2), r"the split has \d train rows, 11 are needed"),
        (lambda images, labels, split: images[..., 1].fill(np.nan), "band 1 has a noise of nan"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused(
    change: Callable[[np.ndarray, np.ndarray, np.ndarray], None], message: str
) -> None:
    images, labels = coloured(30)
    split = thirds(30)
    change(images, labels, split)
    with pytest.raises(ValueError, match=message):
        train(images, labels, split, recipe=TINY)


def test_a_label_beyond_single_precision_is_refused() -> None:
    images, labels = coloured(30)
    with pytest.raises(ValueError, match=r"1 rows have no finite label \(rows 3\)"):
        train(images, np.where(np.arange(30) == 3, np.float64(1e200), labels), thirds(30), recipe=TINY)


def test_labels_outside_the_head_are_refused_before_anything_is_trained() -> None:
    images, labels = coloured(30)
    with pytest.raises(HeadError, match=r"covers 0 <= z <= 0.7"):
        train(images, labels, thirds(30), recipe=dataclasses.replace(TINY, head="bins(10, 0.7)"))


def test_an_epoch_shows_every_row_once() -> None:
    drawn = batches(10, 4, first=0, count=5, seed=(0,)).ravel()
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert list(drawn[:10]) != list(drawn[10:])


def test_a_batch_depends_on_its_number_alone() -> None:
    whole = batches(10, 4, first=0, count=9, seed=(1, 2))
    np.testing.assert_array_equal(
        np.concatenate([batches(10, 4, first=n, count=3, seed=(1, 2)) for n in (0, 3, 6)]), whole
    )


@pytest.mark.parametrize("numbers", [{"epochs": 0}, {"learning_rate": -1.0}, {"ema": 1.0}, {"compute": "int8"}])
def test_numbers_that_cannot_be_are_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(numbers))):
        dataclasses.replace(TINY, **numbers)


def test_a_recipe_settles_what_was_left_to_the_network() -> None:
    settled = Recipe(network="dcmdn-a", batch_size=1000).settled(650)
    assert settled.batch_size == 650
    assert settled.learning_rate == recipes.OWN["dcmdn-a"].learning_rate
    assert settled.members == 1
    assert settled.epochs == round(recipes.OWN["dcmdn-a"].images / 650)
    assert settled == settled.settled(650)
