"""What a job will find and take, before it runs: rows, tiles, bytes, operations, memory and seconds.

The selection is computed by what the step select itself calls (`inzitu.archive.selection.select_rows`), the network is
examined by what the step train builds on (`inzitu.run.networks`); here both are only counted. No pixel is read.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from inzitu.archive.lists import read_lists
from inzitu.archive.selection import select_rows
from inzitu.errors import ArchiveFault, TableFault
from inzitu.hips import Survey, bytes_to_read
from inzitu.jobs.costs import BACKWARD, START_SECONDS, default_seconds
from inzitu.pipelines.catalogue import CutParameters, SelectParameters, TrainParameters
from inzitu.run.select import hints, require_some

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pyarrow as pa

    from inzitu.archive.lists import SourceList
    from inzitu.archive.selection import Selection
    from inzitu.manifest import Manifest
    from inzitu.pipelines import Request

BINS = 24
"""Bins of the histogram of redshifts."""
BASE_MEMORY = 1 << 30
"""What a job takes before it has a pixel: the libraries, and the programs that they compile [byte]."""
COPIES = 2
"""Copies of the stamps in memory while a network is trained: the host's and the device's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The network of a job.

    Attributes
    ----------
    parameters
        Of one member.
    flops
        One member's way forward for one image; None if it cannot be told.
    memory
        Of a training step of all members [byte].
    members
        Networks in the ensemble.
    looks
        How often an image passes through a network when it is predicted: members times symmetries.
    """

    parameters: int
    flops: float | None
    memory: int
    members: int
    looks: int

    def json(self) -> dict[str, Any]:
        """Return it as the estimate holds it."""
        return {name: getattr(self, name) for name in ("parameters", "flops", "memory", "members", "looks")}


def network_of(request: Request, files: Mapping[str, Path], manifest: Manifest) -> Network | None:
    """Return the network of a job, or refuse it; None for a job without one.

    Raises
    ------
    ParameterFault
        It cannot be read or built, or cannot take such images.
    LimitFault
        It has more parameters, or takes more memory, than allowed.
    """
    train, cut = request.parameters.get("train") or request.parameters.get("search"), request.parameters.get("cut")
    if not isinstance(cut, CutParameters) or not (isinstance(train, TrainParameters) or "model" in files):
        return None
    # JAX takes seconds to load; a job without a network need not wait for it.
    from inzitu.learn.bundles import Bundle
    from inzitu.learn.images import SYMMETRIES
    from inzitu.run.networks import examined, recipe_of

    bands = len(manifest.archive.bands)
    if isinstance(train, TrainParameters):
        own = files.get("network")
        members = recipe_of(train, own).settled(train.batch_size).members or 1
        cost = examined(train, bands=bands, size=cut.size, limits=manifest.limits, network=own)
        looks = members * SYMMETRIES
        return Network(parameters=cost.parameters, flops=cost.flops, memory=cost.memory, members=members, looks=looks)
    about = json.loads((files["model"] / "model.json").read_text(encoding="utf-8"))
    Bundle(about, {}, None).check(bands=manifest.archive.bands, scale=cut.scale, size=cut.size)
    if not isinstance(about["network"], str):
        return None
    named = TrainParameters.model_validate({"network": about["network"], "members": about["members"]})
    cost = examined(named, bands=bands, size=cut.size, limits=manifest.limits, network=None)
    return Network(
        parameters=cost.parameters,
        flops=cost.flops,
        memory=0,
        members=about["members"],
        looks=about["members"] * SYMMETRIES,
    )


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
    network = network_of(request, files, manifest)
    lists, found = _selection(request, files, manifest, enough)
    told: dict[str, Any] = {"network": None if network is None else network.json()}
    amounts: dict[str, float] = {}
    if found is not None:
        told |= _rows(lists, found) | {"refused": _refusal(request, lists, found, manifest)}
        amounts |= _readings(request, found, manifest)
        if network is not None:
            amounts |= _work(request, files, found, network)
    steps = [step.name for step in request.pipeline.steps if not request.parameters[step.name].idle]
    seconds = {step: paces.get(step, 1.0) * default_seconds(step, amounts) for step in steps}
    amounts |= {f"seconds_{step}": value for step, value in seconds.items()}
    amounts["seconds"] = START_SECONDS + sum(seconds.values())
    return told | {
        "pipeline": request.pipeline.name,
        "amounts": {name: round(value, 3) for name, value in amounts.items()},
        "paces": {step: paces.get(step) for step in steps},
        "hints": [*hints(lists), *_remarks(found, amounts, manifest)],
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
    """Count the rows by list, status and flag, and the redshifts of the training list."""
    told: dict[str, Any] = {
        "lists": {rows.name: _counts(found.of(rows.name)) for rows in lists},
        "footprint": {"bands": dict(found.in_bands), "all": found.in_all},
        "matched": _matched(found),
        "searched": found.share,
    }
    for rows in lists:
        if rows.labelled:
            sent = rows.z[np.isfinite(rows.z) & (rows.z >= 0)]
            usable = found.of(rows.name)["z"].to_numpy()[_candidates(found.of(rows.name), found.share)]
            edges = np.linspace(0, max(float(sent.max(initial=0.0)), 1e-3), BINS + 1)
            told["redshifts"] = {"edges": edges.round(6).tolist()} | {
                name: np.histogram(z, edges)[0].tolist() for name, z in (("sent", sent), ("usable", usable))
            }
    return told


def _counts(rows: pa.Table) -> dict[str, Any]:
    flags = Counter(word for words in rows["flags"].to_pylist() for word in words.split(",") if word)
    return {"rows": rows.num_rows, "status": dict(Counter(rows["status"].to_pylist())), "flags": dict(flags)}


def _candidates(rows: pa.Table, share: float) -> np.ndarray:
    """Return which rows will be used, or may be, as far as the catalogue was searched."""
    status = np.asarray(rows["status"])
    usable: np.ndarray = (status == "ok") if share == 1 else (status == "ok") | (status == "unmatched")
    return usable


def _matched(found: Selection) -> int | None:
    """Return how many rows have a counterpart; None if none of the catalogue was searched."""
    ok = int((np.asarray(found.table["status"]) == "ok").sum())
    most = int(_candidates(found.table, found.share).sum())
    return None if found.share == 0 else min(most, round(ok / found.share))


def _refusal(request: Request, lists: list[SourceList], found: Selection, manifest: Manifest) -> str | None:
    """Say why the selection cannot be gone on with, if that is so."""
    if found.share < 1:
        return None
    try:
        require_some(found, lists, manifest)
    except TableFault as fault:
        return str(fault)
    if "train" in request.parameters and "training" in {rows.name for rows in lists}:
        from inzitu.run.train import FEWEST_ROWS

        usable = int((np.asarray(found.of("training")["status"]) == "ok").sum())
        if usable < FEWEST_ROWS:
            return f"Only {usable} training rows can be used; training takes at least {FEWEST_ROWS}."
    return None


def _readings(request: Request, found: Selection, manifest: Manifest) -> dict[str, float]:
    """Return rows, tiles and bytes; of a job that cuts no stamps, rows alone."""
    matched = _matched(found)
    rows = _candidates(found.table, found.share)
    usable = int(rows.sum()) if matched is None else matched
    amounts: dict[str, float] = {"rows": found.table.num_rows, "usable": usable}
    amounts["catalogue_bytes"] = amounts["bytes_read"] = sum(path.stat().st_size for path in found.files)
    cut = request.parameters.get("cut")
    if isinstance(cut, CutParameters):
        ra, dec = (found.table[name].to_numpy()[rows] for name in ("ra", "dec"))
        try:
            surveys = [Survey.open(entry.hips) for entry in manifest.archive.surveys]
            tiles, size = bytes_to_read(surveys, ra, dec, size=cut.size, scale=cut.scale)
        except OSError as error:
            raise ArchiveFault(f"A survey of the archive cannot be opened: {error}.") from error
        amounts |= {"tiles": tiles, "bytes_read": amounts["bytes_read"] + size}
        amounts["stamp_bytes"] = usable * cut.size**2 * len(surveys) * np.dtype(np.float32).itemsize
    return amounts


def _work(request: Request, files: Mapping[str, Path], found: Selection, network: Network) -> dict[str, float]:
    """Return the operations of training and prediction, and the memory."""
    share = (
        1.0 if found.share in (0, 1) else (_matched(found) or 0) / max(1, _candidates(found.table, found.share).sum())
    )
    usable = {
        name: round(share * int(_candidates(found.of(name), found.share).sum())) for name in ("training", "targets")
    }
    predicted, amounts = usable["targets"], dict[str, float]()
    train = request.parameters.get("train")
    if isinstance(train, TrainParameters):
        from inzitu.run.networks import recipe_of

        held, tested = (round(share * usable["training"]) for share in (train.validation_fraction, train.test_fraction))
        learnt = max(1, usable["training"] - held - tested)
        recipe = recipe_of(train, files.get("network")).settled(learnt)
        amounts["images_trained"] = recipe.steps(learnt) * recipe.batch_size * network.members
        predicted = held + (predicted or tested)
    amounts["predicted"] = predicted
    if network.flops is not None:
        amounts["flops_train"] = BACKWARD * network.flops * amounts.get("images_trained", 0)
        amounts["flops_predict"] = network.flops * network.looks * predicted
    cut = request.parameters["cut"]
    stamps = sum(usable.values()) * cut.size**2 * 4 if isinstance(cut, CutParameters) else 0
    amounts["memory"] = BASE_MEMORY + COPIES * stamps * len(found.in_bands) + network.memory
    return {name: amount for name, amount in amounts.items() if amount}


def _remarks(found: Selection | None, amounts: Mapping[str, float], manifest: Manifest) -> list[str]:
    remarks = []
    if found is None:
        remarks.append("The job's lists are made by its own steps; their rows are not known before it runs.")
    elif found.share == 0:
        remarks.append("The catalogue is not searched for an estimate; every row in the footprint is taken to match.")
    elif found.share < 1:
        remarks.append(f"{found.share:.0%} of the catalogue was searched; what matches in all of it is extrapolated.")
    if amounts["seconds"] > manifest.limits.execution_seconds:
        remarks.append(
            f"The job may take {amounts['seconds']:,.0f} s; this service ends it after "
            f"{manifest.limits.execution_seconds:,} s. Send fewer rows, or ask for fewer EPOCHS or MEMBERS."
        )
    return remarks
