"""The learning on an accelerator, all in one go: rates, shares of the matrix rate, the two published trainings.

Needs one GPU; on a CPU it says so. Prints images a second of training and prediction in bfloat16 and float32, the share
of the measured bfloat16 matrix rate, how long the published trainings would take at that rate (Pasquet et al.: 15.4
million images; D'Isanto & Polsterer: 100,000 quasars, 1000 epochs), and an ensemble of ten against one member.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.training import Case
from inzitu.learn import networks
from inzitu.learn.dataset import Dataset
from inzitu.learn.recipe import Recipe
from inzitu.learn.step import MOST_STEPS, Program

CASES = (
    Case("dcmdn-a", "mixture(5)", (28, 28, 5), 2048, 0.0723),
    Case("inzitu", "mixture(5)", (28, 28, 5), 2048, 0.0),
    Case("pasquet", "bins(180, 0.4)", (64, 64, 5), 512, 1.52),
)
PUBLISHED = {"dcmdn-a": 100_000_000, "pasquet": 15_400_000}
STEPS = 50


def run() -> str:
    """Return the tables."""
    if jax.default_backend() == "cpu":
        return "No accelerator here: nothing was measured."
    peak = _matrix_rate()
    lines = [f"{jax.devices()[0].device_kind}: bfloat16 matrix rate {peak / 1000:.0f} TFLOP/s.", ""]
    lines += [
        "| network, batch | train, images/s | share | predict, images/s | published training, min | ten members / one |"
    ]
    lines += ["|---|---|---|---|---|---|"]
    for case in CASES:
        rate, ten = _training(case, 1), _training(case, 10)
        share = f"{3 * case.work * rate / peak:.0%}" if case.work else ""
        published = f"{PUBLISHED[case.network] / rate / 60:.1f}" if case.network in PUBLISHED else ""
        cells = (f"{case.network}, {case.batch}", f"{rate:.0f}", share, f"{_prediction(case):.0f}", published)
        lines.append("| " + " | ".join(cells) + f" | {rate / ten:.1f} |")
    return "\n".join(lines)


def _training(case: Case, members: int) -> float:
    """Return images a second and member."""
    rng = np.random.default_rng(0)
    recipe = Recipe(network=case.network, head=case.head, batch_size=case.batch, members=members, epochs=1)
    recipe = recipe.settled(case.batch)
    networks_ = [
        networks.of_recipe(recipe, key=jax.random.key(member), input_shape=case.shape) for member in range(members)
    ]
    graph = nnx.split(networks_[0])[0]
    parameters = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(nnx.split(network)[1] for network in networks_))
    program = Program(graph, recipe, 10_000, sight=networks_[0].size)
    rows = rng.integers(4 * case.batch, size=(MOST_STEPS, members, case.batch)).astype(np.int32)
    images = jnp.asarray(rng.normal(size=(4 * case.batch, *case.shape)), jnp.float16)
    labels = jnp.asarray(rng.uniform(0, 0.4, 4 * case.batch), jnp.float32)
    data = Dataset(images, labels, jnp.zeros((4 * case.batch, 0)))
    state = [program.begin(parameters)]

    def steps() -> None:
        state[0] = program.advance(state[0], rows, STEPS, data)
        float(state[0].loss)

    return STEPS * case.batch / _seconds(steps)


def _prediction(case: Case) -> float:
    """Return images a second, float32."""
    network = networks.build(case.network, key=jax.random.key(0), input_shape=case.shape, head=case.head)
    graph, parameters = nnx.split(network)
    images = jnp.zeros((8192, *case.shape))
    forward = jax.jit(lambda own, stamps: jnp.sum(nnx.merge(graph, own)(stamps)))
    return 8192 / _seconds(lambda: float(forward(parameters, images)))


def _matrix_rate() -> float:
    """Return the rate of a large product of matrices in bfloat16 [GFLOP/s]."""
    size = 8192
    a = jnp.ones((size, size), jnp.bfloat16)
    product = jax.jit(lambda a: jnp.sum(a @ a, dtype=jnp.float32))
    return 2 * size**3 / _seconds(lambda: float(product(a))) / 1e9


def _seconds(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
