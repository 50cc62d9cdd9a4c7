"""A user's own network as StableHLO: it trains as native code does, and whatever could do harm is refused in time."""

from __future__ import annotations

import base64
import functools
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

from inzitu.learn import admission, inspection
from inzitu.learn.admission import Findings, ShipmentError, ShipmentLimits
from inzitu.learn.heads import parse_head
from inzitu.learn.networks import Network
from inzitu.learn.ship import Shipment, ship, ship_module
from inzitu.learn.shipped import build_shipped

SHAPE = (8, 8, 5)
Parameters = dict[str, jax.Array]
IMAGES = jax.random.normal(jax.random.key(5), (12, *SHAPE))
NONE = jnp.zeros((12, 0))
ABSTRACT: Any = jax.ShapeDtypeStruct


def initial(key: jax.Array) -> Parameters:
    kernel, matrix = jax.random.split(key)
    return {
        "kernel": 0.2 * jax.random.normal(kernel, (3, 3, 5, 4)),
        "matrix": 0.2 * jax.random.normal(matrix, (4, 6)),
        "bias": jnp.zeros(6),
    }


def forward(parameters: Parameters, images: jax.Array) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    values = jax.lax.conv_general_dilated(images, parameters["kernel"], (1, 1), "SAME", dimension_numbers=layout)
    window = ((1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    values = jax.lax.reduce_window(jax.nn.gelu(values, approximate=False), -jnp.inf, jax.lax.max, *window)
    outputs: jax.Array = values.mean(axis=(1, 2)) @ parameters["matrix"] + parameters["bias"]
    return outputs


@functools.cache
def shipment() -> Shipment:
    return ship(forward, initial, input_shape=SHAPE)


def variant(change: Callable[[jax.Array, Parameters], jax.Array]) -> dict[str, Any]:
    """A shipment of the network with something done to its outputs."""
    return ship(lambda p, images: change(forward(p, images), p), initial, input_shape=SHAPE).json


def inspected(spec: dict[str, Any], **limits: Any) -> Findings:
    """Look at a shipment in this process: the same code as in the child, without its start."""
    return inspection.inspect(spec, ShipmentLimits(batch=4, **limits))


def test_it_is_small_and_survives_a_file(tmp_path: Path) -> None:
    path = shipment().write(tmp_path / "network.json")
    assert path.stat().st_size < 60_000
    assert admission.read(path.read_bytes()) == shipment().json


def test_two_parameters_of_one_name_are_refused_where_they_are_shipped() -> None:
    with pytest.raises(ShipmentError, match=r"Several parameters are called 'a\.b'"):
        ship(
            lambda p, images: images[:, 0, 0, :1] * p["a.b"] * p["a"]["b"],
            lambda key: {"a.b": jnp.ones(1), "a": {"b": jnp.ones(1)}},
            input_shape=SHAPE,
        )


def test_loss_and_gradients_are_those_of_native_code() -> None:
    network = build_shipped(shipment().json, key=jax.random.key(3), input_shape=SHAPE, head="mixture(2)")
    native = initial(jax.random.key(3))
    names = sorted(native)
    for name, value in zip(names, network.parameters, strict=True):
        np.testing.assert_array_equal(value[...], native[name])
    graph, state = nnx.split(network)
    loss = jax.jit(jax.value_and_grad(lambda p: jnp.sum(jnp.tanh(forward(p, IMAGES)))))
    shipped_loss = jax.jit(jax.value_and_grad(lambda s: jnp.sum(jnp.tanh(nnx.merge(graph, s)(IMAGES, NONE)))))
    value, slopes = loss(native)
    shipped_value, shipped_slopes = shipped_loss(state)
    assert shipped_value == value
    for name, slope in zip(names, nnx.to_pure_dict(shipped_slopes)["parameters"].values(), strict=True):
        np.testing.assert_allclose(slope, slopes[name], rtol=1e-6, atol=1e-7)


def test_it_learns_like_one_of_the_house() -> None:
    network = build_shipped(shipment().json, key=jax.random.key(3), input_shape=SHAPE, head="mixture(2)")
    head = parse_head("mixture(2)")
    z = 1.0 + IMAGES.mean(axis=(1, 2))[:, 0]
    network.begin_at(head.initial_bias(np.asarray(z)))
    graph, state = nnx.split(network)

    def loss(state: Any) -> jax.Array:
        return head.loss(nnx.merge(graph, state)(IMAGES, NONE), z, nll_weight=0.1).mean()

    @jax.jit
    def trained(state: Any) -> Any:
        def step(_: int, state: Any) -> Any:
            return jax.tree.map(lambda p, g: p - 0.03 * g, state, jax.grad(loss)(state))

        return jax.lax.fori_loop(0, 200, step, state)

    assert loss(trained(state)) < loss(state) - 0.1


def test_an_ensemble_of_shipped_networks_trains_under_vmap() -> None:
    networks = [
        build_shipped(shipment().json, key=jax.random.key(s), input_shape=SHAPE, head="mixture(2)") for s in range(3)
    ]
    graph = nnx.split(networks[0])[0]
    states = [nnx.split(network)[1] for network in networks]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    slope = jax.grad(lambda state: jnp.sum(nnx.merge(graph, state)(IMAGES, NONE) ** 2))
    together = jax.jit(jax.vmap(slope))(stacked)
    alone = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(slope, states))
    for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_it_can_be_exported_again_within_a_predictor() -> None:
    network = build_shipped(shipment().json, key=jax.random.key(3), input_shape=SHAPE, head="mixture(2)")
    (n,) = export.symbolic_shape("n")
    images = ABSTRACT((n, *SHAPE), jnp.float32)
    scalars = ABSTRACT((n, 0), jnp.float32)
    predictor = export.export(jax.jit(lambda i, s: network(i, s)), platforms=("cpu", "cuda"))(images, scalars)
    again: Any = export.deserialize(bytearray(predictor.serialize())).call
    np.testing.assert_allclose(again(IMAGES, NONE), network(IMAGES, NONE), rtol=1e-6)


class Small(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.convolution = nnx.Conv(5, 4, (3, 3), rngs=rngs, kernel_init=nnx.initializers.orthogonal())
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.dense = nnx.List([nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 6, rngs=rngs)])

    def __call__(self, images: jax.Array, scalars: jax.Array) -> jax.Array:
        values = nnx.relu(self.norm(self.convolution(images))).mean(axis=(1, 2))
        return self.dense[1](nnx.tanh(self.dense[0](jnp.concatenate([values, scalars], axis=-1))))


def test_a_module_with_scalars_is_shipped_and_admitted_in_a_process_of_its_own() -> None:
    spec = ship_module(Small, input_shape=SHAPE, scalars=2).json
    found = admission.admit(spec, input_shape=SHAPE, outputs=6, scalars=2, limits=ShipmentLimits(batch=4))
    assert found.parameters == sum(leaf.size for leaf in jax.tree.leaves(nnx.state(Small(nnx.Rngs(0)))))
    network: Network = build_shipped(spec, key=jax.random.key(0), input_shape=SHAPE, head="mixture(2)", scalars=2)
    assert network(IMAGES, jnp.ones((12, 2))).shape == (12, 6)


def test_work_is_counted_as_often_as_a_loop_runs() -> None:
    def repeated(raw: jax.Array, p: Parameters, turns: int) -> jax.Array:
        square = p["matrix"] @ p["matrix"].T
        steps = jax.lax.scan(lambda c, _: (jnp.tanh(c @ square), None), raw[:, :4], None, length=turns)[0]
        return raw + jnp.pad(steps, ((0, 0), (0, 2)))

    few, many = (inspected(variant(functools.partial(repeated, turns=turns))) for turns in (3, 30))
    assert many.operations > 5 * few.operations
    # 27 more turns: 4 x 4 products forwards, and two for the gradient.
    assert 27 * 3 * 2 * 16 < many.flops - few.flops < 27 * 20 * 2 * 16


def test_flops_are_about_three_times_those_of_the_way_forward() -> None:
    forward_flops = 2 * 64 * 9 * 5 * 4 + 2 * 4 * 6
    # The first layer needs no gradient of its images, so two; activations and pooling are counted beside.
    assert 2 * forward_flops < inspected(shipment().json).flops < 4 * forward_flops


def endless(raw: jax.Array, p: Parameters) -> jax.Array:
    return jnp.asarray(
        raw + jax.lax.stop_gradient(jax.lax.while_loop(lambda x: x[0, 0] < jnp.inf, lambda x: x * 0.5, raw))
    )


def counting_down(raw: jax.Array, p: Parameters) -> jax.Array:
    step = jax.lax.stop_gradient(
        jax.lax.while_loop(lambda c: c[0] < 10, lambda c: (c[0] + -1, c[1] * 0.5), (jnp.int32(0), raw))[1]
    )
    return jnp.asarray(raw + step)


def overflowing(counter: Any, last: int, step: int) -> Callable[[jax.Array, Parameters], jax.Array]:
    def change(raw: jax.Array, p: Parameters) -> jax.Array:
        def turn(c: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            return c[0] + counter(step), c[1] * 0.5

        spun = jax.lax.while_loop(lambda c: c[0] < counter(last), turn, (counter(0), raw))[1]
        return jnp.asarray(raw + jax.lax.stop_gradient(spun))

    return change


def calling_back(raw: jax.Array, p: Parameters) -> jax.Array:
    shape = ABSTRACT(raw.shape, raw.dtype)
    return jnp.asarray(raw + jax.lax.stop_gradient(jax.pure_callback(lambda x: x, shape, jax.lax.stop_gradient(raw))))


def long_loops(raw: jax.Array, p: Parameters) -> jax.Array:
    def inner(_: int, x: jax.Array) -> jax.Array:
        return jnp.asarray(jax.lax.fori_loop(0, 100_000, lambda _, y: jnp.tanh(y), x))

    return jnp.asarray(raw + jax.lax.stop_gradient(jax.lax.fori_loop(0, 100_000, inner, raw)))


HARMFUL: dict[str, tuple[Callable[[jax.Array, Parameters], jax.Array], str]] = {
    "an endless while": (endless, "while loop whose end cannot be seen.*lax.scan"),
    "a counter that falls": (counting_down, "counter does not rise"),
    "a counter that overflows": (overflowing(jnp.int8, 127, 2), "passes the largest number of its type"),
    "a counter without sign that does": (overflowing(jnp.uint8, 255, 2), "passes the largest number of its type"),
    "a counter of large steps": (overflowing(jnp.int32, 2**31 - 1, 2**30), "passes the largest number of its type"),
    "a counter that is no integer": (overflowing(jnp.float32, 10, 1), "while loop whose end cannot be seen"),
    "10^10 turns": (long_loops, "runs more than 2000000 operations"),
    "a huge constant": (lambda raw, p: raw + jnp.zeros((300_000_000,)).sum(), "array of 1.2e"),
    "a constant that is a parameter": (
        lambda raw, p: raw + jnp.asarray(np.random.default_rng(0).normal(size=(6000, 1000)), jnp.float32).sum(),
        "constants of more than",
    ),
    "the singular values": (
        lambda raw, p: raw + jax.lax.stop_gradient(jnp.linalg.svd(p["matrix"], compute_uv=False).sum()),
        "calls foreign code, 'lapack_sgesdd|calls foreign code, 'cusolver",
    ),
}


@pytest.mark.parametrize(("change", "reason"), HARMFUL.values(), ids=HARMFUL)
def test_a_program_that_could_do_harm_is_refused_before_it_is_compiled(
    change: Callable[[jax.Array, Parameters], jax.Array], reason: str
) -> None:
    spec = variant(change)
    began = time.monotonic()
    with pytest.raises(ShipmentError, match=reason):
        inspected(spec, memory=1 << 30, constant=1 << 20)
    assert time.monotonic() - began < 60


def test_a_callback_cannot_be_shipped_nor_a_foreign_call_admitted() -> None:
    with pytest.raises(ShipmentError, match="cannot be exported"):
        variant(calling_back)


def test_limits_are_the_deployments() -> None:
    spec = shipment().json
    with pytest.raises(ShipmentError, match="has 210 parameters; 100 are allowed"):
        inspected(spec, parameters=100)
    with pytest.raises(ShipmentError, match=r"FLOP an image; 1000 are allowed"):
        inspected(spec, flops=1000)
    with pytest.raises(ShipmentError, match=r"array of .* bytes|takes .* bytes"):
        inspected(spec, memory=20_000)


def replaced(**parts: Any) -> dict[str, Any]:
    return {**shipment().json, **parts}


def truncated(name: str, keep: float) -> dict[str, Any]:
    content = base64.b64decode(shipment().json[name])
    return replaced(**{name: base64.b64encode(content[: int(len(content) * keep)]).decode()})


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_program_is_refused(keep: float) -> None:
    limits = ShipmentLimits(batch=4, seconds=60.0)
    with pytest.raises(ShipmentError, match=r"truncated|cannot be read"):
        admission.admit(truncated("forward", keep), input_shape=SHAPE, outputs=6, limits=limits)


def test_a_file_that_is_no_shipment_is_refused() -> None:
    whole = json.dumps(shipment().json)
    for content, reason in {
        whole[:-100]: "no whole JSON",
        "[" * 100_000: "no whole JSON",
        "{}": "format is 'None'",
        "[1]": "format is 'list'",
        json.dumps(replaced(forward="@@@")): "forward program is missing or truncated",
        json.dumps(replaced(outputs="6")): "whole numbers",
    }.items():
        with pytest.raises(ShipmentError, match=reason):
            admission.read(content)
    with pytest.raises(ShipmentError, match="100 are allowed"):
        admission.read(whole, size=100)


def exported(function: Callable[..., Any], *, gradient: bool = True, platforms: Any = ("cpu", "cuda"), size: Any = "n",
             dtype: Any = jnp.float32) -> str:  # fmt: skip
    parameters = jax.eval_shape(initial, jax.random.key(0))
    rows = export.symbolic_shape(size)[0] if isinstance(size, str) else size
    images, scalars = ABSTRACT((rows, *SHAPE), dtype), ABSTRACT((rows, 0), jnp.float32)
    program = export.export(jax.jit(function), platforms=platforms)(parameters, images, scalars)
    return base64.b64encode(bytes(program.serialize(vjp_order=int(gradient)))).decode()


def three(p: Parameters, images: jax.Array, scalars: jax.Array) -> jax.Array:
    return forward(p, images.astype(jnp.float32))


SIGNATURES: dict[str, tuple[Callable[[], str], str]] = {
    "no gradient": (lambda: exported(three, gradient=False), "without its gradient"),
    "cpu only": (lambda: exported(three, platforms=("cpu",)), "not exported for cuda"),
    "a fixed batch": (lambda: exported(three, size=7), r"takes images float32\[7,8,8,5\]"),
    "the wrong dtype": (lambda: exported(three, dtype=jnp.float16), r"takes images float16"),
    "other outputs": (lambda: exported(lambda *a: three(*a)[:, :3]), r"gives float32\[n,3\].*\[n, 6\]"),
    "two results": (lambda: exported(lambda *a: (three(*a), three(*a))), "it must give"),
}


@pytest.mark.parametrize(("program", "reason"), SIGNATURES.values(), ids=SIGNATURES)
def test_another_signature_is_refused(program: Callable[[], str], reason: str) -> None:
    with pytest.raises(ShipmentError, match=reason):
        inspected(replaced(forward=program()))


def test_first_parameters_of_another_network_are_refused() -> None:
    other = ship(lambda p, images: forward(p, images), lambda key: {**initial(key), "more": jnp.zeros(3)},
                 input_shape=SHAPE)  # fmt: skip
    with pytest.raises(ShipmentError, match="draws other parameters"):
        inspected(replaced(initial=other.json["initial"]))


def test_a_network_for_other_images_is_refused_without_looking_at_it() -> None:
    with pytest.raises(ShipmentError, match=r"input_shape = \[8, 8, 5\], the job needs \[28, 28, 5\]"):
        admission.admit(shipment().json, input_shape=(28, 28, 5), outputs=6)
    with pytest.raises(ShipmentError, match=r"outputs = 6, the job needs 15"):
        build_shipped(shipment().json, key=jax.random.key(0), input_shape=SHAPE, head="mixture(5)")


def test_the_time_to_look_is_bounded() -> None:
    with pytest.raises(ShipmentError, match=r"within 0\.05 s"):
        admission.admit(shipment().json, input_shape=SHAPE, outputs=6, limits=ShipmentLimits(seconds=0.05))


def test_state_beside_the_parameters_cannot_be_shipped() -> None:
    class Running(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.norm, self.dense = nnx.BatchNorm(5, rngs=rngs), nnx.Linear(5, 6, rngs=rngs)

        def __call__(self, images: jax.Array) -> jax.Array:
            return self.dense(self.norm(images).mean(axis=(1, 2)))

    with pytest.raises(ShipmentError, match="BatchNorm and Dropout"):
        ship_module(Running, input_shape=SHAPE)


def test_the_network_of_the_documentation_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs/use/own-network.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    found = inspected(admission.read((tmp_path / "network.json").read_bytes()))
    assert found.parameters == 9 * 5 * 32 + 32 + 32 * 15 + 15
    assert f"parameters={found.parameters}" in page
