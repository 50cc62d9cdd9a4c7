"""The step compare: other networks, trained on the same split, beside the one that the job trained.

Each is trained and predicts by the steps train and predict themselves, so that it learns from, and is scored on, the
very rows of the first. What differs between two networks is told row by row: the difference of their CRPS has an
interval of its own, much narrower than those of the two scores, because the rows are the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from inzitu.errors import TableFault
from inzitu.learn import evaluation
from inzitu.learn.bootstrap import bootstrap
from inzitu.pipelines.parameters import PredictParameters, TrainParameters
from inzitu.prov.store import digest
from inzitu.run.networks import examined
from inzitu.run.pictures import draw_comparison
from inzitu.run.predict import predict
from inzitu.run.stamps import StampSet
from inzitu.run.train import train
from inzitu.run.truth import Compared
from inzitu.run.work import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from inzitu.pipelines.parameters import CompareParameters
    from inzitu.run.work import Work

FEWEST = 5
"""Rows with truth below which nothing can be compared."""
CLIMATOLOGY = "climatology"


@dataclass(frozen=True, slots=True, eq=False)
class _Trained:
    """A network that has predicted the rows."""

    name: str
    model: str
    predictions: Path
    seconds: float | None = None


def compare(parameters: CompareParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Train the other networks, score all, and write a table and a picture."""
    about = StampSet.open(inputs).description
    others = parameters.trainings
    for other in others:  # before the first has trained for hours
        examined(other, bands=len(about["bands"]), size=about["size"], limits=work.manifest.limits, network=None)
    trained = [_Trained(parameters.network, work.identities["model"], inputs["predictions"])]
    made: dict[str, Path] = {}
    for number, other in enumerate(others):
        outcome, seconds = _others(other, inputs, work, number, len(others))
        model, predictions = outcome["model"], outcome["predictions"]
        made |= {f"model-{other.network}": model, f"predictions-{other.network}": predictions}
        trained.append(_Trained(other.network, digest(model), predictions, seconds))
    table = _table(trained, inputs, parameters)
    for row in table["networks"]:
        crps, less = row["scores"]["crps"], row["crps_difference"]
        work.log(
            f"{row['network']}: CRPS {crps['value']:.4f} ({crps['low']:.4f} to {crps['high']:.4f}), "
            f"{less['value']:+.4f} ({less['low']:+.4f} to {less['high']:+.4f}) to {parameters.network}"
        )
    path = work.folder / "comparison.json"
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    picture = draw_comparison(work.folder / "comparison.png", table)
    return Outcome(made=made | {"comparison": path, "comparison-picture": picture})


def _others(
    parameters: TrainParameters, inputs: Mapping[str, Path], work: Work, number: int, count: int
) -> tuple[dict[str, Path], float]:
    """Train a network in a corner of the step's own folders; return model and predictions, and the time [s]."""
    began = perf_counter()
    folder, checkpoints = work.folder / parameters.network, work.checkpoints / parameters.network
    folder.mkdir()
    checkpoints.mkdir(exist_ok=True)

    def progress(done: float, total: float, /, *, seconds_left: float | None = None, **info: Any) -> None:
        work.progress(number + done / max(total, 1), count, network=parameters.network, **info)

    corner = replace(work, folder=folder, checkpoints=checkpoints, progress=progress)
    theirs = {role: path for role, path in inputs.items() if role not in ("network", "split", "model", "predictions")}
    made = dict(train(parameters, theirs, corner).made)
    if digest(made["split"]) != digest(inputs["split"]):
        raise TableFault(
            f"The network {parameters.network} can use other rows than the first, so that a comparison would say "
            "nothing; compare networks that take the same bands and numbers."
        )
    asked = replace(corner, identities={**work.identities, "model": digest(made["model"])})
    made |= predict(PredictParameters(), theirs | made, asked).made
    return made, perf_counter() - began


def _table(trained: Sequence[_Trained], inputs: Mapping[str, Path], parameters: CompareParameters) -> dict[str, Any]:
    """Return the comparison: what each network scores on the same rows, and how much less than the first."""
    compared = [Compared.read(one.predictions, inputs["selection"]).known for one in trained]
    z = compared[0].rows["z"]
    if len(z) < FEWEST:
        raise TableFault(
            f"Only {len(z)} predicted rows have a redshift to compare with; at least {FEWEST} are needed. Raise "
            "TEST_FRACTION, or send a longer list."
        )
    if any(list(one.rows["source_id"]) != list(compared[0].rows["source_id"]) for one in compared):
        raise ValueError("the networks have predicted different rows")
    scored = [evaluation.score_rows(one.pdfs, z, z_phot=one.rows["z_median"]) for one in compared]
    rows = []
    for one, scores in zip(trained, scored, strict=True):
        rng = np.random.default_rng(parameters.seed)  # the same resamplings for all
        [summary] = evaluation.evaluate(scores, rng=rng, resamples=parameters.bootstrap)
        less = bootstrap(np.mean, scores.crps - scored[0].crps, rng=rng, resamples=parameters.bootstrap)
        rows.append(
            {"network": one.name, "model": one.model, "seconds": one.seconds}
            | {"crps_difference": _json(less), "scores": summary.json()["scores"]}
        )
    known = _training_redshifts(inputs)
    return {"rows": len(z), "level": 0.68, CLIMATOLOGY: {"crps": climatology_crps(known, z)}, "networks": rows}


def climatology_crps(known: np.ndarray, z: np.ndarray) -> float:
    """Return the mean CRPS of who answers each row with all redshifts that were trained on.

    E|X - z| - E|X - X'|/2 over the empirical distribution (Gneiting & Raftery 2007, eq. 21), both by sorting.
    """
    known = np.sort(np.asarray(known, np.float64))
    n, sums = len(known), np.concatenate([[0.0], np.cumsum(known)])
    below = np.searchsorted(known, z)
    distance = (z * (2 * below - n) + sums[n] - 2 * sums[below]) / n
    return float(np.mean(distance) - np.sum((2 * np.arange(1, n + 1) - n - 1) * known) / n**2)


def _training_redshifts(inputs: Mapping[str, Path]) -> np.ndarray:
    split = pq.read_table(inputs["split"])
    rows = split["row"].to_numpy()[np.asarray(split["part"]) == "train"]
    return np.asarray(pq.read_table(inputs["selection"], columns=["z"])["z"].take(rows).to_numpy())


def _json(interval: Any) -> dict[str, float]:
    return {name: getattr(interval, name) for name in ("value", "low", "high", "error")}
