"""What a job will find and take, before it runs: rows, tiles, bytes, operations, memory and seconds.

The selection is computed by what the step select itself calls (`inzitu.archive.selection.select_rows`), the network is
examined by what the step train builds on (`inzitu.run.trainings`); here both are only counted. No pixel is read.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inzitu.archive.lists import read_lists
from inzitu.archive.selection import select_rows
from inzitu.errors import ArchiveFault, TableFault
from inzitu.hips import Survey, bytes_to_read
from inzitu.jobs.costs import BACKWARD, START_SECONDS, default_seconds
from inzitu.pipelines import Kind
from inzitu.pipelines.parameters import CutParameters, SelectParameters, TrainParameters
from inzitu.run.select import hints, require_some
from inzitu.run.trainings import network_of, side_by_side, trainings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from inzitu.archive.lists import SourceList
    from inzitu.archive.selection import Selection
    from inzitu.manifest import Manifest
    from inzitu.pipelines import Request
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
    enough: Callable[[], bool] = lambda: False,
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
    enough
        Asked after each partition of the catalogue: true ends the search, and what is matched is extrapolated.

    Raises
    ------
    Fault
        The job cannot run.
    """
    trainings = trainings_of(request, files, manifest)
    network = network_of(request, files, manifest, trainings)
    lists, found = _selection(request, files, manifest, enough)
    told: dict[str, Any] = {"network": None if network is None else network.json(), "refused": None}
    amounts: dict[str, float] = {}
    if found is not None:
        told |= _rows(lists, found) | {"refused": _refusal(trainings, lists, found, manifest)}
        amounts |= _readings(request, found, manifest)
        if network is not None and not _makes_lists(request):
            amounts |= _work(trainings, found, network)
            learning = [asked for asked in request.parameters.values() if isinstance(asked, TrainParameters)]
            beside = max((side_by_side(asked, manifest) for asked in learning), default=1)
            amounts["memory"] = BASE_MEMORY + beside * COPIES * amounts["stamp_bytes"] + network.memory
    steps = [step.name for step in request.pipeline.steps if not request.parameters[step.name].idle]
    if not _makes_lists(request):  # of a list that is not there yet nobody knows what it will cost
        seconds = {step: paces.get(step, 1.0) * default_seconds(step, amounts) for step in steps}
        amounts |= {f"seconds_{step}": value for step, value in seconds.items()}
        amounts["seconds"] = START_SECONDS + sum(seconds.values())
    return told | {
        "pipeline": request.pipeline.name,
        "amounts": {name: round(value, 3) for name, value in amounts.items()},
        "paces": {step: paces.get(step) for step in steps},
        "hints": [*hints(lists), *_remarks(request, found, amounts, manifest)],
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
            usable = found.of(rows.name)["z"].to_numpy()[_candidates(found.of(rows.name), found.share)]
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
        "matched": None if found.share == 0 else _usable(found, rows),
    }


def _candidates(rows: pa.Table, share: float) -> np.ndarray:
    """Return which rows will be used, or may be, as far as the catalogue was searched."""
    words = ["ok"] if share == 1 else ["ok", "unmatched"]
    return np.asarray(pc.is_in(rows["status"], pa.array(words)))


def _usable(found: Selection, rows: pa.Table) -> int:
    """Return how many of some rows will be used: extrapolated from what of the catalogue was searched."""
    ok, most = (int(_candidates(rows, share).sum()) for share in (1, found.share))
    return most if found.share == 0 else min(most, round(ok / found.share))


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
        from inzitu.run.train import FEWEST_ROWS

        usable = _usable(found, found.of("training"))
        if usable < FEWEST_ROWS:
            return f"Only {usable} training rows can be used; training takes at least {FEWEST_ROWS}."
    return None


def _readings(request: Request, found: Selection, manifest: Manifest) -> dict[str, float]:
    """Return rows, tiles and bytes; of a job that cuts no stamps, rows alone."""
    rows, usable = _candidates(found.table, found.share), _usable(found, found.table)
    amounts: dict[str, float] = {"rows": found.table.num_rows, "usable": usable}
    amounts["catalogue_bytes"] = amounts["bytes_read"] = found.size
    cut = request.parameters.get("cut")
    if isinstance(cut, CutParameters):
        ra, dec = (found.table[name].to_numpy()[rows] for name in ("ra", "dec"))
        try:
            surveys = [Survey.open(entry.hips) for entry in manifest.archive.surveys]
            tiles, size = bytes_to_read(surveys, ra, dec, size=cut.size, scale=cut.scale)
        except (OSError, ValueError) as error:
            raise ArchiveFault(f"A survey of the archive cannot be opened: {error}.") from error
        amounts |= {"tiles": tiles, "bytes_read": amounts["bytes_read"] + size}
        amounts["stamp_bytes"] = usable * cut.size**2 * len(surveys) * np.dtype(np.float32).itemsize
    return amounts


def _work(trainings: Mapping[str, list[Training]], found: Selection, network: Network) -> dict[str, float]:
    """Return the images and the operations of training and prediction."""
    usable = {name: _usable(found, found.of(name)) for name in ("training", "targets")}
    predicted, amounts = usable["targets"], dict[str, float]()
    for step, asked in trainings.items():
        first = asked[0].asked
        held, tested = (round(part * usable["training"]) for part in (first.validation_fraction, first.test_fraction))
        learnt = max(1, usable["training"] - held - tested)
        images = [training.images(learnt) for training in asked]
        if step == "train":
            amounts["images_trained"] = sum(images)
        flops = sum(training.network.flops * count for training, count in zip(asked, images, strict=True))
        amounts[f"flops_{step}"] = BACKWARD * flops
        predicted = held + (usable["targets"] or tested)
    amounts |= {"predicted": predicted, "flops_predict": network.flops * network.looks * predicted}
    return {name: amount for name, amount in amounts.items() if amount}


def _makes_lists(request: Request) -> bool:
    """Whether a step of the job makes a list, of which nothing is known before."""
    return any(port.kind is Kind.LIST for step in request.pipeline.steps for port in step.makes)


def _remarks(request: Request, found: Selection | None, amounts: Mapping[str, float], manifest: Manifest) -> list[str]:
    remarks = []
    if _makes_lists(request):
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
