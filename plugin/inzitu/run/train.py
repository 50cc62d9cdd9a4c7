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
from inzitu.run.scalars import scalars_of
from inzitu.run.stamps import TRAINED, StampSet
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
    scalars = scalars_of(parameters.scalars, stamps, inputs)
    index = _usable(stamps, scalars, masked=parameters.masked)
    part = _split(stamps, index, parameters)
    trained = learning.train(
        stamps.images(index),
        stamps.column("z")[index].astype(np.float32),
        part,
        recipe=recipe_of(parameters, inputs.get("network")),
        scalars={name: values[index] for name, values in scalars.items()},
        checkpoints=work.checkpoints,
        checkpoint_seconds=work.manifest.engine.checkpoint_seconds,
        report=lambda report: _tell(report, work),
    )
    split = work.folder / "split.parquet"
    columns = {name: stamps.rows[name].take(index) for name in ("row", "source_id")}
    pq.write_table(pa.table(columns | {"part": pa.array([Part(p).name.lower() for p in part])}), split)
    bundles.save(
        trained,
        work.folder / "model",
        bands=stamps.description["bands"],
        scale=stamps.description["scale"],
        units=", ".join(dict.fromkeys(stamps.description["units"])),
        extra={"split": digest(split), "surveys": stamps.description["surveys"]},
    )
    steps, settled = trained.history[-1]["step"], trained.recipe
    images = steps * settled.batch_size * (settled.members or 1)
    return Outcome(made={"split": split, "model": work.folder / "model"}, account={"images_trained": images})


def _usable(stamps: StampSet, scalars: Mapping[str, np.ndarray], *, masked: bool) -> np.ndarray:
    """Return which stamps to learn from; refuse too few, and say what became of the others."""
    status, _ = stamps.readiness(masked=masked, scalars=scalars)
    mine = stamps.column("list") == "training"
    index = np.flatnonzero(mine & np.isin(status.astype(str), TRAINED))
    if len(index) >= FEWEST_ROWS:
        return index
    words, counts = np.unique(status[mine].astype(str), return_counts=True)
    tally = ", ".join(f"{count:,} {word}" for word, count in zip(words, counts, strict=True)) or "none"
    raise TableFault(
        f"Only {len(index)} training rows have a redshift, a counterpart and complete stamps; training takes at least "
        f"{FEWEST_ROWS}. Of the stamps that were cut for them: {tally}. The selection says what became of each row."
    )


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
