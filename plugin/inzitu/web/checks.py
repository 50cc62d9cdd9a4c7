"""What is known of a job before it queues: that its parameters are right and that its lists can be read.

What needs the archive itself, as which rows are in the footprint, is found by the job.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from inzitu import pipelines
from inzitu.archive.formats import format_of, read_table
from inzitu.archive.lists import read_lists
from inzitu.archive.packed import unpacked
from inzitu.archive.spectra import check_download
from inzitu.errors import GoneFault, NotFoundFault, ParameterFault, TableFault
from inzitu.pipelines import Kind
from inzitu.pipelines.download import DownloadParameters
from inzitu.pipelines.parameters import EvaluateParameters, SelectParameters, TrainParameters
from inzitu.prov.history import UnrecordedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
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
    lists = _lists(job, request, manifest)
    if isinstance(select := request.parameters.get("select"), SelectParameters):
        labelled = {port.role for port in request.pipeline.uploads if port.labelled}
        for rows in read_lists(lists, select, most=manifest.limits.rows):
            if rows.name in labelled and not np.isfinite(rows.z).any():
                raise TableFault(
                    f"The {rows.name} list has no redshift; {request.pipeline.name} compares predictions with it. "
                    "Name the column z."
                )
    trained = [asked for asked in request.parameters.values() if isinstance(asked, TrainParameters)]
    seen = [name for asked in trained for each in asked.trainings for name in each.scalars]
    if request.model is not None:
        seen += _scalars_of(recorder.store.path(request.model))
    require_scalars(seen, lists, manifest)
    evaluated = request.parameters.get("evaluate")
    if isinstance(evaluated, EvaluateParameters) and download is None:
        require_slices(evaluated.slices, lists, manifest)


def require_scalars(names: Iterable[str], lists: Mapping[str, Path], manifest: Manifest) -> None:
    """Refuse scalars that are neither a magnitude of the catalogue nor a column of each list.

    Raises
    ------
    TableFault
        There is one.
    """
    magnitudes = [f"mag_{name}" for name in manifest.archive.catalogue.magnitudes]
    wanted = [name for name in dict.fromkeys(names) if name not in magnitudes]
    for role, path in lists.items() if wanted else ():
        columns = _columns(path)
        for name in wanted:
            if name.lower() not in map(str.lower, columns):
                raise TableFault(
                    f"The network sees {name} beside each stamp (SCALARS), which is no column of the {role} list "
                    f"({', '.join(columns)}) and no magnitude of the catalogue "
                    f"({', '.join(magnitudes) or 'it has none'})."
                )


def require_slices(names: Iterable[str], lists: Mapping[str, Path], manifest: Manifest) -> None:
    """Refuse slices by what is neither z, nor a magnitude of the catalogue, nor a column of any list.

    Raises
    ------
    TableFault
        There is one.
    """
    magnitudes = [f"mag_{name}" for name in manifest.archive.catalogue.magnitudes]
    if not (wanted := [name for name in names if name not in ("z", *magnitudes)]):
        return
    columns = {column: None for path in lists.values() for column in _columns(path)}
    for name in wanted:
        if name.lower() not in map(str.lower, columns):
            raise TableFault(
                f"SLICES names {name}, which is neither z, nor a column of a list ({', '.join(columns)}), nor a "
                f"magnitude of the catalogue ({', '.join(magnitudes) or 'it has none'})."
            )


def _scalars_of(model: Path) -> list[str]:
    """Return the numbers that a model sees beside a stamp, by its bundle."""
    return list(json.loads((model / "model.json").read_text(encoding="utf-8"))["recipe"]["scalars"])


def _columns(path: Path) -> list[str]:
    """Return the names of a list's columns; of a Parquet file, which may be wide, without reading them."""
    with unpacked(path) as plain:
        form = format_of(plain)
        schema = pq.read_schema(plain) if form == "parquet" else read_table(plain, format=form).schema
        return list(schema.names)


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
