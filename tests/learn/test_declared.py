"""A user's own network from a declaration: what is declared is what is built, and what cannot be is refused by name."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from inzitu.learn import declaration
from inzitu.learn.declaration import DeclarationError, Limits
from inzitu.learn.declared import Declared, build_declared
from inzitu.learn.heads import parse_head

SHAPE = (16, 16, 5)
WHOLE = """
name: every kind of layer
layers:
  - conv: {channels: 8, size: 3}
  - norm: layer
  - activation: gelu
  - residual:
      - conv: {channels: 12, size: 3}
      - norm: {mode: group, groups: 4}
      - activation: prelu
  - pool: {mode: max, size: 2}
  - parallel:
      - [conv: {channels: 4, size: 1}]
      - [conv: {channels: 6, size: 3}, activation: relu]
  - conv: {channels: 8, size: 3, stride: 2, padding: valid}
  - pool: average
  - flatten
  - residual: [dense: 7, activation: tanh]
  - dense: 9
"""


def build(text: str, **options: Any) -> Declared:
    return build_declared(text, key=jax.random.key(0), input_shape=SHAPE, **options)


def count(network: nnx.Module) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))


def test_a_network_of_every_kind_has_the_parameters_it_was_costed_for() -> None:
    steps = declaration.check(declaration.read(WHOLE), SHAPE, outputs=15, scalars=2)
    assert count(nnx.eval_shape(lambda: build(WHOLE, scalars=2))) == declaration.total(steps).parameters


def test_shapes_are_costed_as_they_are_built() -> None:
    steps = declaration.check(declaration.read(WHOLE), SHAPE, outputs=15, scalars=2)

    def shapes() -> dict[str, jax.Array]:
        return dict(build(WHOLE, scalars=2).stages(jnp.ones((3, *SHAPE)), jnp.ones((3, 2))))

    # JAX gives a mapping back sorted by its keys.
    found = {name: values.shape[1:] for name, values in jax.eval_shape(shapes).items()}
    assert found == {step.name.replace("head (dense)", "head"): step.out for step in steps}


def test_bfloat16_loses_no_more_than_its_digits() -> None:
    images = jax.random.normal(jax.random.key(1), (32, *SHAPE))

    def slopes(compute: Any) -> Any:
        network = build(WHOLE.replace("pool: {mode: max", "pool: {mode: average"), scalars=0, compute=compute)
        return nnx.jit(nnx.grad(lambda network: jnp.mean(jnp.square(network(images)))))(network)

    narrow, wide = (jax.tree.leaves(slopes(compute)) for compute in (jnp.bfloat16, jnp.float32))
    for one, other in zip(narrow, wide, strict=True):
        assert one.dtype == jnp.float32
        assert float(jnp.linalg.norm(one - other)) < 0.05 * float(jnp.linalg.norm(other))


def test_flops_are_those_that_the_compiler_counts() -> None:
    text = "layers: [conv: {channels: 8, size: 3, stride: 2, padding: valid}, flatten, dense: 50]"
    steps = declaration.check(declaration.read(text), SHAPE, outputs=15)
    network = build(text)
    compiled = jax.jit(lambda images: network(images)).lower(jnp.ones((1, *SHAPE))).compile()
    counted: Any = compiled.cost_analysis()
    assert declaration.total(steps).flops == pytest.approx(counted["flops"], rel=0.05)


def test_a_declared_network_learns_like_one_of_the_house() -> None:
    network = build("layers: [conv: {channels: 8, size: 3}, activation: relu, global_pool: average]", head="mixture(1)")
    head = parse_head("mixture(1)")
    images = jax.random.normal(jax.random.key(1), (32, *SHAPE))
    z = 1.0 + 0.2 * images.mean(axis=(1, 2))[:, 0]
    graph, state = nnx.split(network)

    @jax.jit
    def step(state: Any) -> tuple[jax.Array, Any]:
        def loss(state: Any) -> jax.Array:
            return head.loss(nnx.merge(graph, state)(images), z, nll_weight=0.1).mean()

        value, slopes = jax.value_and_grad(loss)(state)
        return value, jax.tree.map(lambda p, g: p - 0.05 * g, state, slopes)

    first, state = step(state)
    for _ in range(60):
        last, state = step(state)
    assert last < 0.5 * first


def test_groups_are_normalised_over_channels_and_pixels() -> None:
    network = build("layers: [norm: {mode: group, groups: 5}, flatten]")
    images = 3.0 + 7.0 * jax.random.normal(jax.random.key(1), (2, *SHAPE))
    (_, normalised), *_ = network.stages(images, jnp.zeros((2, 0)))
    np.testing.assert_allclose(normalised.mean(axis=(1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(normalised.std(axis=(1, 2)), 1.0, atol=1e-4)


REFUSED = {
    "a loop": ("layers: &a [residual: *a]", "aliases are not allowed"),
    "a key twice": ("layers: [conv: {channels: 3, size: 3, channels: 4}]", "'channels' is given twice"),
    "a layer twice": ("layers:\n- dense: 3\n  dense: 4", "line 3: 'dense' is given twice"),
    "a negative size": ("layers: [conv: {channels: -3, size: 3}]", r"layer 1 \(conv\): channels is -3"),
    "a size that is no number": ("layers: [conv: {channels: 3.5, size: 3}]", "must be a whole number"),
    "a size that is true": ("layers: [dense: true]", "must be a whole number"),
    "10^12 parameters": ("layers: [global_pool, dense: 1000000, dense: 1000000]", r"layer 3 \(dense\).*1e\+12 param"),
    "a number of 5000 digits": (f"layers: [dense: 1{'0' * 5000}]", "holds a number or date that is none"),
    "a kernel too large": ("layers: [conv: {channels: 4, size: 40, padding: valid}]", "does not fit into 16 x 16"),
    "pools down to nothing": (f"layers: [{', '.join(['pool'] * 5)}, flatten]", r"layer 5 \(pool\).*1 x 1 pixels"),
    "a dense layer on an image": ("layers: [dense: 3]", "put flatten or global_pool before it"),
    "a convolution of a vector": ("layers: [flatten, conv: {channels: 2, size: 1}]", "a vector of 1280 comes in"),
    "an image at the end": ("layers: [pool]", "end with flatten"),
    "a residual that shrinks": ("layers: [residual: [pool], flatten]", "pixels cannot be added"),
    "branches of two sizes": ("layers: [parallel: [[pool], [activation: relu]], flatten]", "branch 2 gives 16 x 16"),
    "one branch": ("layers: [parallel: [[pool]], flatten]", "at least two branches"),
    "a fault within a branch": (
        "layers: [residual: [activation: relu, parallel: [[activation: relu], [conv: {size: 3}]]]]",
        r"layer 1 \(residual\), layer 2 \(parallel\), branch 2, layer 1 \(conv\): channels is missing",
    ),
    "an unknown layer": ("layers: [lstm: 3]", "no layer is called 'lstm'"),
    "an unknown property": ("layers: [conv: {channels: 3, size: 3, dilation: 2}]", "no property is called 'dilation'"),
    "an unknown activation": ("layers: [activation: os.system]", "choose relu"),
    "an unknown key": ("layers: [flatten]\nimport: os", "Unknown key 'import'"),
    "normalisation by batch": ("layers: [norm: batch]", "choose layer, group"),
    "groups that do not divide": ("layers: [norm: {mode: group, groups: 3}]", "do not divide into 3 groups"),
    "no layers": ("layers: []", "at least one layer"),
    "no mapping": ("- conv", "a mapping with the key 'layers'"),
    "no YAML": ("layers: [", "no valid YAML"),
    "a Python object": ("layers: !!python/object/apply:os.system ['true']", "no valid YAML"),
    "deep nesting": ("layers: " + "[residual: " * 30 + "[flatten]" + "]" * 30, "nested more than 4 deep"),
    "very deep nesting": ("layers: " + "[" * 20_000, "nests too deeply|no valid YAML"),
    "too many layers": (f"layers: [{', '.join(['activation: relu'] * 301)}]", "more than 300 layers"),
    "too long": ("# " + "x" * 70_000, "65536 are allowed"),
    "an image too costly": (
        "layers: [conv: {channels: 4000, size: 1}, conv: {channels: 14000, size: 1}, flatten]",
        r"layer 2 \(conv\).*flops",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_built_is_refused_at_once_and_by_name(text: str, reason: str) -> None:
    began = time.monotonic()
    with pytest.raises(DeclarationError, match=reason):
        build(text, limits=Limits())
    assert time.monotonic() - began < 30


def test_a_declaration_that_refers_to_itself_in_memory_ends() -> None:
    layers: list[object] = []
    layers.append({"residual": layers})
    with pytest.raises(DeclarationError, match="nested more than"):
        declaration.parse({"layers": layers})


def test_limits_are_the_deployments() -> None:
    with pytest.raises(DeclarationError, match=r"layer 2 \(dense\).*1e\+05 are allowed"):
        build("layers: [flatten, dense: 100]", limits=Limits(parameters=100_000))


def test_a_declaration_is_checked_without_loading_jax() -> None:
    program = "import sys, inzitu.learn.declaration; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_network_of_the_documentation_is_built() -> None:
    page = (Path(__file__).parents[2] / "docs/use/own-network.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert jax.eval_shape(lambda: build(text)(jnp.ones((2, *SHAPE)))).shape == (2, 15)
