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
from inzitu.pipelines.parameters import FEWEST_ROWS, EvaluateParameters, SelectParameters, TrainParameters
from inzitu.prov.history import UnrecordedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from inzitu.archive.lists import SourceList
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
        A list lacks what it must have, or is too long, or too short to train on.
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
    trained = [asked for asked in request.parameters.values() if isinstance(asked, TrainParameters)]
    if isinstance(select := request.parameters.get("select"), SelectParameters):
        labelled = {port.role for port in request.pipeline.uploads if port.labelled}
        for rows in read_lists(lists, select, most=manifest.limits.rows):
            if rows.name in labelled and not np.isfinite(rows.z).any():
                raise TableFault(
                    f"The {rows.name} list has no redshift; {request.pipeline.name} compares predictions with it. "
                    "Name the column z."
                )
            if trained and rows.labelled:
                _require_fit(rows, [each for asked in trained for each in asked.trainings])
    seen = [name for asked in trained for each in asked.trainings for name in each.scalars]
    if request.model is not None:
        seen += _scalars_of(recorder.store.path(request.model))
    each = {f"the {role} list": (path,) for role, path in lists.items()}
    require_columns(seen, each, manifest, said="The network sees {} beside each stamp (SCALARS)")
    evaluated = request.parameters.get("evaluate")
    if isinstance(evaluated, EvaluateParameters) and download is None:
        slices = [name for name in evaluated.slices if name != "z"]
        require_columns(slices, {"a list": lists.values()}, manifest, said="SLICES names {}")


def _require_fit(rows: SourceList, trainings: Iterable[TrainParameters]) -> None:
    """Refuse a list to train on with too few rows or redshifts beyond a head, whatever the archive has of it."""
    good = np.isfinite(rows.ra) & np.isfinite(rows.dec) & np.isfinite(rows.z) & (rows.z >= 0)
    if (count := int(good.sum())) < FEWEST_ROWS:
        raise TableFault(
            f"Only {count} of the {len(rows):,} rows of the {rows.name} list have a position and a redshift; training "
            f"takes at least {FEWEST_ROWS}."
        )
    least = min(trainings, key=lambda asked: asked.highest_redshift)
    if len(beyond := np.flatnonzero(good & (rows.z > least.highest_redshift))):
        raise TableFault(
            f"{len(beyond):,} of the {len(rows):,} rows of the {rows.name} list have a redshift beyond "
            f"HEAD={least.head}, the first is row {beyond[0]} with z {rows.z[beyond[0]]:g}. Let the head reach "
            f"further, up to the largest, {rows.z[good].max():g}, or leave them out."
        )


def require_columns(
    names: Iterable[str], places: Mapping[str, Iterable[Path]], manifest: Manifest, *, said: str
) -> None:
    """Refuse names that are neither a magnitude of the catalogue nor, in each place, a column of one of its lists.

    Parameters
    ----------
    places
        Lists, by what a message calls them together.
    said
        What names them, with ``{}`` for the name.

    Raises
    ------
    TableFault
        There is such a name.
    """
    magnitudes = [f"mag_{name}" for name in manifest.archive.catalogue.magnitudes]
    wanted = [name for name in dict.fromkeys(names) if name not in magnitudes]
    for place, paths in places.items() if wanted else ():
        columns = dict.fromkeys(column for path in paths for column in _columns(path))
        for name in wanted:
            if name.lower() not in map(str.lower, columns):
                raise TableFault(
                    f"{said.format(name)}, which is no column of {place} ({', '.join(columns)}) and no magnitude of "
                    f"the catalogue ({', '.join(magnitudes) or 'it has none'})."
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
