"""From the start of a process to its first step of a training, with compiled programs kept from an earlier start."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

NETWORKS = ("dcmdn-a", "inzitu")
_STEP = """
import os, sys, time
from pathlib import Path
from inzitu.learn import compilation
compilation.keep(Path(sys.argv[1]))
import jax
import numpy as np
from inzitu.learn.recipe import Recipe
from inzitu.learn.train import train
class Stop(Exception): pass
compiling = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: compiling.append(seconds) if name.endswith("backend_compile_duration") else None)
def stop(report):
    print(time.time(), sum(compiling), sum(os.times()[:2])); raise Stop
rng = np.random.default_rng(0)
images = rng.normal(size=(512, 28, 28, 5)).astype(np.float32)
split = np.resize(np.array([0, 0, 0, 1], np.int8), 512)
try:
    train(images, rng.uniform(0, 3, 512).astype(np.float32), split, recipe=Recipe(network=sys.argv[2]), report=stop)
except Stop:
    pass
"""
_NOTHING = "import os, time, inzitu.learn.train; print(time.time(), 0, sum(os.times()[:2]))"


def run() -> str:
    """Start each network twice, and a process that only loads the libraries."""
    rows = [
        "| | to the first step [s] | of this compiling or loading programs [s] | processor [s] |",
        "|---|---:|---:|---:|",
    ]
    for network in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            rows += [_row(f"{network}, {start} start", _STEP, folder, network) for start in ("first", "second")]
    return "\n".join([*rows, _row("the libraries alone", _NOTHING)])


def _row(words: str, program: str, *arguments: str) -> str:
    """Start a process, and tell the time from its start to its first step."""
    began = time.time()
    child = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    ended, compiling, processor = map(float, child.stdout.split())
    return f"| {words} | {ended - began:.1f} | {compiling:.1f} | {processor:.1f} |"
