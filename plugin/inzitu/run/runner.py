"""The runner: does the steps of a request in order, stores what they make and writes the record.

Provenance is written here and not by the steps, so no artefact exists without its record. A step whose inputs,
parameters, archive and code equal those of an earlier run is not done again: its artefacts are found.
"""

from __future__ import annotations

import importlib
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from inzitu.errors import NotFoundFault
from inzitu.prov.facts import Activity, Agent, AgentKind, Artefact, Parameter, Product, Used, key_of
from inzitu.prov.store import digest
from inzitu.run.surroundings import archive_state, code_version, device, software
from inzitu.run.work import Outcome, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from inzitu.manifest import Manifest
    from inzitu.pipelines import Parameters, Request, Step
    from inzitu.prov.recorder import Recorder
    from inzitu.run.engine import Engine
    from inzitu.run.work import Log

FOLDER = "inode/directory"
_MEDIA_TYPES = {
    ".parquet": "application/vnd.apache.parquet",
    ".json": "application/json",
    ".png": "image/png",
    ".txt": "text/plain",
    "": FOLDER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs one job's request.

    Attributes
    ----------
    manifest, recorder, engine
        The deployment.
    job
        Identifier of the job.
    scratch
        The job's own folder; what is left in it by a killed worker is gone on from.
    progress
        Called with the step's name, what is done, the total, the seconds left and what else is to be shown.
    log
        Writes a line to the job's log.
    account
        Adds numbers to the job's account.
    """

    manifest: Manifest
    recorder: Recorder
    engine: Engine
    job: str
    scratch: Path
    progress: Callable[[str, float, float, float | None, dict[str, Any]], None]
    log: Log
    account: Callable[[Mapping[str, float]], None]

    def run(self, request: Request, uploads: Mapping[str, Path]) -> dict[str, Artefact]:
        """Do each step of a request; return what the job started from and all that it made, by role.

        Raises
        ------
        Fault, ValueError, OSError
            What a step raised. What earlier steps made stays, with its record.
        """
        kinds = {port.role: port.kind for port in request.pipeline.uploads}
        there = {
            role: self.recorder.admit(
                path, kind=kinds[role], media_type="application/octet-stream", name=role, agent=_USER, job=self.job
            )
            for role, path in uploads.items()
        }
        if request.model is not None:
            there["model"] = self.recorder.artefact(request.model)
        if request.predictions is not None:
            there |= self._predicted(request.predictions)
        for step in request.pipeline.steps:
            if request.parameters[step.name].idle:
                continue
            there |= self._artefacts(step, request.parameters[step.name], there)
        return there

    def _predicted(self, id: str) -> dict[str, Artefact]:
        """Return predictions that are there, with the selection and the validation rows that the record has of them."""
        for maker in self.recorder.makers(id):
            of = {used.role: used.artefact for used in maker.used if used.role == "selection"}
            made = {item.role: item.artefact for item in maker.made if item.role == "validation"}
            if of:
                ids = {**of, **made, "predictions": id}
                return {role: self.recorder.artefact(artefact) for role, artefact in ids.items()}
        raise NotFoundFault(f"The record does not say which sources the predictions {id} are of.")

    def _artefacts(self, step: Step, parameters: Parameters, there: Mapping[str, Artefact]) -> dict[str, Artefact]:
        """Return what a step makes: found, if it has been made before, or made now."""
        inputs = {port.role: there[port.role] for port in step.takes if port.role in there}
        settings, used, key = _run_of(step, parameters, {role: made.id for role, made in there.items()}, self.manifest)
        if (found := self.recorder.found(key, job=self.job)) is not None:
            self.log(f"{step.name}: found, made before from the same inputs, parameters and code")
            return found
        self.log(f"{step.name}: {step.title}")
        started, clock = datetime.now(UTC), perf_counter()
        outcome = self._done(step, parameters, inputs)
        seconds = perf_counter() - clock
        activity = Activity(
            step=step.name,
            kind=step.activity,
            started=started,
            ended=datetime.now(UTC),
            agent=Agent(self.manifest.name, self.manifest.publisher, AgentKind.ORGANIZATION),
            parameters=settings,
            software=software(),
            device=device(),
            code=code_version(),
            used=used,
            key=key if outcome.certain else uuid4().hex,
            description=step.title,
        )
        made = {role: _product(step, role, path) for role, path in outcome.made.items()}
        recorded = self.recorder.record(activity, made, readings=outcome.readings, job=self.job)
        self.account({**outcome.account, f"seconds_{step.name}": seconds})
        self.log(f"{step.name}: done in {seconds:.1f} s")
        shutil.rmtree(self.scratch / step.name)
        return recorded

    def _done(self, step: Step, parameters: Parameters, inputs: Mapping[str, Artefact]) -> Outcome:
        """Call the step's function in a folder of its own."""
        folder, checkpoints = self.scratch / step.name / "made", self.scratch / step.name / "checkpoints"
        if folder.exists():  # what a killed attempt had half written
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        checkpoints.mkdir(exist_ok=True)

        def progress(done: float, total: float, /, *, seconds_left: float | None = None, **info: Any) -> None:
            self.progress(step.name, done, total, seconds_left, info)

        work = Work(
            manifest=self.manifest,
            folder=folder,
            checkpoints=checkpoints,
            identities={role: artefact.id for role, artefact in inputs.items()},
            engine=self.engine,
            progress=progress,
            log=self.log,
        )
        paths = {role: self.recorder.store.path(artefact.id) for role, artefact in inputs.items()}
        module, name = step.function.split(":")
        return cast("Outcome", getattr(importlib.import_module(module), name)(parameters, paths, work))


def made_before(request: Request, files: Mapping[str, Path], manifest: Manifest, recorder: Recorder) -> tuple[str, ...]:
    """Return the steps of a request, from the first on, that would be found, made before from the same.

    Parameters
    ----------
    files
        The uploads, by role.
    """
    there = {role: digest(path) for role, path in files.items()}
    if request.model is not None:
        there["model"] = request.model
    names: list[str] = []
    for step in request.pipeline.steps:
        if request.parameters[step.name].idle:
            continue
        *_, key = _run_of(step, request.parameters[step.name], there, manifest)
        if (found := recorder.found(key)) is None:
            break  # what comes after takes what this one makes
        there |= {role: artefact.id for role, artefact in found.items()}
        names.append(step.name)
    return tuple(names)


def _run_of(
    step: Step, parameters: Parameters, there: Mapping[str, str], manifest: Manifest
) -> tuple[tuple[Parameter, ...], tuple[Used, ...], str]:
    """Return the settings and inputs of a run of a step, and the key that it shares with all that make the same."""
    settings = (*_settings(parameters), Parameter("archive", archive_state(manifest.archive)))
    used = tuple(Used(port.role, there[port.role]) for port in step.takes if port.role in there)
    return settings, used, key_of(step=step.name, parameters=settings, used=used, code=code_version())


_USER = Agent("anonymous", "a user without a name", AgentKind.PERSON)


def _settings(parameters: Parameters) -> tuple[Parameter, ...]:
    """Return a step's parameters as facts, with the descriptions of its declaration."""
    fields = type(parameters).model_fields
    return tuple(
        Parameter(name, value, description=fields[name].description or "")
        for name, value in parameters.model_dump(mode="json").items()
    )


def _product(step: Step, role: str, path: Path) -> Product:
    kind = next(port.kind for port in step.makes if port.role == role)
    return Product(path, kind, _MEDIA_TYPES.get(path.suffix, "application/octet-stream"), path.name)
