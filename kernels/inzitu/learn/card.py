"""The model card: what a model is, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CARD = """# {network}, {head}

Redshift PDFs from {rows} x {columns} pixel images in {bands} ({units}, {scale} arcsec a pixel), made with
inzitu {version}.

## What it was trained on
{training} sources with redshifts from {z_low:.4g} to {z_high:.4g}, split by sky cell: {validation} more chose when to
stop, {test} were kept for a test. Predictions for sources beyond that range, or unlike these, are extrapolations: look
at `ood`.

## What it does
{members} network(s) `{network}`, each seeing an image in its 8 orientations; their raw outputs are averaged, so that a
turned image gives the same PDF, and the networks are pooled linearly. A pixel becomes
asinh(flux / ({softening:g} sigma)), with sigma the noise of its band in the training images: {sigmas}.

## How good it is
CRPS of the validation rows: {crps:.4f} (they chose when to stop, so new sources do slightly worse; before the average
over the orientations).

{calibration}

## How it was made
Loss: CRPS + {nll_weight:g} NLL. AdamW, learning rate {learning_rate:g}, batches of {batch_size}, {epochs} epochs, seed
{seed}. All numbers are in `model.json`, parameters in `model.safetensors`, the program in `predictor.stablehlo`
(read by `inzitu.learn.bundles.load`).
"""


def card(about: Mapping[str, Any]) -> str:
    """Write the card of what ``model.json`` holds."""
    recipe, rows = about["recipe"], about["rows"]
    network = _named(about["network"])
    return _CARD.format(
        network=network,
        head=recipe["head"],
        rows=about["input_shape"][0],
        columns=about["input_shape"][1],
        bands=", ".join(about["bands"]),
        units=about["units"],
        scale=about["scale"],
        version=about["versions"]["inzitu"],
        training=rows["train"],
        validation=rows["validation"],
        test=rows["test"],
        z_low=about["z_range"][0],
        z_high=about["z_range"][1],
        members=about["members"],
        softening=about["normalisation"]["softening"],
        sigmas=", ".join(f"{sigma:.3g}" for sigma in about["normalisation"]["sigmas"]),
        crps=about["validation_crps"],
        calibration=_calibrated(about),
        **{name: recipe[name] for name in ("nll_weight", "learning_rate", "batch_size", "epochs", "seed")},
    )


def _named(network: Any) -> str:
    if isinstance(network, str):
        return network
    return "a declared network" if "layers" in network else "a shipped network"


def _calibrated(about: Mapping[str, Any]) -> str:
    if "calibration" not in about:
        return "Not calibrated."
    temperature, rows = about["calibration"]["temperature"], about["calibrated_on"]
    bent = len(about["calibration"]["knots"]) > 2
    return f"Calibrated on {rows} held-out rows: temperature {temperature:.3f}" + (
        ", and a map of the PIT, which moves median and quantiles." if bent else "."
    )
