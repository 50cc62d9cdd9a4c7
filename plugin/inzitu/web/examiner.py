"""Has jobs examined before they run, by processes of their own (`inzitu.run.examine`).

What learns is loaded there and not here; time and memory are bounded; a fault comes back as the fault that it is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from inzitu import errors, pipelines
from inzitu.errors import BusyFault, Fault, ServiceFault
from inzitu.pipelines.parameters import CutParameters, TrainParameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inzitu.jobs.job import Job
    from inzitu.manifest import Manifest

AT_ONCE = 2
"""Examinations that run beside each other."""
WAITING = 6
"""Jobs that wait for one of them to end, each in a thread of the pool; one more is told at once to come again."""
PATIENCE = 20.0
"""Longest of these waits [s]."""
REMEMBERED = 256
"""Networks of the house whose cost is remembered."""


class Examiner:
    """Examines the jobs of a deployment."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._places = threading.BoundedSemaphore(AT_ONCE + WAITING)
        self._networks: dict[str, Mapping[str, Any]] = {}

    def __call__(self, job: Job, *, whole: bool) -> Mapping[str, Any] | None:
        """Return what a job will find and take, or of that its network alone; None if it has none.

        Raises
        ------
        Fault
            The job cannot run.
        BusyFault
            Too many jobs are being examined, or this one takes too long.
        """
        if whole:
            return self._asked(job)
        roles = [upload.name for upload in job.uploads]
        request = pipelines.check(job.parameters, roles, chains=self._manifest.pipelines)
        steps = [asked for asked in request.parameters.values() if isinstance(asked, TrainParameters)]
        trained = [training.weight for asked in steps for training in asked.trainings]
        if not trained and request.model is None:
            return None
        if not trained or "network" in roles:
            return self._asked(job, "network")
        # A network of the house takes the same in every job.
        cut = request.parameters.get("cut")
        key = f"{cut.size if isinstance(cut, CutParameters) else None} {trained}"
        if (known := self._networks.get(key)) is not None:
            return known
        found = self._asked(job, "network")
        self._networks = dict([*self._networks.items(), (key, found)][-REMEMBERED:])
        return found

    def _asked(self, job: Job, *only: str) -> Mapping[str, Any]:
        busy = BusyFault("Other jobs are being examined; ask again in a few seconds.")
        if not self._places.acquire(blocking=False):
            raise busy
        try:
            if not self._room.acquire(timeout=PATIENCE):
                raise busy
            try:
                return _answer(self._output([sys.executable, "-m", "inzitu.run.examine", "-", job.id, *only]))
            finally:
                self._room.release()
        finally:
            self._places.release()

    def _output(self, command: list[str]) -> bytes:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # An accelerator is the workers'; to open it takes most of its memory.
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            # A session of its own makes a process group that can be killed whole.
            start_new_session=True,
        )
        seconds = self._manifest.limits.examination_seconds
        try:
            output, _ = process.communicate(self._manifest.model_dump_json().encode(), timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise BusyFault(
                f"The examination of the job took longer than {seconds:g} s, the limit of this deployment. Ask again "
                "when the service is less busy, or with shorter lists."
            ) from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return output


def _answer(output: bytes) -> Mapping[str, Any]:
    """Return what a process found, or raise what it raised."""
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError as error:
        raise ServiceFault(
            "The examination of the job ended without an answer; the operator's log says more. If memory ran out, a "
            "smaller job may pass."
        ) from error
    if (fault := answer.get("fault")) is not None:
        kind = getattr(errors, fault["kind"], ServiceFault)
        raise kind(fault["message"]) if issubclass(kind, Fault) else ServiceFault(fault["message"])
    found: Mapping[str, Any] = answer["estimate"]
    return found
