"""What a job will find and take: asked before it queues (`inzitu.run.examine`), or by its own process, first of all.

Both compute `inzitu.run.estimate` on the job's files, with the pace of the jobs before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from inzitu.jobs.costs import paces
from inzitu.pipelines import Kind, check
from inzitu.run.estimate import estimated
from inzitu.run.runner import made_before
from inzitu.run.trainings import Network

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from inzitu.jobs.job import Job
    from inzitu.jobs.store import JobStore
    from inzitu.manifest import Manifest
    from inzitu.pipelines import Request
    from inzitu.prov.recorder import Recorder
    from inzitu.prov.store import ArtefactStore

PAST = 20
"""Completed jobs that the pace is taken from."""


class Given(NamedTuple):
    """What a job was given: its request, its uploads by role, and these with the folder of its model."""

    request: Request
    uploads: Mapping[str, Path]
    files: Mapping[str, Path]

    @classmethod
    def of(cls, job: Job, manifest: Manifest, artefacts: ArtefactStore) -> Given:
        """Read it from the job.

        Raises
        ------
        ParameterFault
            The parameters are wrong.
        """
        request = check(job.parameters, [upload.name for upload in job.uploads], chains=manifest.pipelines)
        uploads = {upload.name: manifest.state / upload.path for upload in job.uploads}
        files = uploads if request.model is None else uploads | {Kind.MODEL: artefacts.path(request.model)}
        return cls(request, uploads, files)


def foreseen(
    job: Job, manifest: Manifest, *, jobs: JobStore, recorder: Recorder, enough: Callable[[], bool]
) -> dict[str, Any]:
    """Return what a job will find and take, as JSON holds it; see `estimated`.

    Raises
    ------
    Fault
        The job cannot run.
    """
    given = Given.of(job, manifest, recorder.store)
    network = (job.estimate or {}).get("network")
    return estimated(
        given.request,
        given.files,
        manifest,
        paces=paces(jobs.completed(last=PAST)),
        made=made_before(given.request, given.uploads, manifest, recorder),
        enough=enough,
        known=None if network is None else Network(**network),
    )
