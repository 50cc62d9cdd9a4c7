"""Images a second in training and prediction, beside PyTorch on the same networks and the same machine.

PyTorch lives in an environment of its own (it may need another Python): `TORCH_PYTHON` names its interpreter; without
it the peer's columns stay empty. Both programs stay up and take turns, all cores, so that a busy machine slows both;
the first rounds, which compile, are not counted; medians are printed. A turn is several batches, ours in one
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
from jax.typing import DTypeLike

from inzitu.learn import networks
from inzitu.learn.dataset import Dataset
from inzitu.learn.recipe import Recipe
from inzitu.learn.step import MOST_STEPS, Program, State, everywhere

ROUNDS = int(os.environ.get("ROUNDS", "9"))


@dataclass(frozen=True, slots=True)
class Case:
    """A network at a batch size, its work for a forward pass of one image [GFLOP], and how many are trained at once.

    The work is that of the network as published, with sums over all taps and channels; less is done where the same
    result takes less (docs/decisions/010), so that a share of the matrix rate may pass 100 %.
    """

    network: str
    head: str
    shape: tuple[int, int, int]
    batch: int
    work: float
    members: int = 1
    compute: str = "auto"


CASES = (
    Case("dcmdn-a", "mixture(5)", (28, 28, 5), 256, 0.0723),
    Case("dcmdn-a, all 28 x 28", "mixture(5)", (28, 28, 5), 256, 0.329),
    Case("inzitu", "mixture(5)", (28, 28, 5), 256, 0.0),
    Case("pasquet", "bins(180, 0.4)", (64, 64, 5), 32, 1.52),
)


def run() -> str:
    """Return the table of rates."""
    peak = matrix_rate(2048, jnp.float32)
    head = "| network, batch | | images/s | PyTorch | ratio | share of the matrix rate |\n|---|---|---|---|---|---|"
    rows = [row.line(peak) for case in CASES for row in compared(case, steps=4)]
    return "\n".join([f"Product of 2048 x 2048 matrices: {peak:.0f} GFLOP/s.", "", head, *rows])


@dataclass(frozen=True, slots=True)
class Row:
    """What came out for a case and one of its two passes: images a second, the peer's, the median of the ratios."""

    case: Case
    what: str
    rate: float
    peer: float
    ratio: float

    def line(self, peak: float) -> str:
        """Give the line of a table; `peak` is the machine's rate [GFLOP/s]."""
        work = self.case.work * {"train": 3, "predict": 1}[self.what]
        share = f"{self.rate * work / peak:.0%}" if work else ""
        peer, ratio = ("", "") if np.isnan(self.peer) else (f"{self.peer:.0f}", f"{self.ratio:.2f}")
        return (
            f"| {self.case.network}, {self.case.batch} | {self.what} | {self.rate:.0f} | {peer} | {ratio} | {share} |"
        )


def compared(case: Case, *, steps: int) -> list[Row]:
    """Time training and prediction in turns of so many batches, and the peer's, if there is one."""
    ours = turns_of(case, steps)
    peer = _Peer.start(case, steps) if "TORCH_PYTHON" in os.environ and case.work else None
    rows = []
    for what, turn in ours.items():
        rates: list[tuple[float, float]] = []
        for number in range(ROUNDS + 2):
            began = time.perf_counter()
            turn()
            rate = steps * case.batch / (time.perf_counter() - began)
            other = peer.rate(what) if peer else float("nan")
            if number >= 2:
                rates.append((rate, other))
        own, other = (statistics.median(column) for column in zip(*rates, strict=True))
        rows.append(Row(case, what, own, other, statistics.median(a / b for a, b in rates)))
    if peer:
        peer.stop()
    return rows


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a case's dispatches call and take: one of training, several steps long, and one of prediction."""

    program: Program
    state: State
    rows: np.ndarray
    data: Dataset
    forward: Callable[..., Any]
    parameters: Any
    blocks: Any


def prepared(case: Case, steps: int) -> Prepared:
    """Make all that the dispatches of a case take."""
    rng = np.random.default_rng(0)
    name = case.network.split(",")[0]
    recipe = Recipe(
        network=name, head=case.head, batch_size=case.batch, members=case.members, epochs=1, compute=case.compute
    ).settled(case.batch)
    network = networks.of_recipe(recipe, key=jax.random.key(0), input_shape=case.shape)
    if name != case.network:
        plain: dict[str, Any] = {"scalars": 0, "key": jax.random.key(0), "compute": jnp.float32}
        network = networks.Dcmdn(case.shape, 15, convolutions=networks.DCMDN_A, pooled=2, size=case.shape[0], **plain)
    graph, parameters = nnx.split(network)
    program = Program(graph, recipe, 1000, sight=network.size)
    images = jnp.asarray(rng.normal(size=(2 * case.batch, *case.shape)), jnp.float32)
    labels = jnp.asarray(rng.uniform(0, 0.4, 2 * case.batch), jnp.float32)
    members = jax.tree.map(lambda leaf: jnp.stack([leaf] * case.members), parameters)
    return Prepared(
        program,
        state=everywhere(program.begin(members)),
        rows=np.zeros((MOST_STEPS, case.batch), np.int32) + np.arange(case.batch, dtype=np.int32),
        data=everywhere(Dataset(images, labels, jnp.zeros((2 * case.batch, 0)))),
        forward=jax.jit(lambda own, stamps: jax.lax.map(nnx.merge(graph, own), stamps)),
        parameters=parameters,
        blocks=jnp.stack([images[: case.batch]] * steps),
    )


def turns_of(case: Case, steps: int) -> dict[str, Callable[[], Any]]:
    """Give a turn of training and one of prediction."""
    made = prepared(case, steps)
    state = [made.state]

    def train() -> None:
        state[0] = made.program.advance(state[0], made.rows, steps, made.data)
        float(state[0].loss)

    def predict() -> None:
        np.asarray(made.forward(made.parameters, made.blocks))

    return {"train": train, "predict": predict}


@dataclass(frozen=True, slots=True)
class _Peer:
    process: subprocess.Popen[str]
    steps: int

    @classmethod
    def start(cls, case: Case, steps: int) -> _Peer:
        script = Path(__file__).with_name("_torch_networks.py")
        device = "cpu" if jax.default_backend() == "cpu" else "cuda"
        command = [os.environ["TORCH_PYTHON"], str(script), case.network, str(case.batch), device]
        return cls(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True), steps)

    def rate(self, what: str) -> float:
        """Give its images a second; none of a peer that died, which says why on standard error."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            print(what, self.steps, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            return float("nan")
        return float(self.process.stdout.readline() or "nan")

    def stop(self) -> None:
        self.process.communicate()


def matrix_rate(size: int, dtype: DTypeLike) -> float:
    """Return the rate of a product of large matrices [GFLOP/s]."""
    a = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    seconds = []
    for _ in range(9):
        began = time.perf_counter()
        product(a).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds) / 1e9
