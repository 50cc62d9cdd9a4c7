"""The step predict: redshift PDFs as the columns of a table, a row for each target.

Rows that cannot be predicted (outside, unmatched, blank) are there too, with their status and empty columns. Without
targets the test part of the split is predicted. The held-out rows of the training list are predicted beside them, as
``validation``, so that every run can say how good it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from inzitu.learn import bundles, published
from inzitu.learn.predict import estimates
from inzitu.run.predictions import predictions_table
from inzitu.run.scalars import scalars_of
from inzitu.run.stamps import PREDICTED, StampSet
from inzitu.run.work import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inzitu.pipelines.parameters import PredictParameters
    from inzitu.run.work import Work

ROWS_A_BLOCK = 512


@dataclass(frozen=True, slots=True)
class _Predictor:
    """A model by its folder, and a job's stamps by theirs; travels to the engine's workers."""

    model: Path
    inputs: tuple[tuple[str, Path], ...]

    def block(self, rows: tuple[np.ndarray, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the columns of some stamps [n] with their scalars: PDFs, point estimates, out-of-domain score."""
        index, scalars = rows
        bundle = _bundle(self.model)
        found = bundle.arrays(_stamps(self.inputs).images(index), scalars)
        pdfs = bundle.distribution(found)
        return published.columns(pdfs) | {"ood": found["ood"]} | estimates(pdfs, bundle.calibration)


@lru_cache(maxsize=2)
def _bundle(folder: Path) -> Any:
    return bundles.load(folder)


@lru_cache(maxsize=2)
def _stamps(inputs: tuple[tuple[str, Path], ...]) -> StampSet:
    return StampSet.open(dict(inputs))


def predict(_: PredictParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Predict the targets, or the test rows where there are none, and the validation rows."""
    stamps = StampSet.open(inputs)
    bundle = _bundle(inputs["model"])
    bundle.check(bands=stamps.description["bands"], scale=stamps.description["scale"], size=stamps.description["size"])
    scalars = scalars_of(bundle.scalars, stamps, inputs)
    status, flags = stamps.readiness(masked=bundle.masked, scalars=scalars)
    predictor = _Predictor(inputs["model"], tuple((role, inputs[role]) for role in ("selection", "cutouts")))
    held = _held_out(inputs, stamps)
    asked = {"predictions": held["targets"] if len(held["targets"]) else held["test"], "validation": held["validation"]}
    total, done = sum(map(len, asked.values())), 0
    made = {}
    for role, rows in asked.items():
        if role == "validation" and not len(rows):
            continue
        index = np.flatnonzero(np.isin(stamps.column("row"), rows) & np.isin(status.astype(str), PREDICTED))
        blocks = [index[i : i + ROWS_A_BLOCK] for i in range(0, len(index), ROWS_A_BLOCK)]
        given = [(block, {name: values[block] for name, values in scalars.items()}) for block in blocks]
        parts: dict[int, dict[str, np.ndarray]] = {}
        for position, part in work.engine.map(predictor.block, given):
            parts[position] = part
            done += len(blocks[position])
            work.progress(done, total)
        columns = {name: np.concatenate([parts[i][name] for i in range(len(blocks))]) for name in parts.get(0, {})}
        finite = _finite(columns, len(index))
        if lost := index[~finite].tolist():
            status[lost] = "error"
            work.log(f"{len(lost)} stamps have no prediction: the network gives no finite PDF for them")
            index, columns = index[finite], {name: values[finite] for name, values in columns.items()}
        table = predictions_table(
            stamps,
            rows,
            index,
            columns,
            readiness=(status, flags),
            components=bundle.components,
            head=bundle.head,
            model=work.identities["model"],
        )
        made[role] = work.folder / f"{role}.parquet"
        pq.write_table(table, made[role], row_group_size=100_000, compression="zstd")
    return Outcome(made=made, account={"predicted": done})


def _finite(columns: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    """Return of which stamps [n] all columns are finite."""
    finite = np.ones(count, bool)
    for values in columns.values():
        finite &= np.isfinite(values).reshape(count, -1).all(axis=1)
    return finite


def _held_out(inputs: Mapping[str, Path], stamps: StampSet) -> dict[str, np.ndarray]:
    """Return the selection's rows that are targets, test and validation."""
    selection = stamps.selection
    role = np.asarray(selection["list"])
    rows = {"targets": np.flatnonzero(role == "targets")}
    split = pq.read_table(inputs["split"]) if "split" in inputs else None
    for part in ("test", "validation"):
        rows[part] = (
            np.array([], dtype=np.int64)
            if split is None
            else split["row"].to_numpy()[np.asarray(split["part"]) == part]
        )
    return rows
