"""Scores: errors against numerical integration, rows a second, and a network that must reach a known p(z | x).

Three gates: the errors of the formulas, a trained CRPS within 1 % of the exact one, and the out-of-domain score of real
quasars beyond the training redshifts (when the stamps are there).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]  # it ships no types
from flax import nnx
from scipy.stats import rankdata

from inzitu.learn import scores
from inzitu.learn.declared import build_declared
from inzitu.learn.heads import parse_head
from inzitu.learn.mixture import Mixture
from inzitu.learn.ood import OodModel, colours
from inzitu.learn.truncation import crps_truncated

ROOT = Path(__file__).parents[1]
STAMPS = ROOT / "../shared/data/sdss-qso/stamps.npz"
# JAX leaves it without types.
BLOCK: Any = jax.block_until_ready
ROWS = 100_000
STEPS, BATCH = 4000, 512


def run() -> str:
    """Give the three tables."""
    return "\n\n".join((errors(), rates(), known(), beyond()))


def errors() -> str:
    """Give the largest error of each formula over mixtures of widths from 1e-6 to 1e3, against quadrature."""
    sys.path.insert(0, str(ROOT / "tests"))
    from learn import quadrature

    def largest(score: Callable[..., Any], exact: Callable[[Any], float], cases: Any) -> list[float]:
        worst = [0.0, 0.0]
        for case in map(quadrature.Case.rounded, cases):
            arrays = (case.weights, case.means, case.sigmas, case.z)
            truth = exact(case)
            for i, dtype in enumerate((np.float64, np.float32)):
                given = [np.asarray(a) if dtype == np.float64 else jnp.asarray(a, dtype) for a in arrays]
                worst[i] = max(worst[i], abs(float(score(*given)) - truth) / max(1.0, abs(truth)))
        return worst

    table = {
        "CRPS": largest(scores.crps_mixture, quadrature.crps, quadrature.CASES),
        "CRPS, truncated": largest(crps_truncated, quadrature.crps, quadrature.TRUNCATED),
        "PIT": largest(scores.pit_mixture, lambda case: case.cdf(case.z), quadrature.CASES),
        "NLL": largest(scores.nll_mixture, lambda case: -case.log_pdf(case.z), quadrature.CASES),
        "CDE loss": largest(scores.cde_loss_mixture, quadrature.cde_loss, quadrature.CASES[:1]),
    }
    lines = [f"| {name} | {double:.1e} | {single:.1e} |" for name, (double, single) in table.items()]
    return "\n".join(["| largest error, relative above 1 | float64 | float32 |", "|---|---|---|", *lines])


def rates() -> str:
    """Give rows a second of mixtures of five, each score in both precisions, beside a grid of 200 redshifts."""
    rng = np.random.default_rng(0)
    double = (rng.dirichlet(np.ones(5), ROWS), rng.uniform(0, 4, (ROWS, 5)), rng.uniform(0.01, 0.5, (ROWS, 5)))
    z = rng.uniform(0, 4, ROWS)
    single = tuple(jnp.asarray(a, jnp.float32) for a in (*double, z))
    grid = np.linspace(0, 5, 200)

    def gridded(*arrays: np.ndarray) -> np.ndarray:
        weights, means, sigmas, truth = (np.asarray(a)[:5000] for a in arrays)
        below = Mixture(weights[:, None], means[:, None], sigmas[:, None]).cdf(grid)
        return np.asarray(np.trapezoid((below - (grid >= truth[:, None])) ** 2, grid, axis=1))

    lines = ["| rows a second | float64 | float32 |", "|---|---|---|"]
    for name in ("crps_mixture", "nll_mixture", "pit_mixture", "cde_loss_mixture"):
        score = getattr(scores, name)
        lines.append(f"| {name} | {_rate(score, (*double, z)):,.0f} | {_rate(score, single):,.0f} |")
    lines.append(f"| CRPS on a grid of 200 | {_rate(gridded, (*double, z)) * 5000 / ROWS:,.0f} | |")
    return "\n".join(lines)


def known() -> str:
    """Train on a generator whose p(z | x) is known, and give the CRPS beside the exact one."""
    head = parse_head("mixture(3)")
    network = build_declared(
        "layers: [flatten, dense: 96, activation: gelu, dense: 96, activation: gelu]",
        key=jax.random.key(0), input_shape=(2, 2, 2), head=head,
    )  # fmt: skip
    network.begin_at(head.initial_bias(np.asarray(_draw(jax.random.key(9), 4096)[1])))
    graph, parameters = nnx.split(network)
    optimiser = optax.adam(optax.cosine_decay_schedule(3e-3, STEPS))

    def loss(parameters: Any, key: Any) -> Any:
        images, z, _ = _draw(key, BATCH)
        raw = nnx.merge(graph, parameters)(images, jnp.zeros((BATCH, 0)))
        return jnp.mean(head.loss(raw, z, nll_weight=0.2))

    @jax.jit
    def trained(parameters: Any) -> Any:
        def step(carry: Any, key: Any) -> Any:
            parameters, state = carry
            changes, state = optimiser.update(jax.grad(loss)(parameters, key), state)
            return (jax.tree.map(jnp.add, parameters, changes), state), None

        keys = jax.random.split(jax.random.key(1), STEPS)
        return jax.lax.scan(step, (parameters, optimiser.init(parameters)), keys)[0][0]

    began = time.perf_counter()
    network = nnx.merge(graph, BLOCK(trained(parameters)))
    seconds = time.perf_counter() - began
    images, z, truth = _draw(jax.random.key(2), 50_000)
    learned = float(jnp.mean(head.crps(network(images, jnp.zeros((len(z), 0))), z)))
    exact = float(jnp.mean(scores.crps_mixture(truth.weights, truth.means, truth.sigmas, z)))
    verdict = "within" if learned < 1.01 * exact else "**not within**"
    return (
        "| known p(z given x) | CRPS |\n|---|---|\n"
        f"| exact | {exact:.5f} |\n| learned in {seconds:.0f} s | {learned:.5f} |\n\n"
        f"{learned / exact - 1:+.2%}: {verdict} 1 %."
    )


def beyond() -> str:
    """Give the AUC of the out-of-domain score for quasars beyond the highest training redshift."""
    if not STAMPS.exists():
        return "The quasar stamps are not beside the project: no out-of-domain score."
    with np.load(STAMPS) as stamps:
        images, z = np.moveaxis(stamps["images"], 1, -1), stamps["z"]
    sigmas = 1.4826 * np.median(np.abs(images[:, :8, :8]), axis=(0, 1, 2))
    features = np.asarray(colours(jnp.asarray(images), jnp.asarray(sigmas)))
    lines = ["| trained to z | AUC beyond, 5 splits |", "|---|---|"]
    for highest in (3.25, 3.5, 3.8, 4.0):
        found = [_auc(features, z, highest, seed) for seed in range(5)]
        lines.append(f"| {highest} | {np.mean(found):.3f} +- {np.std(found):.3f} |")
    return "\n".join(lines)


def _auc(features: np.ndarray, z: np.ndarray, highest: float, seed: int) -> float:
    inside = np.random.default_rng(seed).permutation(np.flatnonzero(z < highest))
    seen, kept = np.split(inside, [3 * len(inside) // 4])
    found = np.asarray(OodModel.fit(features[seen]).score(jnp.asarray(features)))
    outside = found[z > highest]
    ranks = rankdata(np.concatenate([found[kept], outside]))[len(kept) :]
    return float((ranks.mean() - (len(outside) + 1) / 2) / len(kept))


def _draw(key: Any, count: int) -> tuple[Any, Any, Mixture]:
    """Draw images, redshifts and the mixtures that the redshifts are drawn from."""
    of_images, of_z = jax.random.split(key)
    images = jax.random.uniform(of_images, (count, 2, 2, 2))
    u, v = images[:, 0, 0, 0], images[:, 1, 1, 1]
    share = 0.2 + 0.6 * v
    truth = Mixture(
        jnp.stack([share, 1.0 - share], axis=-1),
        jnp.stack([0.5 + u, 2.5 - u * v], axis=-1),
        jnp.stack([0.05 + 0.2 * v, 0.1 + 0.1 * u], axis=-1),
    )
    return images, truth.sample(key=of_z), truth


def _rate(score: Callable[..., Any], arrays: tuple[Any, ...]) -> float:
    """Give rows a second: the median of five rounds after one that compiles."""
    BLOCK(score(*arrays))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        BLOCK(score(*arrays))
        times.append(time.perf_counter() - began)
    return ROWS / float(np.median(times))
