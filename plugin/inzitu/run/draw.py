"""The step draw: pictures of what was predicted, and of how it compares where the redshift is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inzitu.run.pictures import draw_pdfs, draw_pit, draw_redshifts
from inzitu.run.truth import Compared
from inzitu.run.work import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inzitu.pipelines.parameters import DrawParameters
    from inzitu.run.work import Work


def draw(parameters: DrawParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Draw the PDFs of some predicted rows; redshifts and calibration of the rows whose redshift is known."""
    compared = Compared.read(inputs["predictions"], inputs["selection"])
    predicted = compared.rows
    made: dict[str, Path] = {}
    if len(predicted):
        # Evenly over the predicted redshifts, so that the grid shows the whole range.
        order = np.argsort(predicted["z_median"])
        shown = order[np.unique(np.linspace(0, len(order) - 1, parameters.examples).astype(int))]
        made["pdfs"] = draw_pdfs(
            work.folder / "pdfs.png",
            weights=predicted["weights"][shown],
            means=predicted["means"][shown],
            sigmas=predicted["sigmas"][shown],
            names=[str(name) for name in predicted["source_id"][shown]],
            z_predicted=predicted["z_median"][shown],
            z_true=predicted["z"][shown],
        )
    blind, caption = compared.known, "targets with known redshift"
    if not len(blind) and "validation" in inputs:
        blind, caption = (
            Compared.read(inputs["validation"], inputs["selection"]),
            "held-out training sources (validation)",
        )
    if len(blind):
        known = blind.rows
        caption = f"{len(known)} {caption}"
        made["redshifts"] = draw_redshifts(
            work.folder / "redshifts.png",
            z_true=known["z"],
            z_predicted=known["z_median"],
            z_low=known["z_q16"],
            z_high=known["z_q84"],
            caption=caption,
        )
        pit = np.asarray(blind.pdfs.cdf(known["z"]))
        made["pit"] = draw_pit(work.folder / "pit.png", pit=pit, caption=caption)
    return Outcome(made=made)
