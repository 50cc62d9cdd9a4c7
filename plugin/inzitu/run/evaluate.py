"""The step evaluate: scores of the predictions whose redshift is known.

``targets`` are the rows the user asked for and sent with a redshift; ``validation`` are the held-out training rows. The
validation rows chose when training stopped, so their scores are a little better than those of new sources.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

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
