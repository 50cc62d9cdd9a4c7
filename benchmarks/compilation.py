"""From the start of a process to its first step of a training, with compiled programs kept from an earlier start.

Processor time, which a busy machine stretches least, of what a second start still has to do: load the libraries; trace
the programs and lower them to StableHLO, by which they are recognised; load what was compiled; run it. The gate is two
seconds for tracing, lowering and loading together, and for all that comes after the imports.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

NETWORKS = ("dcmdn-a", "inzitu")
STARTS = 4
_STEP = """
import json, os, sys
from pathlib import Path
from inzitu.learn import compilation
compilation.keep(Path(sys.argv[1]))
import jax
import numpy as np
from inzitu.learn.recipe import Recipe
from inzitu.learn.train import train
class Stop(Exception): pass
imports = sum(os.times()[:2])
spent = dict.fromkeys(("jaxpr_trace", "jaxpr_to_mlir_module", "backend_compile"), 0.0)
programs = []
def add(name, seconds, **_):
    part = name.rsplit("/", 1)[-1].removesuffix("_duration")
    if part in spent:
        spent[part] += seconds
        programs.append(part)
jax.monitoring.register_event_duration_secs_listener(add)
def stop(report):
    after = sum(os.times()[:2]) - imports
    print(json.dumps([imports, *spent.values(), after, programs.count("backend_compile")])); raise Stop
rng = np.random.default_rng(0)
images = rng.normal(size=(512, 28, 28, 5)).astype(np.float32)
split = np.resize(np.array([0, 0, 0, 1], np.int8), 512)
try:
    train(images, rng.uniform(0, 3, 512).astype(np.float32), split, recipe=Recipe(network=sys.argv[2]), report=stop)
except Stop:
    pass
"""


def run() -> str:
    """Start each network some times; the first start compiles, of the others the quickest counts."""
    rows = [
        "| | imports [s] | tracing [s] | lowering [s] | compiling or loading [s] | after imports [s] | programs |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for network in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            first, *others = (_started(folder, network) for _ in range(STARTS))
        rows.append(_row(f"{network}, first start", first))
        rows.append(_row(f"{network}, second start", min(others, key=lambda spent: spent[4])))
    return "\n".join(rows)


def _started(folder: str, network: str) -> list[float]:
    child = subprocess.run([sys.executable, "-c", _STEP, folder, network], capture_output=True, text=True, check=True)
    spent: list[float] = json.loads(child.stdout)
    return spent


def _row(words: str, spent: list[float]) -> str:
    *seconds, programs = spent
    return f"| {words} | " + " | ".join(f"{value:.2f}" for value in seconds) + f" | {programs:.0f} |"
