"""Images a second in training and prediction on a CPU, beside PyTorch on the same networks.

PyTorch lives in an environment of its own (it may need another Python): `TORCH_PYTHON` names its interpreter; without
it the peer's columns stay empty. Both programs stay up and take turns, all cores, so that a busy machine slows both;
the first rounds, which compile, are not counted; medians are printed. A turn is `STEPS` batches, ours in one
dispatch, as a training and a prediction have them. A training step is a batch's loss, gradient and AdamW; ours has
augmentation and the running mean of the parameters besides. The last column is the share of the machine's own rate
for a product of matrices, measured in the same run.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from inzitu.learn import networks
from inzitu.learn.dataset import Dataset
from inzitu.learn.recipe import Recipe
from inzitu.learn.step import MOST_STEPS, Program

STEPS = 4
ROUNDS = int(os.environ.get("ROUNDS", "9"))


@dataclass(frozen=True, slots=True)
class Case:
    """A network at a batch size, and its work for a forward pass of one image [GFLOP].

    The work is that of the network as published, with sums over all taps and channels; less is done where the same
    result takes less (docs/decisions/010), so that a share of the matrix rate may pass 100 %.
    """

    network: str
    head: str
    shape: tuple[int, int, int]
    batch: int
    work: float


CASES = (
    Case("dcmdn-a", "mixture(5)", (28, 28, 5), 256, 0.0723),
    Case("dcmdn-a, all 28 x 28", "mixture(5)", (28, 28, 5), 256, 0.329),
    Case("inzitu", "mixture(5)", (28, 28, 5), 256, 0.0),
    Case("pasquet", "bins(180, 0.4)", (64, 64, 5), 32, 1.52),
)


def run() -> str:
    """Return the table of rates."""
    peak = _matrix_rate()
    lines = [f"Product of 2048 x 2048 matrices: {peak:.0f} GFLOP/s.", ""]
    lines += [
        "| network, batch | | images/s | PyTorch | ratio | share of the matrix rate |",
        "|---|---|---|---|---|---|",
    ]
    for case in CASES:
        lines += _compared(case, peak)
    return "\n".join(lines)


def _compared(case: Case, peak: float) -> list[str]:
    ours = _ours(case)
    peer = _Peer.start(case) if "TORCH_PYTHON" in os.environ and case.work else None
    lines = []
    for what, passes in (("train", 3), ("predict", 1)):
        rates: list[tuple[float, float]] = []
        for turn in range(ROUNDS + 2):
            began = time.perf_counter()
            ours[what]()
            rate = STEPS * case.batch / (time.perf_counter() - began)
            other = peer.rate(what) if peer else float("nan")
            if turn >= 2:
                rates.append((rate, other))
        rate, other = (statistics.median(column) for column in zip(*rates, strict=True))
        ratio = statistics.median(own / theirs for own, theirs in rates)
        share = f"{rate * case.work * passes / peak:.0%}" if case.work else ""
        lines.append(f"| {case.network}, {case.batch} | {what} | {rate:.0f} | {other:.0f} | {ratio:.2f} | {share} |")
    if peer:
        peer.stop()
    return lines


def _ours(case: Case) -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(0)
    name = case.network.split(",")[0]
    recipe = Recipe(network=name, head=case.head, batch_size=case.batch, members=1, epochs=1).settled(1024)
    network = networks.of_recipe(recipe, key=jax.random.key(0), input_shape=case.shape)
    if name != case.network:
        plain: dict[str, Any] = {"scalars": 0, "key": jax.random.key(0), "compute": jnp.float32}
        network = networks.Dcmdn(case.shape, 15, convolutions=networks.DCMDN_A, pooled=2, size=case.shape[0], **plain)
    graph, parameters = nnx.split(network)
    program = Program(graph, recipe, 1000, sight=network.size)
    images = jnp.asarray(rng.normal(size=(2 * case.batch, *case.shape)), jnp.float32)
    data = Dataset(
        images, jnp.asarray(rng.uniform(0, 0.4, 2 * case.batch), jnp.float32), jnp.zeros((2 * case.batch, 0))
    )
    rows = np.zeros((MOST_STEPS, 1, case.batch), np.int32)
    rows[:, 0] = np.arange(case.batch)
    state = [program.begin(jax.tree.map(lambda leaf: leaf[None], parameters))]
    blocks = jnp.stack([images[: case.batch]] * STEPS)
    forward = jax.jit(lambda own, stamps: jax.lax.map(nnx.merge(graph, own), stamps))

    def train() -> None:
        state[0] = program.advance(state[0], rows, STEPS, data)
        float(state[0].loss)

    def predict() -> None:
        np.asarray(forward(parameters, blocks))

    return {"train": train, "predict": predict}


@dataclass(frozen=True, slots=True)
class _Peer:
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, case: Case) -> _Peer:
        script = Path(__file__).with_name("_torch_networks.py")
        command = [os.environ["TORCH_PYTHON"], str(script), case.network, str(case.batch)]
        return cls(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

    def rate(self, what: str) -> float:
        assert self.process.stdin
        assert self.process.stdout
        print(what, STEPS, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def stop(self) -> None:
        self.process.communicate()


def _matrix_rate() -> float:
    """Return the rate of a large product of matrices [GFLOP/s]."""
    a = jnp.ones((2048, 2048))
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    seconds = []
    for _ in range(9):
        began = time.perf_counter()
        product(a).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * 2048**3 / min(seconds) / 1e9
