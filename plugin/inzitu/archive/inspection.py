"""Looks at what a manifest names, before anybody depends on it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import TYPE_CHECKING

from inzitu.archive.nearby import MOST_BY_CONES, inspect_table
from inzitu.archive.partitions import ROWS, Partition, column_names, partitions
from inzitu.archive.patience import Patience
from inzitu.archive.spectra import fetch_spectra
from inzitu.archive.surveys import coverage_of, located
from inzitu.errors import ArchiveFault, Fault, ManifestFault, TableFault
from inzitu.hips import Survey
from inzitu.pipelines import pipelines
from inzitu.pipelines.download import DownloadParameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inzitu.manifest import CatalogueEntry, Manifest, Source

PATIENCE = Patience(silence=30.0, answer=60.0, job=120.0, attempts=2, parts=1)
"""An operator waits for the answer."""


def inspect(manifest: Manifest) -> Iterator[str]:
    """Yield a line about each survey, the catalogue, the sources, the pipelines and the state folder.

    Raises
    ------
    ManifestFault
        One of them cannot be used.
    """
    try:
        manifest = located(manifest, anew=True, patience=PATIENCE)
    except ArchiveFault as error:
        raise ManifestFault(str(error)) from error
    for entry in manifest.archive.surveys:
        try:
            survey = Survey.open(entry.hips)
            area = coverage_of(entry).area
        except (OSError, ValueError) as error:
            raise ManifestFault(f"archive.surveys, band {entry.band}: {error}") from error
        where = f"{entry.id} at {entry.hips}" if entry.id else entry.hips
        yield (
            f"{entry.band}: {where}: order {survey.order}, tiles of {survey.tile_width} pixels, {survey.frame}, "
            f"{area:.4g} deg2"
        )
    yield _catalogue(manifest)
    for name, source in manifest.sources.items():
        yield _source(name, source)
    for name in pipelines(manifest.pipelines):
        yield f"pipeline: {name}"
    try:
        manifest.state.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=manifest.state) as probe:
            probe.write(b"0")
    except OSError as error:
        raise ManifestFault(f"state: {manifest.state} cannot be written: {error.strerror}.") from error
    yield f"state: {manifest.state}: can be written"


def _catalogue(manifest: Manifest) -> str:
    entry = manifest.archive.catalogue
    if entry.tap:
        return remote_catalogue(entry)
    wanted = (entry.id, entry.ra, entry.dec, *entry.magnitudes)
    try:
        there = column_names(Path(entry.path))
        if missing := [name for name in wanted if name not in there]:
            raise ManifestFault(
                f"archive.catalogue: {entry.path} has no column {', '.join(missing)}; it has {', '.join(there)}."
            )
        rows = sum(_rows(part, entry) for part in partitions(Path(entry.path)))
    except (OSError, ValueError, TableFault) as error:
        raise ManifestFault(f"archive.catalogue: {error}") from error
    return f"catalogue: {entry.path}: {rows:,} rows"


def _rows(part: Partition, entry: CatalogueEntry) -> int:
    """Return the rows of a partition; only a file that does not state them is read for it, in batches."""
    if part.rows is not None:
        return part.rows
    return sum(table.num_rows for table, _ in part.batches([entry.ra, entry.dec], rows=ROWS))


def remote_catalogue(entry: CatalogueEntry) -> str:
    """Return a line about a catalogue behind TAP.

    Raises
    ------
    ManifestFault
        The service or the table cannot be used.
    """
    try:
        with TemporaryDirectory() as folder:
            limits = inspect_table(entry, folder=Path(folder), patience=PATIENCE)
    except ArchiveFault as error:
        raise ManifestFault(f"archive.catalogue: {error}") from error
    how = "lists are uploaded" if limits.uploads else f"no uploads: lists of at most {MOST_BY_CONES:,} rows, as cones"
    most = "as many rows as it likes" if limits.output_rows is None else f"at most {limits.output_rows:,} rows"
    return f"catalogue: {entry.table} at {entry.tap}: {how}; it answers with {most}"


def _source(name: str, source: Source) -> str:
    try:
        with TemporaryDirectory() as folder:
            asked = DownloadParameters(source=name, top=1)
            rows, _ = fetch_spectra(asked, source, folder=Path(folder), patience=PATIENCE)
    except Fault as error:
        raise ManifestFault(f"sources.{name}: {error}") from error
    return f"source: {name}: a row of it has {', '.join(rows.column_names)}"
