"""The steps and pipelines there are: the shipped ones and those that a deployment adds.

A package of the data centre adds a step as an entry point of the group ``inzitu.steps`` that loads a `Step`; the
manifest chains steps into further pipelines under ``pipelines:``.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from inzitu.errors import ManifestFault
from inzitu.pipelines.declaration import Kind, Pipeline, Port, Step
from inzitu.pipelines.download import DownloadParameters
from inzitu.pipelines.parameters import (
    HOUSE,
    CalibrateParameters,
    CompareParameters,
    CutParameters,
    DatasetParameters,
    DrawParameters,
    EvaluateParameters,
    PredictParameters,
    SearchParameters,
    SelectParameters,
    TrainParameters,
)
from inzitu.prov.facts import ActivityKind

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    takes=(_SELECTION, _PREDICTIONS, _optional(_VALIDATION), _optional(_TRAINING), _optional(_TARGETS)),
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
