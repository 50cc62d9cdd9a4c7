"""The learning on an accelerator, all in one go: rates beside PyTorch's, the two published trainings, ten members.

Needs one GPU; on a CPU it says so. Where `TORCH_PYTHON` names an interpreter with PyTorch, that runs the same networks
on the same GPU, compiled, in bfloat16 and channels last. The share is that of the measured bfloat16 matrix rate. The
published trainings are Pasquet et al.'s 15.4 million images and D'Isanto & Polsterer's 100,000 quasars, 1000 epochs.
On a machine without inzitu installed: ``PYTHONPATH=kernels python -m benchmarks h200``.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from benchmarks.training import Case, compared, matrix_rate

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
    peak = matrix_rate(8192, jnp.bfloat16)
    rows = [row for case in CASES for row in compared(case, steps=STEPS)]
    lines = [
        f"{jax.devices()[0].device_kind}, jax {jax.__version__}: bfloat16 matrix rate {peak / 1000:.0f} TFLOP/s.",
        "",
    ]
    lines += [
        "| network, batch | | images/s | PyTorch | ratio | share of the matrix rate |",
        "|---|---|---|---|---|---|",
    ]
    lines += [row.line(peak) for row in rows]
    rates = {row.case.network: row.rate for row in rows if row.what == "train"}
    lines += ["", "| network | published training, min | time of ten members / of one |", "|---|---|---|"]
    for case in CASES:
        minutes = f"{PUBLISHED[case.network] / rates[case.network] / 60:.1f}" if case.network in PUBLISHED else ""
        ten = compared(dataclasses.replace(case, members=10, work=0.0), steps=STEPS)[0].rate
        lines.append(f"| {case.network} | {minutes} | {rates[case.network] / ten:.1f} |")
    return "\n".join(lines)
