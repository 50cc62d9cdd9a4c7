"""What a job's network takes is known before it queues, and what cannot be is refused at once."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax  # type: ignore[import-untyped]  # it has no types
import pytest
from flax import nnx

from inzitu.errors import LimitFault, ParameterFault, UserFault
from inzitu.learn.declared import build_declared
from inzitu.learn.networks import of_recipe
from inzitu.learn.ship import ship
from inzitu.manifest import Limits
from inzitu.pipelines.parameters import TrainParameters
from inzitu.run.networks import NetworkCost, examined, recipe_of

DECLARED = """
layers: [conv: {channels: 16, size: 3}, activation: relu, pool: max, conv: {channels: 24, size: 3}, activation: relu,
         global_pool: average, dense: 16]
"""
SMALL = Limits(training_memory_mb=64, parameters=100_000)


def cost(network: Path | None = None, *, size: int = 28, limits: Limits = SMALL, **chosen: Any) -> NetworkCost:
    asked = TrainParameters(**({"network": "own"} if network else {}), **chosen)
    return examined(asked, bands=5, size=size, limits=limits, network=network)


def written(folder: Path, content: str) -> Path:
    path = folder / "network"
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("name", "size", "parameters", "gflop"),
    [("dcmdn-a", 28, 4.76e6, 0.0723), ("dcmdn-b", 28, 39.0e6, 0.997), ("pasquet", 64, 27.4e6, 1.52)],
)
def test_the_networks_of_the_house_take_what_is_published(
    name: Any, size: int, parameters: float, gflop: float
) -> None:
    found = examined(TrainParameters(network=name), bands=5, size=size, limits=Limits(), network=None)
    assert found.parameters == pytest.approx(parameters, rel=2e-3)
    # The first layer of dcmdn is folded, and some convolutions are made in fewer products: pasquet's take 0.49 in all.
    assert 0.4 * gflop < found.flops / 1e9 < 1.02 * gflop


def test_memory_is_about_what_the_compiler_says(tmp_path: Path) -> None:
    found = cost(written(tmp_path, DECLARED), batch_size=128)
    graph, state = nnx.split(build_declared(DECLARED, key=jax.random.key(0), input_shape=(28, 28, 5)))
    slopes = jax.grad(lambda state, images: jnp.sum(nnx.merge(graph, state)(images) ** 2))
    told: Any = jax.jit(slopes).lower(state, jnp.ones((128, 28, 28, 5))).compile().memory_analysis()
    seen = told.argument_size_in_bytes + told.output_size_in_bytes + told.temp_size_in_bytes
    assert 0.6 < found.memory / seen < 1.5


def test_members_and_batches_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = written(tmp_path, DECLARED)
    one, two = cost(network, batch_size=64), cost(network, batch_size=128)
    assert 1.5 < two.memory / one.memory < 2
    ten = cost(network, members=10).memory
    state = nnx.state(build_declared(DECLARED, key=jax.random.key(0), input_shape=(28, 28, 5)), nnx.Param)
    kept = optax.adam(1e-3).init(state)
    # Beside the parameters and the two moments of each member: the gradient, the running mean and the best one.
    member = sum(array.nbytes for array in jax.tree.leaves((state, kept, state, state, state)))
    assert ten - one.memory == pytest.approx(9 * member, rel=1e-3)
    assert ten < 2 * one.memory, "on a CPU the members take their turns"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    roomy = Limits(training_memory_mb=1024)
    alone, beside = (cost(network, limits=roomy, members=count).memory for count in (1, 10))
    assert beside == 10 * alone, "on an accelerator they work side by side"


def test_trainings_side_by_side_share_the_memory_allowed(tmp_path: Path) -> None:
    network = written(tmp_path, DECLARED)
    asked = TrainParameters(network="own")
    limits = Limits(training_memory_mb=int(1.5 * cost(network).memory / 2**20), parameters=100_000)
    examined(asked, bands=5, size=28, limits=limits, network=network)
    with pytest.raises(LimitFault, match="in each of 2 trainings at once takes"):
        examined(asked, bands=5, size=28, limits=limits, network=network, beside=2)


def raw(parameters: Any, images: Any) -> Any:
    return images.mean(axis=(1, 2)) @ parameters["matrix"]


def shipped(**changes: Any) -> str:
    shipment = ship(raw, lambda key: {"matrix": jax.random.normal(key, (5, 15))}, input_shape=(28, 28, 5))
    return json.dumps({**shipment.json, **changes})


def test_a_shipped_network_is_costed(tmp_path: Path) -> None:
    found = cost(written(tmp_path, shipped()), batch_size=4)
    assert found.parameters == 75
    assert 2 * 5 * 15 < found.flops < 10 * (28 * 28 * 5 + 2 * 5 * 15)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a loop": ("layers: &a [residual: *a]", {}, "aliases are not allowed"),
    "a negative size": ("layers: [conv: {channels: -3, size: 3}]", {}, "channels is -3"),
    "10^12 parameters": (
        "layers: [global_pool, dense: 1000000, dense: 1000000]",
        {},
        r"6e\+06 parameters .* 1e\+05 are allowed",
    ),
    "a kernel beyond the stamp": ("layers: [conv: {channels: 4, size: 40, padding: valid}]", {}, "28 x 28 pixels"),
    "too many parameters": ("layers: [flatten, dense: 100]", {}, r"1e\+05 are allowed"),
    "too much memory": (
        "layers: [conv: {channels: 64, size: 3}, global_pool]",
        {"batch_size": 1024},
        r"step of 1024 images takes [0-9,]+ MB; this service takes 64 MB",
    ),
    "neither": ("import os", {}, "a mapping with the key 'layers'"),
    "bytes": ("\udcff", {}, "utf-8"),
    "a shipment cut short": (shipped()[:-40], {}, "no whole JSON"),
    "a shipment for another head": (shipped(), {"head": "mixture(4)"}, r"outputs = 15, the job needs 12"),
    "a program cut short": (shipped(forward=""), {}, "truncated or was not written"),
}


@pytest.mark.parametrize(("content", "chosen", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_network_that_cannot_be_is_refused_in_words_and_in_time(
    tmp_path: Path, content: str, chosen: dict[str, Any], reason: str
) -> None:
    network = tmp_path / "network"
    network.write_bytes(content.encode("utf-8", "surrogateescape"))
    began = time.monotonic()
    with pytest.raises(UserFault, match=reason):
        cost(network, **chosen)
    assert time.monotonic() - began < 60


def test_the_limit_of_a_declared_network_is_the_manifests_above_the_usual_as_well(tmp_path: Path) -> None:
    network = written(tmp_path, "layers: [flatten, dense: 20000]")
    roomy = Limits(parameters=90_000_000, training_memory_mb=8192)
    assert cost(network, limits=roomy).parameters == (28 * 28 * 5 + 1) * 20_000 + 20_001 * 15
    recipe = recipe_of(TrainParameters(network="own"), network)
    nnx.eval_shape(lambda: of_recipe(recipe, key=jax.random.key(0), input_shape=(28, 28, 5)))  # and it can be built
    with pytest.raises(ParameterFault, match=r"layer 2 .dense.: with it .* 6e\+07 are allowed"):
        cost(network, limits=Limits())


def test_stamps_that_a_network_of_the_house_cannot_take_are_refused() -> None:
    with pytest.raises(ParameterFault, match="8 x 8 pixels; this network needs at least 16 x 16"):
        cost(size=8)


def test_a_network_of_the_house_beyond_the_limits_is_refused() -> None:
    with pytest.raises(LimitFault, match=r"39,032,467 parameters .* this service takes 100,000"):
        examined(TrainParameters(network="dcmdn-b"), bands=5, size=28, limits=SMALL, network=None)
