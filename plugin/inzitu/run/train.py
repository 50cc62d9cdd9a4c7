"""The step train: a network that learns redshift PDFs from the stamps of the training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inzitu.errors import TableFault
from inzitu.learn import bundles
from inzitu.learn import train as learning
from inzitu.learn.split import Part, split_by_cell
from inzitu.pipelines.parameters import FEWEST_ROWS
from inzitu.prov.store import digest
from inzitu.run.networks import examined, recipe_of
from inzitu.run.scalars import scalars_of
from inzitu.run.stamps import TRAINED, StampSet
from inzitu.run.work import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inzitu import manifest
    from inzitu.learn.recipe import Recipe
    from inzitu.learn.train import Report, Trained
    from inzitu.pipelines.parameters import TrainParameters
    from inzitu.run.work import Work


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What a network learns from.

    Attributes
    ----------
    stamps
        The job's stamps.
    index
        Which of them [n] can be learned from.
    part
        Whether each of these trains, validates or tests; all of one sky cell are on the same side.
    scalars
        The numbers that come with each of these, by name.
    """

    stamps: StampSet
    index: np.ndarray
    part: np.ndarray
    scalars: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, parameters: TrainParameters, inputs: Mapping[str, Path]) -> Self:
        """Gather what the artefacts of earlier steps hold."""
        stamps = StampSet.open(inputs)
        scalars = scalars_of(parameters.scalars, stamps, inputs)
        index = _usable(stamps, scalars, masked=parameters.masked)
        held = (parameters.validation_fraction, parameters.test_fraction)
        ra, dec = (stamps.column(name)[index].astype(np.float64) for name in ("ra", "dec"))
        part = split_by_cell(ra, dec, seed=parameters.seed, fractions=(1 - sum(held), *held))
        return cls(stamps, index, part, {name: values[index] for name, values in scalars.items()})

    def require_room(
        self, parameters: TrainParameters, limits: manifest.Limits, network: Path | None, *, beside: int = 1
    ) -> None:
        """Refuse a network beyond the limits here, where it is known what it will be trained on."""
        bands, size = len(self.stamps.description["bands"]), self.stamps.description["size"]
        examined(parameters, bands=bands, size=size, limits=limits, network=network, beside=beside)

    def learned(self, recipe: Recipe, engine: manifest.Engine, **options: Any) -> Trained:
        """Train by a recipe; the options are those of `inzitu.learn.train.train`."""
        # The stamps stay in their file: all of them go in, and those that are none of this lesson have no part.
        count = self.stamps.rows.num_rows
        part = np.full(count, -1, np.int8)
        part[self.index] = self.part
        scalars = {name: np.zeros(count) for name in self.scalars}
        for name, values in self.scalars.items():
            scalars[name][self.index] = values
        return learning.train(
            self.stamps.pixels,
            self.stamps.column("z").astype(np.float32),
            part,
            recipe=recipe,
            scalars=scalars,
            memory=engine.stamps_mb << 20,
            checkpoint_seconds=engine.checkpoint_seconds,
            **options,
        )

    def save(self, trained: Trained, folder: Path) -> Outcome:
        """Write split and model into a folder."""
        split, model = folder / "split.parquet", folder / "model"
        columns = {name: self.stamps.rows[name].take(self.index) for name in ("row", "source_id")}
        pq.write_table(pa.table(columns | {"part": pa.array([Part(p).name.lower() for p in self.part])}), split)
        about = self.stamps.description
        bundles.save(
            trained,
            model,
            bands=about["bands"],
            scale=about["scale"],
            units=", ".join(dict.fromkeys(about["units"])),
            extra={"split": digest(split), "surveys": about["surveys"]},
        )
        recipe = trained.recipe
        seen = trained.history[-1]["step"] * recipe.batch_size * (recipe.members or 1)
        return Outcome(made={"split": split, "model": model}, account={"images_trained": seen})


def train(parameters: TrainParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Split the training rows by sky cell, train, and write the model's bundle."""
    lesson = Lesson.of(parameters, inputs)
    lesson.require_room(parameters, work.manifest.limits, inputs.get("network"))
    trained = lesson.learned(
        recipe_of(parameters, inputs.get("network")),
        work.manifest.engine,
        checkpoints=work.checkpoints,
        report=lambda report: _tell(report, work),
    )
    for remark in trained.remarks:
        work.log(remark)
    return lesson.save(trained, work.folder)


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


def _tell(report: Report, work: Work) -> None:
    work.progress(
        report.step,
        report.steps,
        seconds_left=report.seconds_left,
        loss=round(report.loss, 4),
        crps=round(report.validation_crps, 4),
    )
