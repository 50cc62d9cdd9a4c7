"""The step train: a network that learns redshift PDFs from the stamps of the training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inzitu.errors import TableFault
from inzitu.learn import bundles
from inzitu.learn import train as learning
from inzitu.learn.split import Part, split_by_cell
from inzitu.prov.store import digest
from inzitu.run.networks import recipe_of
from inzitu.run.stamps import StampSet
from inzitu.run.work import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inzitu.learn.train import Report
    from inzitu.pipelines.catalogue import TrainParameters
    from inzitu.run.work import Work

FEWEST_ROWS = 20


def train(parameters: TrainParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Split the training rows by sky cell, train, and write the model's bundle."""
    stamps = StampSet.open(inputs)
    index = np.flatnonzero((stamps.column("list") == "training") & stamps.complete)
    if len(index) < FEWEST_ROWS:
        raise TableFault(
            f"Only {len(index)} training rows have a redshift, a counterpart and complete stamps; training takes "
            f"at least {FEWEST_ROWS}. The selection says what became of each row."
        )
    part = _split(stamps, index, parameters)
    split = work.folder / "split.parquet"
    pq.write_table(
        pa.table(
            {
                "row": stamps.rows["row"].take(index),
                "source_id": stamps.rows["source_id"].take(index),
                "part": pa.array([Part(p).name.lower() for p in part]),
            }
        ),
        split,
    )
    trained = learning.train(
        stamps.images(index),
        stamps.column("z")[index].astype(np.float32),
        part,
        recipe=recipe_of(parameters, inputs.get("network")),
        checkpoints=work.checkpoints,
        checkpoint_seconds=work.manifest.engine.checkpoint_seconds,
        report=lambda report: _tell(report, work),
    )
    bundles.save(
        trained,
        work.folder / "model",
        bands=stamps.description["bands"],
        scale=stamps.description["scale"],
        units=", ".join(dict.fromkeys(stamps.description["units"])),
        extra={"split": digest(split), "surveys": stamps.description["surveys"]},
    )
    return Outcome(made={"split": split, "model": work.folder / "model"})


def _split(stamps: StampSet, index: np.ndarray, parameters: TrainParameters) -> np.ndarray:
    """Return the part of each stamp; all of one sky cell are on the same side."""
    held = (parameters.validation_fraction, parameters.test_fraction)
    ra, dec = (stamps.column(name)[index].astype(np.float64) for name in ("ra", "dec"))
    return split_by_cell(ra, dec, seed=parameters.seed, fractions=(1 - sum(held), *held))


def _tell(report: Report, work: Work) -> None:
    work.progress(
        report.step,
        report.steps,
        seconds_left=report.seconds_left,
        loss=round(report.loss, 4),
        crps=round(report.validation_crps, 4),
    )
