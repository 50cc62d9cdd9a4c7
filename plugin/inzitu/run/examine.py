"""The process that examines a job before it runs: ``python -m inzitu.run.examine MANIFEST JOB [network]``.

It is a process of its own because it loads what learns, which the web process never does, and so that its time and
memory can be bounded. MANIFEST is a file, or ``-`` for JSON on standard input; with ``network`` only that is looked at.
The answer is JSON on standard output: ``{"estimate": ...}``, or ``{"fault": {"kind": ..., "message": ...}}``.

See `inzitu.run.estimate` for the numbers, `inzitu.web.examiner` for who asks.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from inzitu.archive.surveys import located
from inzitu.errors import UserFault, as_fault
from inzitu.jobs.database import open_engine
from inzitu.jobs.store import JobStore
from inzitu.manifest import Manifest
from inzitu.prov.recorder import Recorder
from inzitu.prov.store import ArtefactStore
from inzitu.run.foresight import Given, foreseen
from inzitu.run.trainings import network_of, trainings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

SEARCHING = 0.4
"""Share of the time allowed after which the catalogue is searched no further."""
MEMORY = 4 << 30
"""What the libraries and a network may take, beside the search of the catalogue [byte]."""


def main(arguments: Sequence[str] = tuple(sys.argv[1:])) -> int:
    """Examine the job and print the answer."""
    started = time.monotonic()
    path, id, *only = arguments
    try:
        manifest = Manifest.model_validate_json(sys.stdin.read()) if path == "-" else Manifest.load(path)
        _bound_memory(MEMORY + (manifest.engine.memory_mb << 20))
        answer: dict[str, Any] = {"estimate": _examined(manifest, id, started=started, whole=not only)}
    except Exception as error:  # whatever it is, it is told where the job is asked for
        fault = as_fault(error)
        if not isinstance(fault, UserFault):
            traceback.print_exception(error)
        answer = {"fault": {"kind": type(fault).__name__, "message": str(fault)}}
    json.dump(answer, sys.stdout)
    return 0


def _examined(manifest: Manifest, id: str, *, started: float, whole: bool) -> dict[str, Any]:
    manifest = located(manifest)
    engine = open_engine(manifest.database_url)
    try:
        return _found(manifest, engine, id, started=started, whole=whole)
    finally:
        engine.dispose()


def _found(manifest: Manifest, engine: Engine, id: str, *, started: float, whole: bool) -> dict[str, Any]:
    store, recorder = JobStore(engine), Recorder(engine, ArtefactStore(manifest.artefacts))
    job = store.get(id)
    if not whole:
        given = Given.of(job, manifest, recorder.store)
        network = network_of(given.request, given.files, manifest, trainings_of(given.request, given.files, manifest))
        return {"network": None if network is None else network.json()}
    deadline = started + SEARCHING * manifest.limits.examination_seconds
    return foreseen(job, manifest, jobs=store, recorder=recorder, enough=lambda: time.monotonic() > deadline)


def _bound_memory(most: int) -> None:
    """Let an allocation beyond the bound fail, which is a fault in words."""
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    sys.exit(main())
