"""What is known of a job before it queues: that its parameters are right and that its lists can be read.

What needs the archive itself, as which rows are in the footprint, is found by the job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inzitu import pipelines
from inzitu.archive.lists import read_lists
from inzitu.archive.spectra import check_download
from inzitu.errors import GoneFault, NotFoundFault, ParameterFault, TableFault
from inzitu.pipelines import Kind
from inzitu.pipelines.download import DownloadParameters
from inzitu.pipelines.parameters import SelectParameters
from inzitu.prov.history import UnrecordedError

if TYPE_CHECKING:
    from pathlib import Path

    from inzitu.jobs.job import Job
    from inzitu.manifest import Manifest
    from inzitu.prov.recorder import Recorder
    from inzitu.tables.published import PublishedTables


def check_job(job: Job, *, manifest: Manifest, recorder: Recorder, published: PublishedTables) -> None:
    """Refuse a job that cannot run.

    Raises
    ------
    ParameterFault
        A parameter is wrong, or the table's name is taken.
    NotFoundFault
        There is no such model, or no such predictions.
    GoneFault
        There were.
    TableFault, LimitFault
        A list lacks what it must have, or is too long.
    """
    request = pipelines.check(job.parameters, [upload.name for upload in job.uploads], chains=manifest.pipelines)
    if request.table is not None and not published.is_free(request.table):
        raise ParameterFault(f"The table predictions.{request.table} exists; choose another name with TABLE=.")
    for kind, id in ((Kind.MODEL, request.model), (Kind.PREDICTIONS, request.predictions)):
        if id is not None:
            _check_recorded(kind, id, recorder)
    for upload in job.uploads:
        if not upload.path:
            raise ParameterFault(
                f"UPLOAD={upload.name},{upload.uri} is an address; send the table itself as a multipart file, "
                f"with UPLOAD={upload.name},param:NAME."
            )
    if isinstance(download := request.parameters.get("download"), DownloadParameters):
        check_download(download, manifest)
    if isinstance(select := request.parameters.get("select"), SelectParameters):
        lists = read_lists(_lists(job, request, manifest), select, most=manifest.limits.rows)
        labelled = {port.role for port in request.pipeline.uploads if port.labelled}
        for rows in lists:
            if rows.name in labelled and not np.isfinite(rows.z).any():
                raise TableFault(
                    f"The {rows.name} list has no redshift; {request.pipeline.name} compares predictions with it. "
                    "Name the column z."
                )


def _lists(job: Job, request: pipelines.Request, manifest: Manifest) -> dict[str, Path]:
    """Return the files of the uploads that are lists of sources."""
    roles = {port.role for port in request.pipeline.uploads if port.kind is Kind.LIST}
    return {upload.name: manifest.state / upload.path for upload in job.uploads if upload.name in roles}


def _check_recorded(kind: Kind, id: str, recorder: Recorder) -> None:
    try:
        found = recorder.artefact(id).kind
    except UnrecordedError as error:
        listed = "; /models lists them" if kind is Kind.MODEL else ""
        raise NotFoundFault(f"There is no {kind} {id}{listed}.") from error
    if found != kind:
        raise ParameterFault(f"{kind.upper()}={id} is of the kind {found}, not {kind}.")
    if recorder.destroyed(id):
        raise GoneFault(f"{kind.upper()}={id} was destroyed when its job's time was over; make it again.")
