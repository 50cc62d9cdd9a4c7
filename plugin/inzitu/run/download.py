"""The step download: a list of sources with redshift, fetched from where the manifest allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pyarrow.parquet as pq

from inzitu.archive.spectra import check_download, fetch_spectra
from inzitu.errors import TableFault
from inzitu.run.work import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inzitu.pipelines.download import DownloadParameters
    from inzitu.run.work import Work


def download(parameters: DownloadParameters, _: Mapping[str, Path], work: Work) -> Outcome:
    """Fetch the list, page by page; a worker that takes over goes on with the next page."""
    source = check_download(parameters, work.manifest)
    table, reading = fetch_spectra(parameters, source, folder=work.checkpoints / "pages", progress=work.progress)
    if table.num_rows == 0:
        raise TableFault(f"The source {parameters.source} has nothing that was asked for; widen the filters.")
    path = work.folder / "training.parquet"
    pq.write_table(table, path)
    answers = pq.read_table(reading)
    work.log(f"{table.num_rows:,} rows from {parameters.source} in {answers.num_rows:,} answers")
    return Outcome(
        made={"training": path},
        readings={"answers": reading},
        account={"downloaded": table.num_rows, "bytes_read": pc.sum(answers["bytes"]).as_py()},
        certain=False,  # what a service holds by now, nothing here can tell
    )
