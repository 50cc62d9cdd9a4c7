"""The parameters of the shipped steps: names, limits and what they mean, from which forms, checks and documents come.

Those of `download` are in `inzitu.pipelines.download`; the steps themselves in `inzitu.pipelines.catalogue`.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import Annotated, Literal, Self, override

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from inzitu.pipelines.declaration import Parameters, complaint

MOST_HELD_OUT = 0.8
HOUSE = ("dcmdn-a", "dcmdn-b", "pasquet", "inzitu")
"""The networks of the house."""

_HEAD = re.compile(
    r"mixture\((?P<k>\d{1,3})(, ?truncated)?\)|bins\((?P<bins>\d{1,4}), ?(?P<most>\d{1,4}(\.\d{0,4})?)\)"
)
MOST_COMPONENTS, MOST_BINS = 64, 256
MOST_TRIALS = 64
_TRIED = {"network", "head", "scalars", "masked", "epochs", "batch_size", "learning_rate", "members"}
"""What a search may vary: not what decides the split, on which the trials are compared."""


def _between_commas(value: object) -> object:
    return tuple(filter(None, (name.strip() for name in value.split(",")))) if isinstance(value, str) else value


type Names = Annotated[tuple[str, ...], BeforeValidator(_between_commas)]
type Seed = Annotated[int, Field(ge=0, lt=2**31)]


class SelectParameters(Parameters):
    """Which of the user's rows the archive can answer for."""

    radius: float = Field(1.5, gt=0, le=60, description="Matching and de-duplication radius [arcsec].")
    ra_unit: Names = Field(
        (),
        description="Unit of positions in lists that state none, as CSV: deg, rad, or hour of right ascensions; "
        "training:hour is that of one list.",
    )
    agreement: float = Field(
        0.01, gt=0, le=1, description="Redshifts of one object agree when they differ by at most this times 1 + z."
    )
    quality: str | None = Field(
        None, description="Column of the training list with the redshift's quality, the larger the better."
    )
    survey: str | None = Field(None, description="Column of the training list with the survey of the redshift.")
    priority: Names = Field(
        (), description="Surveys, the most trusted first, with commas between; those not named come after."
    )

    @field_validator("ra_unit")
    @classmethod
    def _units_are_angles(cls, units: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [unit for unit in units if unit.rpartition(":")[2] not in ("deg", "hour", "rad")]:
            raise ValueError(f"{unknown[0]} is no unit of right ascensions: write deg, hour or rad, or training:hour")
        return units

    def unit_of(self, role: str) -> str | None:
        """Return the unit of the right ascensions of a list that states none, if the job does."""
        units = {part.rpartition(":")[0]: part.rpartition(":")[2] for part in self.ra_unit}
        return units.get(role, units.get(""))

    @model_validator(mode="after")
    def _priority_is_of_surveys(self) -> Self:
        if self.priority and self.survey is None:
            raise ValueError("PRIORITY ranks surveys: name the column that holds them with SURVEY")
        return self


class CutParameters(Parameters):
    """The stamps to read around each source."""

    size: int = Field(32, ge=8, le=256, description="Width and height of a stamp [pixel].")
    scale: float = Field(0.396, gt=0.01, le=10, description="Size of a stamp's pixel [arcsec].")


FEWEST_ROWS = 20
"""Fewest sources that a network is trained on."""


class TrainParameters(Parameters):
    """The network, its head and how it learns."""

    network: Literal["dcmdn-a", "dcmdn-b", "pasquet", "inzitu", "own"] = Field(
        "dcmdn-a",
        description="Architecture: dcmdn-a or dcmdn-b, of the middle 16 x 16 pixels; pasquet, of 16 x 16 to 64 x 64; "
        "inzitu, of 12 x 12 or more; own, as uploaded.",
    )
    head: str = Field(
        "mixture(5)",
        description="What is predicted: mixture(k), k Gaussians; mixture(k, truncated), which end at z = 0; "
        "bins(num_bins, max_val), a histogram.",
    )
    scalars: Names = Field(
        (), description="Numbers to see beside a stamp: catalogue magnitudes (mag_r) or columns of the lists (ebv)."
    )
    masked: bool = Field(False, description="Use sources that lack some bands, and tell the network which.")
    epochs: int | None = Field(
        None, ge=1, le=100_000, description="Passes over the training rows; empty: as the size asks."
    )
    batch_size: int = Field(64, ge=1, le=65_536, description="Stamps in a step.")
    learning_rate: float | None = Field(None, gt=0, le=1, description="Peak learning rate; empty: the network's own.")
    members: int | None = Field(None, ge=1, le=64, description="Networks in the ensemble; empty: the network's own.")
    seed: Seed = Field(0, description="Seed of the split, the initial weights, the batches and the augmentation.")
    validation_fraction: float = Field(0.1, ge=0.02, le=0.5, description="Share of sky cells held for validation.")
    test_fraction: float = Field(0.0, ge=0, le=0.5, description="Share of sky cells kept for a test.")

    @property
    def trainings(self) -> tuple[TrainParameters, ...]:
        """What is trained, one after the other."""
        return (self,)

    @property
    def weight(self) -> str:
        """What decides how much a training step takes: the same weight, the same network, memory and operations."""
        free = {"epochs", "learning_rate", "seed", "validation_fraction", "test_fraction"}
        return self.model_dump_json(exclude=free | {"scalars"}) + str(len(self.scalars))

    @property
    def highest_redshift(self) -> float:
        """The redshift beyond which the head has no probability."""
        found = _HEAD.fullmatch(self.head)
        return float(found["most"]) if found and found["most"] else math.inf

    @field_validator("head")
    @classmethod
    def _head_fits_a_table(cls, head: str) -> str:
        found = _HEAD.fullmatch(head)
        most = MOST_COMPONENTS if found and found["k"] else MOST_BINS
        if found is None or not 1 <= int(found["k"] or found["bins"]) <= most:
            raise ValueError(
                f"write mixture(k) or mixture(k, truncated) with k from 1 to {MOST_COMPONENTS}, or bins(num_bins, "
                f"max_val) with up to {MOST_BINS} bins"
            )
        return head

    @model_validator(mode="after")
    def _some_rows_are_left_to_train_on(self) -> Self:
        held = self.validation_fraction + self.test_fraction
        if held > MOST_HELD_OUT:
            raise ValueError(
                f"VALIDATION_FRACTION and TEST_FRACTION hold {held:g} of the rows; "
                f"leave {1 - MOST_HELD_OUT:g} to train on"
            )
        return self


class SearchParameters(TrainParameters):
    """The trainings to compare."""

    grid: str = Field(
        "learning_rate=3e-4/1e-3",
        description="What to try, each with each: learning_rate=3e-4/1e-3; head=mixture(3)/mixture(5). Of network, "
        "head, scalars, masked, epochs, batch_size, learning_rate, members.",
    )

    @model_validator(mode="after")
    def _every_trial_can_be(self) -> Self:
        try:
            self.trials()
        except ValueError as error:
            raise ValueError(f"GRID={self.grid}: {error}") from error
        return self

    @property
    @override
    def trainings(self) -> tuple[TrainParameters, ...]:
        """Every trial."""
        return tuple(TrainParameters.model_validate(trial) for trial in self.trials())

    def axes(self) -> dict[str, list[str]]:
        """Return what is tried of each parameter."""
        axes = {}
        for axis in filter(None, (part.strip() for part in self.grid.split(";"))):
            name, _, values = axis.partition("=")
            axes[name.strip().lower()] = [value.strip() for value in values.split("/")]
        if unknown := set(axes) - _TRIED:
            raise ValueError(f"{min(unknown)!r} cannot be tried; there are {', '.join(sorted(_TRIED))}")
        return axes

    def trials(self) -> tuple[dict[str, object], ...]:
        """Return the parameters of each training."""
        axes = self.axes()
        if not 1 < math.prod(map(len, axes.values())) <= MOST_TRIALS:
            raise ValueError(f"the grid must hold from 2 to {MOST_TRIALS} trials")
        base = self.model_dump(exclude={"grid"})
        found = []
        for values in itertools.product(*axes.values()):
            try:
                found.append(TrainParameters.model_validate(base | dict(zip(axes, values, strict=True))).model_dump())
            except ValidationError as error:
                raise ValueError(complaint(error)) from error
        return tuple(found)


class CalibrateParameters(Parameters):
    """How the model is corrected on the held-out rows."""

    calibration: Literal["none", "temperature", "pit"] = Field(
        "none",
        description="Derive a calibrated model: temperature widens or narrows all PDFs, "
        "pit bends median and quantiles besides.",
    )

    @property
    @override
    def idle(self) -> bool:
        """Whether the model stays as it is."""
        return self.calibration == "none"


class PredictParameters(Parameters):
    """How predictions are made."""


class DatasetParameters(Parameters):
    """How stamps are written as arrays."""


class EvaluateParameters(Parameters):
    """How predictions are compared with the truth."""

    slices: Names = Field(
        ("z",),
        description="Scores are given for all rows, and for each third of these: z, a catalogue magnitude (mag_r), a "
        "column of the lists; with commas between.",
    )
    bootstrap: int = Field(200, ge=10, le=10_000, description="Bootstrap samples behind each score's interval.")
    seed: Seed = Field(0, description="Seed of the bootstrap.")


class CompareParameters(TrainParameters):
    """Which networks to compare; the others are trained as the first."""

    against: Names = Field(("inzitu",), description="Networks to compare NETWORK with, with commas between.")
    bootstrap: int = Field(200, ge=10, le=10_000, description="Bootstrap samples behind each score's interval.")

    @model_validator(mode="after")
    def _others_that_there_are(self) -> Self:
        for name in self.against:
            self.of(name)
        if not self.against or len({self.network, *self.against}) <= len(self.against):
            raise ValueError(f"AGAINST must name networks besides {self.network}, each once")
        return self

    @property
    @override
    def trainings(self) -> tuple[TrainParameters, ...]:
        """The other networks; the first is trained by the step before."""
        return tuple(map(self.of, self.against))

    def of(self, network: str) -> TrainParameters:
        """Return how another network is trained."""
        if network == "own":
            raise ValueError("the first network may be your own, the others are of the house")
        asked = self.model_dump(exclude={"against", "bootstrap"}) | {"network": network}
        try:
            return TrainParameters.model_validate(asked)
        except ValidationError as error:
            raise ValueError(f"AGAINST names {network}: {complaint(error)}") from error


class DrawParameters(Parameters):
    """What is drawn."""

    examples: int = Field(12, ge=1, le=100, description="Sources whose PDFs are drawn.")
