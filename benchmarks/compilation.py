"""From the start of a process to its first step of a training, with compiled programs kept from an earlier start."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

NETWORKS = ("dcmdn-a", "inzitu")
_STEP = """
import sys, time
from pathlib import Path
from inzitu.learn import compilation
compilation.keep(Path(sys.argv[1]))
import numpy as np
from inzitu.learn.recipe import Recipe
from inzitu.learn.train import train
class Stop(Exception): pass
def stop(report):
    print(report.step, time.time()); raise Stop
rng = np.random.default_rng(0)
images = rng.normal(size=(512, 28, 28, 5)).astype(np.float32)
split = np.resize(np.array([0, 0, 0, 1], np.int8), 512)
try:
    train(images, rng.uniform(0, 3, 512).astype(np.float32), split, recipe=Recipe(network=sys.argv[2]), report=stop)
except Stop:
    pass
"""
_NOTHING = "import time, inzitu.learn.train; print(0, time.time())"


def run() -> str:
    """Start each network twice, and a process that only loads the libraries."""
    rows = ["| network | first start [s] | second start [s] |", "|---|---:|---:|"]
    for network in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            first, second = (seconds(_STEP, folder, network) for _ in range(2))
        rows.append(f"| {network} | {first:.1f} | {second:.1f} |")
    return "\n".join([*rows, "", f"Of this loading the libraries takes {seconds(_NOTHING):.1f} s."])


def seconds(program: str, *arguments: str) -> float:
    """Return the time from the start of a process to its first step [s]."""
    import time

    began = time.time()
    child = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, env=os.environ
    )
    return float(child.stdout.split()[1]) - began


if __name__ == "__main__":
    print(run())
