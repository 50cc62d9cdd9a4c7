"""What XLA makes of the programs of `h200` for such a GPU where there is none: what they move, so how fast they can be.

XLA compiles for a GPU that is only described, with the compiler that JAX brings for one (`pip install "jax[cuda13]"`,
in an environment of its own: it takes 4 GB). Nothing runs: the kernels are not those that are fastest, which takes a
GPU to find out. But a program that such a machine refuses is refused here, and its memory and what each step reads and
writes outside the convolutions are those of the real one. No step is faster than the memory that moves that, and then
the matrix units that do the products.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

# Else the compiler is not loaded where no driver is found. Read when JAX looks for devices.
os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks import h200
from benchmarks.training import Case, prepared
from inzitu.learn.step import Program

# JAX gives these no types.
_SHAPE: Callable[..., Any] = jax.ShapeDtypeStruct
_EVERYWHERE: Callable[[], Any] = PartitionSpec
# NVIDIA's data sheet of the H200 SXM: bytes a second, and operations a second on dense bfloat16 matrices.
MEMORY, PRODUCTS = 4.8e12, 989e12
DESCRIBED = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 150000000000
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H200"
"""
# What a goal leaves for a step [s]: the published trainings in 2 and 4 minutes, 200,000 stamps predicted a second.
STEPS = {
    ("dcmdn-a", "train"): 2048 * h200.MINUTES["dcmdn-a"] * 60 / h200.PUBLISHED["dcmdn-a"],
    ("dcmdn-a", "predict"): 2048 / 200_000,
    ("pasquet", "train"): 512 * h200.MINUTES["pasquet"] * 60 / h200.PUBLISHED["pasquet"],
}


def run() -> str:
    """Return the table."""
    try:
        described = topologies.get_topology_desc("H200", "cuda", target_config=DESCRIBED, topology="1x1x1")
    except NotImplementedError:
        return 'No compiler for an H200 here (`pip install "jax[cuda13]"`): nothing was compiled.'
    there = NamedSharding(Mesh(described.devices, ("device",)), _EVERYWHERE())
    lines = [
        f"JAX {jax.__version__}, not run.",
        "",
        "| network, batch | | memory, GB | moved beside products, GB | at least, ms | the goal's, ms |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for case in h200.FULL.cases:
        made = prepared(replace(case, compute="bfloat16"), steps=2)
        programs: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
            "train": (Program.advance, (made.program, made.state, made.rows, jnp.int32(1), made.data)),
            "predict": (made.forward, (made.parameters, made.blocks)),
        }
        for what, (function, arguments) in programs.items():
            lines.append(_line(case, what, *_compiled(function, arguments, there)))
    return "\n".join(lines)


def _line(case: Case, what: str, memory: float, moved: float) -> str:
    work = 1e9 * case.work * case.batch * {"train": 3, "predict": 1}[what]
    goal = STEPS.get((case.network, what))
    cells = [f"{case.network}, {case.batch}", what, f"{memory / 1e9:.2f}", f"{moved / 1e9:.2f}"]
    cells += [f"{1e3 * (moved / MEMORY + work / PRODUCTS):.2f}", f"{1e3 * goal:.2f}" if goal else ""]
    return "| " + " | ".join(cells) + " |"


def _compiled(function: Any, arguments: tuple[Any, ...], there: NamedSharding) -> tuple[float, float]:
    """Return the memory that a program takes, and what one turn of its loop reads and writes [byte].

    Not counted are the convolutions, which are calls of a library.
    """
    from jaxlib import _jax  # no public way leads to the costs of a program for a machine that is not there

    def described(leaf: Any) -> Any:
        return _SHAPE(leaf.shape, leaf.dtype, sharding=there) if hasattr(leaf, "dtype") else leaf

    lowered = function.trace(*jax.tree.map(described, arguments)).lower(lowering_platforms=("cuda",))
    # Kernels are chosen by trying them, which takes the GPU.
    program = lowered.compile(compiler_options={"xla_gpu_autotune_level": 0})
    sizes = program.memory_analysis()
    costs = _jax.hlo_module_cost_analysis(jax.devices("cpu")[0].client, program.runtime_executable().hlo_modules()[0])
    return sizes.argument_size_in_bytes + sizes.temp_size_in_bytes, costs["bytes accessed"]
