"""The pictures of a set of predictions, drawn with matplotlib from plain arrays.

Covers the drawing only; which rows are drawn is the step's (`inzitu.run.draw`) or the demo's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

INK, TRUTH, MEDIAN = "#27364b", "#c2410c", "#0f766e"


def _saved(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path


def draw_pdfs(
    path: Path,
    *,
    weights: np.ndarray,
    means: np.ndarray,
    sigmas: np.ndarray,
    names: Sequence[str],
    z_predicted: np.ndarray,
    z_true: np.ndarray | None = None,
) -> Path:
    """Draw a grid of mixture PDFs [n, k], with the predicted and, where known (not NaN), the true redshift."""
    count = len(names)
    columns = min(4, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.1 * columns, 2.2 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    reach = 4 * sigmas.max()
    z = np.linspace(max(0.0, means.min() - min(reach, 1.0)), means.max() + min(reach, 1.0), 800)
    for i, axis in enumerate(axes):
        if i >= count:
            axis.set_axis_off()
            continue
        bell = np.exp(-0.5 * ((z[:, None] - means[i]) / sigmas[i]) ** 2) / (sigmas[i] * np.sqrt(2 * np.pi))
        density = (weights[i] * bell).sum(axis=1)
        axis.fill_between(z, density, color=INK, alpha=0.15, lw=0)
        axis.plot(z, density, color=INK, lw=1.2)
        axis.axvline(z_predicted[i], color=MEDIAN, lw=1.2, ls="--", label="predicted (median)")
        if z_true is not None and np.isfinite(z_true[i]):
            axis.axvline(z_true[i], color=TRUTH, lw=1.2, label="spectroscopic")
        axis.set_title(names[i], fontsize=8)
        axis.set_yticks([])
        axis.set_xlim(z[0], z[-1])
        axis.tick_params(labelsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    figure.supxlabel("redshift z", fontsize=9)
    figure.supylabel("p(z)", fontsize=9)
    return _saved(figure, path)


def draw_redshifts(
    path: Path, *, z_true: np.ndarray, z_predicted: np.ndarray, z_low: np.ndarray, z_high: np.ndarray, caption: str
) -> Path:
    """Draw predicted against spectroscopic redshift [n], with 68 % intervals and the residuals below."""
    figure = Figure(figsize=(6.2, 7.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    low, high = min(z_true.min(), z_predicted.min()), max(z_true.max(), z_predicted.max())
    ends = np.array([low, high]) + np.array([-0.04, 0.04]) * max(high - low, 0.1)
    errors = np.abs(np.stack([z_predicted - z_low, z_high - z_predicted]))
    above.errorbar(
        z_true, z_predicted, yerr=errors, fmt="o", ms=3.5, color=INK, ecolor="#9aa7b8", elinewidth=0.8, alpha=0.8
    )
    above.plot(ends, ends, color=TRUTH, lw=1)
    for sign in (-1, 1):
        above.plot(ends, ends + sign * 0.15 * (1 + ends), color=TRUTH, lw=0.8, ls=":")
    above.set(xlim=ends, ylim=ends, ylabel="predicted redshift (median, 16 % to 84 %)")
    above.set_title(caption, fontsize=9, loc="left")
    below.axhline(0, color=TRUTH, lw=1)
    below.plot(z_true, (z_predicted - z_true) / (1 + z_true), "o", ms=3, color=INK, alpha=0.8)
    below.set(xlabel="spectroscopic redshift", ylabel=r"$\Delta z\,/\,(1+z)$")
    return _saved(figure, path)


def draw_pit(path: Path, *, pit: np.ndarray, caption: str) -> Path:
    """Draw the histogram of the probability integral transform [n] with the band of a uniform one."""
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axis = figure.subplots()
    bins = 10 if len(pit) >= 50 else 5
    expected = len(pit) / bins
    spread = 2 * np.sqrt(expected * (1 - 1 / bins))
    axis.axhspan(
        max(0.0, expected - spread), expected + spread, color=TRUTH, alpha=0.12, lw=0, label="uniform, 2 sigma"
    )
    axis.axhline(expected, color=TRUTH, lw=1)
    axis.hist(pit, bins=bins, range=(0, 1), color=INK, alpha=0.75, rwidth=0.94)
    axis.set(xlim=(0, 1), xlabel="probability integral transform F(z)", ylabel="sources")
    axis.set_title(caption, fontsize=9, loc="left")
    axis.legend(fontsize=8, frameon=False)
    return _saved(figure, path)


COMPARED = {"crps": "CRPS", "nmad": "nmad", "bias": "bias", "outliers_015": "outliers, 0.15"}
"""The scores that a comparison shows, and what they are called."""


def draw_comparison(path: Path, table: Mapping[str, Any]) -> Path:
    """Draw the scores of several networks, with intervals, from the table of a comparison."""
    rows = table["networks"]
    figure = Figure(figsize=(10, 1.6 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots(1, len(COMPARED), sharey=True)
    at = np.arange(len(rows))[::-1]
    for axis, (score, title) in zip(axes, COMPARED.items(), strict=True):
        value, low, high = (np.array([row["scores"][score][end] for row in rows]) for end in ("value", "low", "high"))
        # A percentile interval need not hold the value itself.
        errors = np.maximum([value - low, high - value], 0)
        axis.errorbar(value, at, xerr=errors, fmt="o", color=INK, ecolor="#9aa7b8", ms=5)
        axis.set_title(title, fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
        axis.margins(y=0.3)
    axes[0].axvline(table["climatology"]["crps"], color=TRUTH, lw=1, ls=":", label="climatology")
    axes[0].legend(fontsize=7, frameon=False)
    axes[2].axvline(0, color=TRUTH, lw=0.8)
    axes[0].set_yticks(at, [row["network"] for row in rows])
    figure.supxlabel(f"{table['rows']} sources with known redshift; {table['level']:.0%} intervals", fontsize=8)
    return _saved(figure, path)
