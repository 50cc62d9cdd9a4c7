"""Each kernel of dcmdn-a and pasquet by itself, beside a product of matrices: its time, and its share of that rate.

The layers are called one by one with what comes into them in the network, forwards and then by the gradient of their
weights and of their input, each a program of its own. The work is that of the layer as published, so that where
products are saved (docs/decisions/010) the share may pass 100 %. Product and kernel take turns; the quickest counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inzitu.learn.convolution import average_pool, convolve, max_pool

TURNS = 5
SIDE = 1536

# What comes in (rows, channels), and what the kernel makes of it: its size and channels, how it is padded.
DCMDN = (
    ("first, 3 x 3", 16, 5, 3, 256, "VALID"),
    ("second, 2 x 2", 7, 256, 2, 512, "VALID"),
    ("third, 2 x 2", 3, 512, 2, 1024, "VALID"),
)
DCMDN_28 = (
    ("first, 3 x 3", 28, 5, 3, 256, "VALID"),
    ("second, 2 x 2", 13, 256, 2, 512, "VALID"),
    ("third, 2 x 2", 6, 512, 2, 1024, "VALID"),
)
PASQUET = (
    ("first, 5 x 5", 64, 5, 5, 64, "SAME"),
    ("1: 1 x 1, all four", 32, 64, 1, 208, "SAME"),
    ("1: 5 x 5", 32, 48, 5, 64, "SAME"),
    ("1: 3 x 3", 32, 48, 3, 64, "SAME"),
    ("2: 1 x 1, all four", 32, 240, 1, 284, "SAME"),
    ("2: 5 x 5", 32, 64, 5, 92, "SAME"),
    ("2: 3 x 3", 32, 64, 3, 92, "SAME"),
    ("3: 1 x 1, all four", 16, 340, 1, 404, "SAME"),
    ("3, 4: 5 x 5", 16, 92, 5, 128, "SAME"),
    ("3, 4: 3 x 3", 16, 92, 3, 128, "SAME"),
    ("4: 1 x 1, all four", 16, 476, 1, 404, "SAME"),
    ("5: 1 x 1, all three", 8, 476, 1, 312, "SAME"),
    ("5: 3 x 3", 8, 92, 3, 128, "SAME"),
)
DENSE = {
    "dcmdn-a": ((4096, 500), (500, 100)),
    "dcmdn-a, all 28 x 28": ((25600, 500),),
    "pasquet": ((22272, 1096), (1096, 1096)),
}
POOLED: Mapping[str, Sequence[tuple[Callable[..., Any], int, int]]] = {
    "dcmdn-a": ((max_pool, 14, 256), (max_pool, 6, 512)),
    "dcmdn-a, all 28 x 28": ((max_pool, 26, 256), (max_pool, 12, 512)),
    "pasquet": ((average_pool, 64, 64), (average_pool, 32, 340), (average_pool, 16, 476)),
}
NETWORKS = {"dcmdn-a": (256, DCMDN), "dcmdn-a, all 28 x 28": (256, DCMDN_28), "pasquet": (32, PASQUET)}
PASSES = ("forwards", "gradient of the weights", "gradient of the input")


def run() -> str:
    """Return a table for each network."""
    rate = jax.jit(lambda a: a @ a)
    square = jnp.ones((SIDE, SIDE))
    lines = []
    for network, (batch, convolutions) in NETWORKS.items():
        lines += [f"**{network}**, batches of {batch}", "", "| kernel | | ms | GFLOP | GFLOP/s | share |"]
        lines += ["|---|---|---:|---:|---:|---:|"]
        for words, what, function, arguments, work in _kernels(network, batch, convolutions):
            seconds, peak = _taken(jax.jit(function), arguments, lambda: rate(square))
            figures = f"{work:.3g} | {work / seconds:.0f} | {work / seconds / peak:.0%}" if work else "| |"
            lines.append(f"| {words} | {what} | {1e3 * seconds:.2f} | {figures} |")
        lines.append("")
    return "\n".join(lines)


def _kernels(network: str, batch: int, convolutions: Any) -> Iterator[tuple[str, str, Callable[..., Any], Any, float]]:
    """Give each kernel's name, its pass, its program, its arguments and its work [GFLOP]."""
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    for name, side, inputs, size, outputs, padding in convolutions:
        images, kernel = drawn(batch, side, side, inputs), drawn(size, size, inputs, outputs)
        out = side if padding == "SAME" else side - size + 1
        work = 2e-9 * batch * out**2 * size**2 * inputs * outputs

        def forward(images: Any, kernel: Any, padding: str = padding) -> Any:
            return convolve(images, kernel, padding=padding)

        yield from _passes(f"convolution {name}", forward, images, kernel, drawn(batch, out, out, outputs), work)
    for pool, side, channels in POOLED[network]:
        images = drawn(batch, side, side, channels)
        yield f"pooling, {side} x {side} x {channels}", "forwards", pool, (images,), 0.0
        slope = drawn(batch, side // 2, side // 2, channels)
        yield "", "gradient", lambda i, s, pool=pool: jax.vjp(pool, i)[1](s), (images, slope), 0.0
    for inputs, outputs in DENSE[network]:
        vectors, matrix = drawn(batch, inputs), drawn(inputs, outputs)
        work = 2e-9 * batch * inputs * outputs
        yield from _passes(f"dense, {inputs} to {outputs}", jnp.dot, vectors, matrix, drawn(batch, outputs), work)


def _passes(
    name: str, forward: Callable[..., Any], values: Any, weights: Any, slope: Any, work: float
) -> Iterator[tuple[str, str, Callable[..., Any], Any, float]]:
    yield name, PASSES[0], forward, (values, weights), work
    yield "", PASSES[1], lambda v, w, s: jax.vjp(lambda w: forward(v, w), w)[1](s), (values, weights, slope), work
    yield "", PASSES[2], lambda v, w, s: jax.vjp(lambda v: forward(v, w), v)[1](s), (values, weights, slope), work


def _taken(kernel: Callable[..., Any], arguments: Any, product: Callable[[], Any]) -> tuple[float, float]:
    """Return the kernel's time [s] and the rate of the product [GFLOP/s]."""
    best = [float("inf"), float("inf")]
    for turn in range(TURNS + 1):
        for place, call in enumerate((lambda: kernel(*arguments), product)):
            began = time.perf_counter()
            for made in jax.tree.leaves(call()):
                made.block_until_ready()
            if turn:
                best[place] = min(best[place], time.perf_counter() - began)
    return best[0], 2e-9 * SIDE**3 / best[1]
