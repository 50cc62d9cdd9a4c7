"""What a job will find and take, before it runs: rows, tiles, bytes, operations, memory and seconds.

The selection is computed by what the step select itself calls (`inzitu.archive.selection.select_rows`), the network is
examined by what the step train builds on (`inzitu.run.trainings`); here both are only counted. No pixel is read. What
nobody can count yet, a list that is to be downloaded, is bounded in `inzitu.run.expectation`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from inzitu.archive.lists import read_lists
from inzitu.archive.selection import select_rows
from inzitu.errors import TableFault
from inzitu.jobs.costs import BACKWARD, START_SECONDS, default_seconds
from inzitu.pipelines.download import DownloadParameters
from inzitu.pipelines.parameters import FEWEST_ROWS, CutParameters, SelectParameters, TrainParameters
from inzitu.run.expectation import candidates, expectation, makes_lists, usable_rows
from inzitu.run.select import hints, require_some
from inzitu.run.trainings import network_of, side_by_side, trainings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from inzitu.archive.lists import SourceList
    from inzitu.archive.selection import Selection
    from inzitu.manifest import Manifest
    from inzitu.pipelines import Request
    from inzitu.run.expectation import Expectation
    from inzitu.run.trainings import Network, Training

BINS = 24
"""Bins of the histogram of redshifts."""
BASE_MEMORY = 1 << 30
"""What a job takes before it has a pixel: the libraries, and the programs that they compile [byte]."""
COPIES = 2
"""Copies of the stamps in memory while a network is trained: the host's and the device's."""


def estimated(
    request: Request,
    files: Mapping[str, Path],
    manifest: Manifest,
    *,
    paces: Mapping[str, float],
    made: Sequence[str] = (),
    enough: Callable[[], bool] = lambda: False,
    known: Network | None = None,
) -> dict[str, Any]:
    """Return what a job will find and take, as JSON holds it.

    Parameters
    ----------
    request
        What is asked.
    files
        The uploads, and the folder of a model, by role.
    manifest
        The deployment.
    paces
        How much of its default each step has taken here (`inzitu.jobs.costs.paces`).
    made
        Steps whose artefacts are there, made before from the same (`inzitu.run.runner.made_before`).
    enough
        Asked after each partition of the catalogue: true ends the search, and what is matched is extrapolated.
    known
        The job's network, if it was looked at before.

    Raises
    ------
    Fault
        The job cannot run.
    """
    trainings = trainings_of(request, files, manifest, known)
    network = known or network_of(request, files, manifest, trainings)
    lists, found = _selection(request, files, manifest, enough)
    told: dict[str, Any] = {"network": None if network is None else network.json(), "refused": None}
    if found is not None:
        told |= _rows(lists, found) | {"refused": _refusal(trainings, lists, found, manifest)}
    steps = [step.name for step in request.pipeline.steps if not request.parameters[step.name].idle]
    amounts: dict[str, float] = {}
    if told["refused"] is None and (expected := expectation(request, found, manifest)) is not None:
        amounts |= _readings(request, expected, made, manifest)
        if network is not None:
            amounts |= _work(trainings, expected, network, made)
            learning = [asked for asked in request.parameters.values() if isinstance(asked, TrainParameters)]
            beside = max((side_by_side(asked, manifest) for asked in learning), default=1)
            amounts["memory"] = BASE_MEMORY + beside * COPIES * amounts["stamp_bytes"] + network.memory
        seconds = {
            step: 0.0 if step in made else paces.get(step, 1.0) * default_seconds(step, amounts) for step in steps
        }
        amounts |= {f"seconds_{step}": value for step, value in seconds.items()}
        amounts["seconds"] = START_SECONDS + sum(seconds.values())
    remarks = [*hints(lists), *_remarks(request, found, amounts, manifest)]
    return told | {
        "pipeline": request.pipeline.name,
        "made": list(made),
        "amounts": {name: round(value, 3) for name, value in amounts.items()},
        "paces": {step: paces.get(step) for step in steps},
        # A refusal says what looks wrong with its list.
        "hints": [remark for remark in remarks if remark not in (told["refused"] or "")],
    }


def _selection(
    request: Request, files: Mapping[str, Path], manifest: Manifest, enough: Callable[[], bool]
) -> tuple[list[SourceList], Selection | None]:
    """Return the job's lists and their selection, if it has any yet."""
    parameters = request.parameters.get("select")
    paths = {role: files[role] for role in ("training", "targets") if role in files}
    if not isinstance(parameters, SelectParameters) or not paths:
        return [], None
    lists = read_lists(paths, parameters, most=manifest.limits.rows)
    return lists, select_rows(lists, parameters, manifest, enough=enough)


def _rows(lists: list[SourceList], found: Selection) -> dict[str, Any]:
    """Count the rows by list, status and flag, and the redshifts of the first list that has any."""
    told: dict[str, Any] = {
        "lists": {rows.name: _counts(found, rows.name) for rows in lists},
        "searched": found.share,
    }
    for rows in lists:
        if "redshifts" not in told and np.isfinite(rows.z).any():
            sent = rows.z[np.isfinite(rows.z) & (rows.z >= 0)]
            usable = found.of(rows.name)["z"].to_numpy()[candidates(found.of(rows.name), found.share)]
            edges = np.histogram_bin_edges(sent, BINS)
            told["redshifts"] = {"list": rows.name, "edges": edges.round(6).tolist()} | {
                name: np.histogram(z, edges)[0].tolist() for name, z in (("sent", sent), ("usable", usable))
            }
    return told


def _counts(found: Selection, name: str) -> dict[str, Any]:
    """Count the rows of a list: by status and flag, in the footprint, and with a counterpart."""
    rows = found.of(name)
    status, combinations = (
        {item["values"]: item["counts"] for item in rows[name].value_counts().to_pylist()}
        for name in ("status", "flags")
    )
    flags: Counter[str] = Counter()
    for words, count in combinations.items():
        flags.update(dict.fromkeys(filter(None, words.split(",")), count))
    return {
        "rows": rows.num_rows,
        "status": status,
        "flags": dict(flags),
        "footprint": {"bands": dict(found.in_bands[name]), "all": found.in_all[name]},
        "matched": None if found.share == 0 else usable_rows(found, rows),
    }


def _refusal(
    trainings: Mapping[str, list[Training]], lists: list[SourceList], found: Selection, manifest: Manifest
) -> str | None:
    """Say why the selection cannot be gone on with, if that is so."""
    if found.share < 1:
        return None
    try:
        require_some(found, lists, manifest)
    except TableFault as fault:
        return str(fault)
    if trainings and "training" in {rows.name for rows in lists}:
        usable = usable_rows(found, found.of("training"))
        if usable < FEWEST_ROWS:
            return f"Only {usable} training rows can be used; training takes at least {FEWEST_ROWS}."
    return None


def _readings(request: Request, expected: Expectation, made: Sequence[str], manifest: Manifest) -> dict[str, float]:
    """Return rows, tiles and bytes; of a job that cuts no stamps, rows alone."""
    usable = sum(expected.usable.values())
    catalogue = 0.0 if "select" in made else expected.catalogue_bytes
    amounts: dict[str, float] = {"rows": expected.rows, "usable": usable}
    amounts["catalogue_bytes"] = amounts["bytes_read"] = catalogue
    cut = request.parameters.get("cut")
    if isinstance(cut, CutParameters):
        tiles, size = (0.0, 0.0) if "cut" in made else expected.tiles_and_bytes(cut, manifest)
        amounts |= {"tiles": tiles, "bytes_read": catalogue + size}
        amounts["stamp_bytes"] = usable * cut.size**2 * len(manifest.archive.surveys) * np.dtype(np.float32).itemsize
    return amounts


def _work(
    trainings: Mapping[str, list[Training]], expected: Expectation, network: Network, made: Sequence[str]
) -> dict[str, float]:
    """Return the images and the operations of training and prediction; none of what was made before."""
    usable = expected.usable
    predicted, amounts = usable["targets"], dict[str, float]()
    for step, asked in trainings.items():
        first = asked[0].asked
        held, tested = (round(part * usable["training"]) for part in (first.validation_fraction, first.test_fraction))
        learnt = max(1, usable["training"] - held - tested)
        images = [0 if step in made else training.images(learnt) for training in asked]
        flops = sum(training.network.flops * count for training, count in zip(asked, images, strict=True))
        # The networks that a comparison trains come after the one that the job trains.
        one, other = ("compared", "compare") if step == "compare" else ("trained", "train")
        amounts |= {f"images_{one}": sum(images), f"flops_{other}": BACKWARD * flops}
        predicted = held + (usable["targets"] or tested)
    predicted = 0 if "predict" in made else predicted
    return amounts | {"predicted": predicted, "flops_predict": network.flops * network.looks * predicted}


def _remarks(request: Request, found: Selection | None, amounts: Mapping[str, float], manifest: Manifest) -> list[str]:
    remarks = []
    if isinstance(download := request.parameters.get("download"), DownloadParameters):
        remarks.append(
            f"At most: the job fetches a list of up to TOP={download.top:,} rows, and all are counted as if they could "
            "be used."
        )
    elif makes_lists(request):
        remarks.append("A list is made by a step of the job; neither its rows nor their cost are known before.")
    if found is None:
        return remarks
    if found.share == 0:
        remarks.append("The catalogue is not searched for an estimate; every row in the footprint is taken to match.")
    elif found.share < 1:
        remarks.append(f"{found.share:.0%} of the catalogue was searched; what matches in all of it is extrapolated.")
    if amounts.get("seconds", 0.0) > manifest.limits.execution_seconds:
        remarks.append(
            f"The job may take {amounts['seconds']:,.0f} s; this service ends it after "
            f"{manifest.limits.execution_seconds:,} s. Send fewer rows, or ask for fewer EPOCHS or MEMBERS."
        )
    return remarks
