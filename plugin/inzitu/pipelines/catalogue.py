"""The steps and pipelines there are: the shipped ones and those that a deployment adds.

A package of the data centre adds a step as an entry point of the group ``inzitu.steps`` that loads a `Step`; the
manifest chains steps into further pipelines under ``pipelines:``.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Literal, Self, override

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from inzitu.errors import ManifestFault
from inzitu.pipelines.declaration import Kind, Parameters, Pipeline, Port, Step
from inzitu.pipelines.download import DownloadParameters
from inzitu.prov.facts import ActivityKind

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_HELD_OUT = 0.8
HOUSE = ("dcmdn-a", "dcmdn-b", "pasquet", "inzitu")
"""The networks of the house."""

_HEAD = re.compile(r"mixture\((?P<k>\d{1,3})(, ?truncated)?\)|bins\((?P<bins>\d{1,4}), ?[0-9.]{1,9}\)")
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
    agreement: float = Field(
        0.01, gt=0, le=1, description="Redshifts of one object agree when they differ by at most this times 1 + z."
    )
    quality: str | None = Field(
        None, description="Column of the training list with the redshift's quality, the larger the better."
    )
    survey: str | None = Field(None, description="Column of the training list with the survey of the redshift.")
    priority: tuple[str, ...] = Field(
        (), description="Surveys, the most trusted first, with commas between; those not named come after."
    )

    @field_validator("priority", mode="before")
    @classmethod
    def _names_between_commas(cls, value: object) -> object:
        return tuple(filter(None, (name.strip() for name in value.split(",")))) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _priority_is_of_surveys(self) -> Self:
        if self.priority and self.survey is None:
            raise ValueError("PRIORITY ranks surveys: name the column that holds them with SURVEY")
        return self


class CutParameters(Parameters):
    """The stamps to read around each source."""

    size: int = Field(32, ge=8, le=256, description="Width and height of a stamp [pixel].")
    scale: float = Field(0.396, gt=0.01, le=10, description="Size of a stamp's pixel [arcsec].")


class TrainParameters(Parameters):
    """The network, its head and how it learns."""

    network: Literal["dcmdn-a", "dcmdn-b", "pasquet", "inzitu", "own"] = Field(
        "dcmdn-a",
        description="Architecture: dcmdn-a, dcmdn-b, pasquet (64 x 64 pixels, 5 bands), inzitu, or own, as uploaded.",
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
                f"validation_fraction and test_fraction hold {held:g} of the rows; "
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
        self.trials()
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
                first = error.errors()[0]
                raise ValueError(f"{first['input']}: {first['msg']}") from error
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
            raise ValueError(f"{network}: {error.errors()[0]['msg']}") from error


class DrawParameters(Parameters):
    """What is drawn."""

    examples: int = Field(12, ge=1, le=100, description="Sources whose PDFs are drawn.")


_TRAINING, _TARGETS = Port("training", Kind.LIST), Port("targets", Kind.LIST)
_SELECTION, _CUTOUTS = Port("selection", Kind.SELECTION), Port("cutouts", Kind.CUTOUTS)
_NETWORK = Port("network", Kind.NETWORK, optional=True)
_SPLIT, _MODEL = Port("split", Kind.SPLIT), Port("model", Kind.MODEL)
_PREDICTIONS, _VALIDATION = Port("predictions", Kind.PREDICTIONS), Port("validation", Kind.PREDICTIONS)
_SCORES = Port("scores", Kind.SCORES)


def _optional(port: Port) -> Port:
    return replace(port, optional=True)


DOWNLOAD = Step(
    name="download",
    title="Fetch a list of sources with redshift from SDSS or a TAP service",
    parameters=DownloadParameters,
    takes=(),
    makes=(_TRAINING,),
    activity=ActivityKind.SELECTION,
    function="inzitu.run.download:download",
)
SELECT = Step(
    name="select",
    title="Match the lists with the archive's catalogue inside the coverage of all bands",
    parameters=SelectParameters,
    takes=(_optional(_TRAINING), _optional(_TARGETS)),
    makes=(_SELECTION,),
    activity=ActivityKind.SELECTION,
    function="inzitu.run.select:select",
)
CUT = Step(
    name="cut",
    title="Cut the stamps of the selected sources out of the surveys, in place",
    parameters=CutParameters,
    takes=(_SELECTION,),
    makes=(_CUTOUTS,),
    activity=ActivityKind.REDUCTION,
    function="inzitu.run.cut:cut",
)
DATASET = Step(
    name="dataset",
    title="Write the stamps and redshifts as arrays, images (n, y, x, c) and labels (n,)",
    parameters=DatasetParameters,
    takes=(_SELECTION, _CUTOUTS),
    makes=(Port("images", Kind.ARRAY), Port("labels", Kind.ARRAY)),
    activity=ActivityKind.REDUCTION,
    function="inzitu.run.dataset:dataset",
)
TRAIN = Step(
    name="train",
    title="Train a network on the stamps of the sources with redshift",
    parameters=TrainParameters,
    takes=(_SELECTION, _CUTOUTS, _NETWORK, _optional(_TRAINING)),
    makes=(_SPLIT, _MODEL),
    activity=ActivityKind.RECONSTRUCTION,
    function="inzitu.run.train:train",
)
SEARCH = Step(
    name="search",
    title="Train in several ways on one split and keep the best",
    parameters=SearchParameters,
    takes=(_SELECTION, _CUTOUTS, _NETWORK, _optional(_TRAINING)),
    makes=(_SPLIT, _MODEL, Port("trials", Kind.SCORES)),
    activity=ActivityKind.RECONSTRUCTION,
    function="inzitu.run.search:search",
)
CALIBRATE = Step(
    name="calibrate",
    title="Derive a model whose PDFs mean what they say from one that was trained",
    parameters=CalibrateParameters,
    takes=(_SELECTION, _CUTOUTS, _SPLIT, _MODEL, _optional(_TRAINING)),
    makes=(_MODEL,),
    activity=ActivityKind.CALIBRATION,
    function="inzitu.run.calibrate:calibrate",
)
PREDICT = Step(
    name="predict",
    title="Predict the redshift PDFs of the targets and of the held-out sources",
    parameters=PredictParameters,
    takes=(_SELECTION, _CUTOUTS, _MODEL, _optional(_SPLIT), _optional(_TRAINING), _optional(_TARGETS)),
    makes=(_PREDICTIONS, _optional(_VALIDATION)),
    activity=ActivityKind.ANALYSIS,
    function="inzitu.run.predict:predict",
)
EVALUATE = Step(
    name="evaluate",
    title="Score the predictions where the redshift is known",
    parameters=EvaluateParameters,
    takes=(_SELECTION, _PREDICTIONS, _optional(_VALIDATION)),
    makes=(_SCORES,),
    activity=ActivityKind.ANALYSIS,
    function="inzitu.run.evaluate:evaluate",
)
DRAW = Step(
    name="draw",
    title="Draw PDFs, redshift against redshift, and the calibration",
    parameters=DrawParameters,
    takes=(_SELECTION, _PREDICTIONS, _optional(_VALIDATION)),
    makes=tuple(Port(role, Kind.PICTURE, optional=True) for role in ("pdfs", "redshifts", "pit")),
    activity=ActivityKind.ANALYSIS,
    function="inzitu.run.draw:draw",
)

COMPARE = Step(
    name="compare",
    title="Train other networks on the same split and compare all",
    parameters=CompareParameters,
    takes=(_SELECTION, _CUTOUTS, _SPLIT, _MODEL, _PREDICTIONS, _optional(_TRAINING)),
    makes=(
        Port("comparison", Kind.SCORES),
        Port("comparison-picture", Kind.PICTURE),
        *(Port(f"model-{name}", Kind.MODEL, optional=True) for name in HOUSE),
        *(Port(f"predictions-{name}", Kind.PREDICTIONS, optional=True) for name in HOUSE),
    ),
    activity=ActivityKind.ANALYSIS,
    function="inzitu.run.compare:compare",
)

SHIPPED_STEPS = (DOWNLOAD, SELECT, CUT, DATASET, TRAIN, SEARCH, CALIBRATE, PREDICT, EVALUATE, DRAW, COMPARE)
SHIPPED_PIPELINES = (
    Pipeline(
        name="train-predict",
        title="Train on sources with redshift, predict the others",
        steps=(SELECT, CUT, TRAIN, CALIBRATE, PREDICT, EVALUATE, DRAW),
        uploads=(_TRAINING, _TARGETS, _NETWORK),
    ),
    Pipeline(
        name="train-test-single",
        title="Train on one part of the sources with redshift, test on another",
        steps=(SELECT, CUT, TRAIN, CALIBRATE, PREDICT, EVALUATE, DRAW),
        uploads=(_TRAINING, _NETWORK),
        defaults={"test_fraction": "0.2"},
    ),
    Pipeline(
        name="search-predict",
        title="Train in several ways, predict with the best",
        steps=(SELECT, CUT, SEARCH, CALIBRATE, PREDICT, EVALUATE, DRAW),
        uploads=(_TRAINING, _TARGETS, _NETWORK),
    ),
    Pipeline(
        name="train-test-compare",
        title="Train several networks on one part of the sources with redshift, compare them on another",
        steps=(SELECT, CUT, TRAIN, PREDICT, EVALUATE, DRAW, COMPARE),
        uploads=(_TRAINING, _NETWORK),
        defaults={"test_fraction": "0.2"},
    ),
    Pipeline(
        name="predict-pretrained",
        title="Predict with a model that is already there (MODEL=its id)",
        steps=(SELECT, CUT, PREDICT, EVALUATE, DRAW),
        uploads=(_TARGETS, _MODEL),
    ),
    Pipeline(
        name="test-pretrained",
        title="Test a model that is already there on sources with redshift (MODEL=its id)",
        steps=(SELECT, CUT, PREDICT, EVALUATE, DRAW),
        uploads=(replace(_TARGETS, labelled=True), _MODEL),
    ),
    Pipeline(
        name="visualize-predictions",
        title="Draw predictions that are already there (PREDICTIONS=their id)",
        steps=(DRAW,),
        uploads=(_PREDICTIONS, _optional(_SELECTION)),
    ),
    Pipeline(
        name="download-sdss",
        title="Fetch a list from SDSS or a TAP service; images and labels come out",
        steps=(DOWNLOAD, SELECT, CUT, DATASET),
        uploads=(),
    ),
    Pipeline(
        name="download-train-evaluate",
        title="Fetch a list, train on one part of it, test on another",
        steps=(DOWNLOAD, SELECT, CUT, TRAIN, CALIBRATE, PREDICT, EVALUATE, DRAW),
        uploads=(_NETWORK,),
        defaults={"test_fraction": "0.2"},
    ),
    Pipeline(
        name="download-train-predict",
        title="Fetch a list, train on it, predict the targets",
        steps=(DOWNLOAD, SELECT, CUT, TRAIN, CALIBRATE, PREDICT, EVALUATE, DRAW),
        uploads=(_TARGETS, _NETWORK),
    ),
)


def steps() -> Mapping[str, Step]:
    """Return every step by name: the shipped ones and those of installed packages."""
    added = [point.load() for point in entry_points(group="inzitu.steps")]
    return {step.name: step for step in (*SHIPPED_STEPS, *added)}


def pipelines(chains: Mapping[str, tuple[str, ...]] | None = None) -> Mapping[str, Pipeline]:
    """Return every pipeline by name: the shipped ones and the manifest's chains of step names.

    Raises
    ------
    ManifestFault
        A chain names a step that is not there.
    """
    known = steps()
    found = {pipeline.name: pipeline for pipeline in SHIPPED_PIPELINES}
    for name, chain in (chains or {}).items():
        if unknown := [step for step in chain if step not in known]:
            raise ManifestFault(
                f"The pipeline {name} names {unknown[0]}, which is no step; there are {', '.join(known)}."
            )
        found[name] = _chained(name, tuple(known[step] for step in chain))
    return found


def _chained(name: str, chain: tuple[Step, ...]) -> Pipeline:
    """Return a pipeline whose uploads are what its steps take and none of them makes."""
    made: set[str] = set()
    uploads: dict[str, Port] = {}
    for step in chain:
        for port in step.takes:
            if port.role not in made and (not port.optional or port.kind in (Kind.LIST, Kind.NETWORK)):
                uploads.setdefault(port.role, port)
        made |= {port.role for port in step.makes}
    return Pipeline(
        name=name, title=" > ".join(step.name for step in chain), steps=chain, uploads=tuple(uploads.values())
    )
