"""The learning on an accelerator, all in one go: every figure that the project promises for one, each beside its goal.

* Rates of training and prediction, beside PyTorch's where `TORCH_PYTHON` names an interpreter that has it: the same
  networks and batches on the same GPU, compiled, in bfloat16 and channels last. The share is that of the measured
  bfloat16 matrix rate.
* The published trainings: Pasquet et al.'s 15.4 million images, D'Isanto & Polsterer's 100,000 quasars 1000 times.
* Prediction as it is served: float32, averaged over the 8 symmetries.
* Ten members beside one, side by side and one after the other.
* A bundle made on the CPU, loaded here: the largest difference of what it predicts.
* The second start of a training, with the programs that the first one left.

Needs one GPU; ``TINY=1`` plays it all on whatever is there, with sizes that say nothing. On a machine without inzitu
installed: ``PYTHONPATH=kernels python -m benchmarks h200``. Each part is told when it is done, and kept in ``OUT`` if
that names a folder, so that a run that is cut off leaves what it has.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

# Read when JAX starts. PyTorch works on the same GPU: what JAX took in advance it would lack.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import compilation, training
from benchmarks.training import Case, compared, matrix_rate, turns_of
from inzitu.learn import bundles, step
from inzitu.learn.predict import predictor
from inzitu.learn.recipe import Recipe
from inzitu.learn.train import train

MEMBERS = 10
PUBLISHED = {"dcmdn-a": 100_000_000, "pasquet": 15_400_000}
MINUTES = {"dcmdn-a": 2.0, "pasquet": 4.0}
BUNDLED = {"dcmdn-a": 28, "inzitu": 28, "pasquet": 64}


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a run is: the networks and batches, steps a turn, the matrix, a member's batch, images served."""

    cases: tuple[Case, ...]
    steps: int
    side: int
    batch: int
    served: int


FULL = Scale(
    cases=(
        Case("dcmdn-a", "mixture(5)", (28, 28, 5), 2048, 0.0723),
        Case("inzitu", "mixture(5)", (28, 28, 5), 2048, 0.0),
        Case("pasquet", "bins(180, 0.4)", (64, 64, 5), 512, 1.52),
    ),
    steps=50,
    side=8192,
    batch=64,
    served=4096,
)
TINY = Scale(
    cases=(
        Case("dcmdn-a", "mixture(5)", (28, 28, 5), 4, 0.0723),
        Case("inzitu", "mixture(5)", (28, 28, 5), 4, 0.0),
        Case("pasquet", "bins(180, 0.4)", (64, 64, 5), 2, 1.52),
    ),
    steps=1,
    side=64,
    batch=2,
    served=2,
)


@dataclass(frozen=True, slots=True)
class Told:
    """What was found so far: lines, and each goal with what was reached."""

    lines: list[str] = field(default_factory=list)
    goals: list[str] = field(default_factory=lambda: ["| goal | reached | |", "|---|---:|---|"])

    def part(self, *lines: str) -> None:
        """Keep some lines, tell them, and leave all there is in the folder OUT."""
        self.lines.extend([*lines, ""])
        print(*lines, "", sep="\n", file=sys.stderr, flush=True)
        if folder := os.environ.get("OUT"):
            Path(folder, "h200.md").write_text(self.text(), encoding="utf-8")

    def goal(self, words: str, reached: float, holds: bool) -> None:
        """Keep what was reached of a goal."""
        self.goals.append(f"| {words} | {reached:.3g} | {'holds' if holds else '**falls short**'} |")

    def text(self) -> str:
        """Give it all."""
        return "\n".join([*self.lines, *self.goals]) + "\n"


def run() -> str:
    """Return the tables."""
    tiny = bool(os.environ.get("TINY"))
    if jax.default_backend() == "cpu" and not tiny:
        return "No accelerator here: nothing was measured."
    if tiny:
        training.ROUNDS = 1
    told, scale = Told(), TINY if tiny else FULL
    for part in (rates, served, ensembles, moved, started):
        try:
            part(scale, told)
        except Exception:  # a machine is lent for minutes: what is left must still be measured
            told.part(f"**{part.__name__} failed**", "", "```", traceback.format_exc().strip(), "```")
    return told.text()


def rates(scale: Scale, told: Told) -> None:
    """Training and prediction beside PyTorch, and the published trainings."""
    peak = matrix_rate(scale.side, jnp.bfloat16)
    single = matrix_rate(scale.side, jnp.float32)
    told.part(
        f"{jax.devices()[0].device_kind}, JAX {jax.__version__}, products of {scale.side} x {scale.side} matrices: "
        f"{peak / 1000:.3g} TFLOP/s in bfloat16, {single / 1000:.3g} in float32.",
    )
    lines = [
        "| network, batch | | images/s | PyTorch | ratio | share of the matrix rate |",
        "|---|---|---|---|---|---|",
    ]
    for case in scale.cases:
        for row in compared(case, steps=scale.steps):
            lines.append(row.line(peak))
            if not np.isnan(row.ratio):
                told.goal(f"{case.network}, {row.what}: at least 1.3 times PyTorch", row.ratio, row.ratio >= 1.3)
            if row.what == "train" and case.network in PUBLISHED:
                minutes = PUBLISHED[case.network] / row.rate / 60
                most = MINUTES[case.network]
                told.goal(f"{case.network}'s published training in {most:g} minutes", minutes, minutes <= most)
            if row.what == "train" and case.network == "pasquet":
                share = row.rate * 3 * case.work / peak
                told.goal("pasquet, training: 0.4 of the bfloat16 matrix rate", share, share >= 0.4)
            if row.what == "predict" and case.network == "dcmdn-a":
                told.goal("dcmdn-a predicts 200,000 stamps/s", row.rate, row.rate >= 200_000)
    told.part(*lines)


def served(scale: Scale, told: Told) -> None:
    """Prediction as a job has it, and with one look at each stamp instead of eight."""
    lines = ["| network | images/s, averaged over 8 symmetries | one look each |", "|---|---:|---:|"]
    for name, side in BUNDLED.items():
        trained, images = _taught(name, side), _images(scale.served, side)
        columns = np.zeros((len(images), 0), np.float32)
        found = []
        arguments = jax.device_put((trained.parameters, images, columns))
        for average in (True, False):
            function = jax.jit(predictor(trained, average=average))
            found.append(len(images) / _seconds(partial(_done, function, *arguments)))
        lines.append(f"| {name} | {found[0]:,.0f} | {found[1]:,.0f} |")
    told.part(*lines)


def ensembles(scale: Scale, told: Told) -> None:
    """Ten members beside one, the two ways that one device knows."""
    lines = [f"| ten members, batches of {scale.batch} | of one member's time |", "|---|---:|"]
    ways: dict[str, Callable[..., Any]] = {
        "side by side": lambda function, *stacked: jax.vmap(function)(*stacked),
        "one after the other": lambda function, *stacked: jax.lax.map(lambda each: function(*each), stacked),
    }
    own = step.changed
    for case in scale.cases:
        ratios = {}
        for words, way in ways.items():
            step.changed = way
            one, ten = (
                turns_of(Case(case.network, case.head, case.shape, scale.batch, 0.0, members), scale.steps)["train"]
                for members in (1, MEMBERS)
            )
            ratios[words] = _seconds(ten) / _seconds(one)
            lines.append(f"| {case.network}, {words} | {ratios[words]:.1f} |")
        best = min(ratios.values())
        told.goal(f"{case.network}: ten members at most 10 times one", best, best <= 10)
    step.changed = own
    told.part(*lines)


_ON_CPU = "import sys; from benchmarks.h200 import made_on_cpu; made_on_cpu(sys.argv[1])"


def moved(scale: Scale, told: Told) -> None:
    """Bundles made by a process on the CPU predict the same here."""
    lines = ["| bundle of the CPU | largest difference here |", "|---|---:|"]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        subprocess.run([sys.executable, "-c", _ON_CPU, folder], env=environment, check=True)
        for name in BUNDLED:
            with np.load(Path(folder, f"{name}.npz")) as file:
                expected = dict(file)
            found = bundles.load(Path(folder, name)).arrays(expected["images"])
            apart = max(float(np.max(np.abs(found[part] - expected[part]))) for part in found)
            lines.append(f"| {name} | {apart:.1e} |")
            told.goal(f"{name}: a bundle of the CPU predicts the same to 1e-4", apart, apart <= 1e-4)
    told.part(*lines)


def made_on_cpu(folder: str) -> None:
    """Write bundles, and what they predict on this machine."""
    for name, side in BUNDLED.items():
        trained, images = _taught(name, side), _images(5, side)
        bundles.save(trained, Path(folder, name), bands="ugriz", scale=0.4, units="nanomaggy")
        expected: dict[str, Any] = bundles.load(Path(folder, name)).arrays(images)
        np.savez(Path(folder, f"{name}.npz"), images=images, **expected)


def started(scale: Scale, told: Told) -> None:
    """The second start of a training."""
    lines = compilation.run().splitlines()
    told.part(*lines)
    for line in lines:
        if "second start" in line:
            name, _, *seconds = (cell.strip() for cell in line.strip("| ").split("|"))
            program = sum(map(float, seconds[:3]))
            told.goal(f"{name}: tracing, lowering and loading within 2 s", program, program <= 2)


def _taught(name: str, side: int) -> Any:
    """Train a network for a step; its parameters are as good as any for how long it takes and where it runs."""
    images, labels = _images(30, side), np.random.default_rng(1).uniform(0, 0.4, 30).astype(np.float32)
    split = np.resize(np.array([0, 0, 1], np.int8), 30)
    return train(images, labels, split, recipe=Recipe(network=name, epochs=1, evaluations=1, members=1))


def _images(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, side, side, 5)).astype(np.float32)


def _done(function: Callable[..., Any], *arguments: Any) -> None:
    for made in jax.tree.leaves(function(*arguments)):
        made.block_until_ready()


def _seconds(call: Callable[[], Any]) -> float:
    """Return the median time of some calls after one that compiles [s]."""
    taken = []
    for _ in range(training.ROUNDS + 1):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])
