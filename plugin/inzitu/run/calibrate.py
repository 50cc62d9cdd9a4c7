"""The step calibrate: a new model derived from the trained one, whose PDFs mean what they say on held-out rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from inzitu.learn import bundles
from inzitu.learn.calibration import Calibration
from inzitu.run.scalars import scalars_of
from inzitu.run.stamps import StampSet
from inzitu.run.work import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inzitu.pipelines.parameters import CalibrateParameters
    from inzitu.run.work import Work


def calibrate(parameters: CalibrateParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Fit a temperature, and a map of the PIT if it is asked for, on the validation rows."""
    stamps, bundle = StampSet.open(inputs), bundles.load(inputs["model"])
    split = pq.read_table(inputs["split"])
    held = split["row"].to_numpy()[np.asarray(split["part"]) == "validation"]
    index = np.flatnonzero(np.isin(stamps.column("row"), held))
    scalars = {name: values[index] for name, values in scalars_of(bundle.scalars, stamps, inputs).items()}
    predicted, z = bundle.predict(stamps.images(index), scalars), stamps.column("z")[index].astype(np.float64)
    calibration = Calibration.fit(predicted, z)
    if parameters.calibration == "temperature":
        calibration = replace(calibration, knots=(0.0, 1.0), levels=(0.0, 1.0))
    work.log(f"temperature {calibration.temperature:.3f} from {len(index):,} held-out rows")
    bundles.calibrated(inputs["model"], work.folder / "model", calibration, rows=len(index))
    return Outcome(made={"model": work.folder / "model"})
