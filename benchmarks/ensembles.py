"""Ten members of an ensemble beside one: one after the other, side by side, and each batch on two devices."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

MEMBERS = 10
NETWORKS = {"inzitu": 10, "dcmdn-a": 3}
"""Steps a turn of each network."""
TURNS = 3
WAYS = {"one after the other": "map", "side by side": "vmap", "each batch on two devices": "devices"}


def run() -> str:
    """Return processor seconds a step of one and of ten members, and how many times as long ten take.

    The clock would favour the one: its turns are short, and find the machine free.
    """
    rows = ["| network | ten members | one [s] | ten [s] | ratio |", "|---|---|---:|---:|---:|"]
    for network, steps in NETWORKS.items():
        for words, way in WAYS.items():
            flags = "--xla_force_host_platform_device_count=2" if way == "devices" else ""
            child = subprocess.run(
                [sys.executable, "-m", "benchmarks.ensembles", network, str(steps), way],
                env=os.environ | {"XLA_FLAGS": flags},
                capture_output=True,
                check=True,
            )
            one, ten = json.loads(child.stdout)
            rows.append(f"| {network} | {words} | {one:.3f} | {ten:.3f} | {ten / one:.1f} |")
    return "\n".join(rows)


def measured(network: str, steps: int, way: str) -> list[float]:
    """Return the fewest processor seconds a step of one and of ten members, which take turns."""
    import time

    import jax
    import numpy as np

    from inzitu.learn import step, train
    from inzitu.learn.recipe import Recipe

    if way == "vmap":
        step.each_member = lambda function, members: jax.vmap(function)
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(512, 28, 28, 5)).astype(np.float32), rng.uniform(0, 3, 512).astype(np.float32)
    split = np.resize(np.array([0, 0, 0, 0, 0, 0, 0, 1], np.int8), 512)
    best = dict.fromkeys((1, MEMBERS), float("inf"))
    for _ in range(TURNS):
        for members in best:
            marks: list[tuple[int, float]] = []

            def report(told: train.Report, marks: list[tuple[int, float]] = marks) -> None:
                marks.append((told.step, time.process_time()))
                if told.step >= 2 * steps:
                    raise StopIteration

            recipe = Recipe(network=network, members=members, epochs=100, evaluations=1)
            with contextlib.suppress(StopIteration):
                train.train(images, labels, split, recipe=recipe, report=report)
            (first, began), (last, ended) = marks[0], marks[-1]
            best[members] = min(best[members], (ended - began) / (last - first))
    return list(best.values())


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
