"""A job's estimate as a picture: what becomes of the rows, the footprint, the redshifts and the costs."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_OK, _LOST, _INK, _FAINT = "#1b7837", "#b35806", "#333333", "#bdbdbd"


def draw_estimate(told: Mapping[str, Any]) -> bytes:
    """Return a PNG of what `inzitu.jobs.costs.compared` tells."""
    # Loaded by the first picture, for it takes longer than the server's start; no pyplot, which keeps global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.4), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    estimated = told["estimated"] or {}
    panels = figure.subplots(2, 2).ravel()
    _draw_rows(panels[0], estimated)
    _draw_footprint(panels[1], estimated)
    _draw_redshifts(panels[2], estimated)
    _draw_seconds(panels[3], told)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_rows(axes: Any, estimated: Mapping[str, Any]) -> None:
    """Bars of each list's rows by status, the longest on top."""
    axes.set_title("Rows", fontsize=10)
    bars = [
        (f"{name}: {status}", count, _OK if status == "ok" else _LOST)
        for name, rows in estimated.get("lists", {}).items()
        for status, count in sorted(rows["status"].items(), key=lambda item: -item[1])
    ]
    _draw_bars(axes, bars)


def _draw_footprint(axes: Any, estimated: Mapping[str, Any]) -> None:
    axes.set_title("In the footprint", fontsize=10)
    footprint = estimated.get("footprint", {"bands": {}, "all": None})
    bars = [(band, count, _FAINT) for band, count in footprint["bands"].items()]
    for name, count in (("all bands", footprint["all"]), ("matched", estimated.get("matched"))):
        if count is not None:
            bars.append((name, count, _OK))
    _draw_bars(axes, bars)


def _draw_redshifts(axes: Any, estimated: Mapping[str, Any]) -> None:
    axes.set_title("Redshifts of the training list", fontsize=10)
    histogram = estimated.get("redshifts")
    if histogram is None:
        axes.text(0.5, 0.5, "none", ha="center", va="center", color=_INK, transform=axes.transAxes)
        return
    axes.stairs(histogram["sent"], histogram["edges"], color=_INK, label="sent")
    axes.stairs(histogram["usable"], histogram["edges"], color=_OK, fill=True, alpha=0.6, label="usable")
    axes.set_xlabel("z", fontsize=8)
    axes.legend(fontsize=8, frameon=False)


def _draw_seconds(axes: Any, told: Mapping[str, Any]) -> None:
    axes.set_title("Seconds a step", fontsize=10)
    foreseen, actual = (_seconds((told["estimated"] or {}).get("amounts", {})), _seconds(told["actual"] or {}))
    bars = []
    for step in foreseen | actual:
        bars.append((step, foreseen.get(step, 0.0), _FAINT))
        if actual:
            bars.append((f"{step}, took", actual.get(step, 0.0), _OK))
    _draw_bars(axes, bars, form="{:,.1f}")


def _seconds(amounts: Mapping[str, float]) -> dict[str, float]:
    marked = {name.removeprefix("seconds_"): value for name, value in amounts.items() if name.startswith("seconds_")}
    return marked | ({"all": amounts["seconds"]} if "seconds" in amounts else {})


def _draw_bars(axes: Any, bars: list[tuple[str, float, str]], *, form: str = "{:,.0f}") -> None:
    """Horizontal bars with their numbers, the first on top."""
    places = range(len(bars))
    drawn = axes.barh(places, [value for _, value, _ in bars], color=[colour for _, _, colour in bars])
    axes.set_yticks(places, [name for name, _, _ in bars])
    axes.bar_label(drawn, [form.format(value) for _, value, _ in bars], fontsize=8, padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
