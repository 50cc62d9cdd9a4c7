"""The step evaluate: scores of the predictions whose redshift is known.

``targets`` are the rows the user asked for and sent with a redshift; ``validation`` are the held-out training rows. The
validation rows chose when training stopped, so their scores are a little better than those of new sources.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import kstest

from inzitu.learn.points import point_scores
from inzitu.learn.scores import crps_mixture, nll_mixture, pit_mixture
from inzitu.run.truth import with_truth
from inzitu.run.work import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inzitu.pipelines.catalogue import EvaluateParameters
    from inzitu.run.work import Work


def evaluate(parameters: EvaluateParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Write the scores of each set of rows with truth to ``scores.json``."""
    sets = {"targets": "predictions", "validation": "validation"}
    scores: dict[str, Any] = {}
    for name, role in sets.items():
        if role not in inputs:
            continue
        rows = with_truth(inputs[role], inputs["selection"])
        rows = rows[np.isfinite(rows["z"])]
        scores[name] = _scores(rows, parameters) if len(rows) else {"rows": 0}
        work.log(f"scores of the {name}: {json.dumps(scores[name])}")
    path = work.folder / "scores.json"
    path.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    return Outcome(made={"scores": path})


def _scores(rows: np.ndarray, parameters: EvaluateParameters) -> dict[str, Any]:
    """Return the mean scores of some rows, each with the standard error that resampling the rows gives."""
    mixture = (rows["weights"], rows["means"], rows["sigmas"])
    per_row = {"crps": crps_mixture(*mixture, rows["z"]), "nll": nll_mixture(*mixture, rows["z"])}
    pit = np.asarray(pit_mixture(*mixture, rows["z"]))
    rng = np.random.default_rng(parameters.seed)
    samples = rng.integers(0, len(rows), (parameters.bootstrap, len(rows)))
    scores: dict[str, Any] = {"rows": len(rows)}
    for name, values in per_row.items():
        scores[name] = {"value": float(np.mean(values)), "error": _spread([np.mean(values[s]) for s in samples])}
    whole = asdict(point_scores(rows["z_median"], rows["z"]))
    again = [asdict(point_scores(rows["z_median"][s], rows["z"][s])) for s in samples]
    for name, value in whole.items():
        scores[name] = {"value": value, "error": _spread([sample[name] for sample in again])}
    scores["pit_ks_p"] = float(kstest(pit, "uniform").pvalue)
    for level in (0.68, 0.95):
        inside = np.abs(pit - 0.5) <= level / 2
        scores[f"held_by_{100 * level:.0f}_percent_interval"] = float(inside.mean())
    return scores


def _spread(samples: list[float]) -> float | None:
    return float(np.std(samples)) if samples else None
