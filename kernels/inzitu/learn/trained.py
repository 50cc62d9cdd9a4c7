"""What a training gives: parameters, and all that is needed to predict with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inzitu.learn.images import Normalisation
from inzitu.learn.ood import OodModel
from inzitu.learn.recipe import Recipe
from inzitu.learn.scalars import ScalarScale


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained ensemble.

    Attributes
    ----------
    recipe
        What was trained and how, settled.
    input_shape
        Rows, columns and bands of an image.
    normalisation
        Scale of each band.
    scalars
        Centre and width of each number that comes with an image.
    parameters
        The networks' parameters, stacked: the member is the first axis of every array.
    z_range
        Lowest and highest training label.
    rows
        Number of training, validation and test rows.
    split_digest
        SHA-256 of the split.
    validation_crps
        CRPS of the validation rows by the parameters kept, mean over the members, without test-time average.
    ood
        The training rows' colours, beside which a new row is usual or strange.
    history
        Step, training loss and validation CRPS of each evaluation.
    remarks
        What who uses it should know: components of the mixtures that were lost.
    """

    recipe: Recipe
    input_shape: tuple[int, int, int]
    normalisation: Normalisation
    scalars: ScalarScale
    parameters: Any
    z_range: tuple[float, float]
    rows: Mapping[str, int]
    split_digest: str
    validation_crps: float
    ood: OodModel
    history: tuple[Mapping[str, float], ...]
    remarks: tuple[str, ...] = ()
