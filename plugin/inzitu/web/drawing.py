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
    axes.set_title("Rows", fontsize=10, loc="left")
    bars = [
        (f"{name}: {status}", count, _OK if status == "ok" else _LOST)
        for name, rows in estimated.get("lists", {}).items()
        for status, count in sorted(rows["status"].items(), key=lambda item: -item[1])
    ]
    _draw_bars(axes, bars)


def _draw_footprint(axes: Any, estimated: Mapping[str, Any]) -> None:
    """Bars side by side for each list: in the footprint of each band and of all, and matched."""
    axes.set_title("In the footprint", fontsize=10, loc="left")
    lists = estimated.get("lists", {})
    width = 0.8 / max(1, len(lists))
    for number, (name, rows) in enumerate(lists.items()):
        bars = rows["footprint"]["bands"] | {"all bands": rows["footprint"]["all"]}
        if rows["matched"] is not None:
            bars["matched"] = rows["matched"]
        places = [at + (number - (len(lists) - 1) / 2) * width for at in range(len(bars))]
        drawn = axes.barh(places, bars.values(), width, color=(_INK, _FAINT)[number % 2], label=name)
        axes.bar_label(drawn, [f"{count:,}" for count in bars.values()], fontsize=7, padding=3)
        axes.set_yticks(range(len(bars)), list(bars))
    if lists:
        axes.invert_yaxis()
        axes.margins(x=0.15)
        _legend(axes)


def _draw_redshifts(axes: Any, estimated: Mapping[str, Any]) -> None:
    """What was sent behind what of it can be used, over the range that was sent."""
    histogram = estimated.get("redshifts")
    axes.set_title("Redshifts" + (f" of the {histogram['list']} list" if histogram else ""), fontsize=10, loc="left")
    if histogram is None:
        axes.text(0.5, 0.5, "none", ha="center", va="center", color=_INK, transform=axes.transAxes)
        return
    axes.stairs(histogram["sent"], histogram["edges"], color=_FAINT, fill=True, label="sent")
    axes.stairs(histogram["usable"], histogram["edges"], color=_OK, fill=True, label="usable")
    axes.stairs(histogram["sent"], histogram["edges"], color=_INK)
    axes.set_xlim(histogram["edges"][0], histogram["edges"][-1])
    axes.set_xlabel("z", fontsize=8)
    _legend(axes)


def _legend(axes: Any) -> None:
    """Put the legend beside the title, where it hides nothing."""
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)


def _draw_seconds(axes: Any, told: Mapping[str, Any]) -> None:
    axes.set_title("Seconds a step", fontsize=10, loc="left")
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
