"""The step evaluate: scores of the predictions whose redshift is known.

``targets`` are the rows the user asked for and sent with a redshift; ``validation`` are the held-out training rows. The
validation rows chose when training stopped, so their scores are a little better than those of new sources.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from inzitu.learn import evaluation
from inzitu.run.scalars import slices_of
from inzitu.run.truth import Compared
from inzitu.run.work import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inzitu.pipelines.parameters import EvaluateParameters
    from inzitu.run.work import Work

SETS = {"targets": "predictions", "validation": "validation"}
FEWEST = 5
"""Rows with truth below which scores and their intervals say nothing."""


def evaluate(parameters: EvaluateParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Write the scores of each set of rows with truth: of all its rows first, then by thirds of each of `slices`."""
    found: dict[str, Any] = {}
    selection = pq.read_table(inputs["selection"])
    columns = slices_of(parameters.slices, selection, inputs)
    for name, role in SETS.items():
        if role not in inputs:
            continue
        known = Compared.read(inputs[role], inputs["selection"]).known
        values = {column: numbers[known.rows["row"]] for column, numbers in columns.items()}
        scores = _scores(known, values, parameters) if len(known) >= FEWEST else []
        found[name] = {"rows": len(known), "scores": scores}
        if found[name]["scores"]:
            crps = found[name]["scores"][0]["scores"]["crps"]
            work.log(
                f"CRPS of {len(known):,} {name} rows: {crps['value']:.4f} ({crps['low']:.4f} to {crps['high']:.4f})"
            )
    path = work.folder / "scores.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return Outcome(made={"scores": path})


def _scores(known: Compared, values: Mapping[str, np.ndarray], parameters: EvaluateParameters) -> list[dict[str, Any]]:
    rows = known.rows
    summaries = evaluation.evaluate(
        evaluation.score_rows(known.pdfs, rows["z"], z_phot=rows["z_median"]),
        rng=np.random.default_rng(parameters.seed),
        by={column: (numbers, _thirds(numbers)) for column, numbers in values.items()},
        resamples=parameters.bootstrap,
    )
    return [summary.json() for summary in summaries]


def _thirds(numbers: np.ndarray) -> list[float]:
    """Return the edges of three slices with about as many rows each; none where no row has a number."""
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return []
    edges = np.quantile(finite, [0, 1 / 3, 2 / 3, 1])
    edges[-1] = np.nextafter(edges[-1], np.inf)  # a slice leaves out its upper end
    return [float(edge) for edge in edges]
