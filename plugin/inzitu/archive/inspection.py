"""Looks at what a manifest names, before anybody depends on it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from inzitu.archive.catalogues import read_table
from inzitu.errors import ManifestFault
from inzitu.hips import Survey
from inzitu.pipelines import pipelines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inzitu.manifest import Manifest


def inspect(manifest: Manifest) -> Iterator[str]:
    """Yield a line about each survey, the catalogue and the state folder.

    Raises
    ------
    ManifestFault
        One of them cannot be used.
    """
    for entry in manifest.archive.surveys:
        try:
            survey = Survey.open(entry.hips)
            area = survey.coverage().area
        except (OSError, ValueError) as error:
            raise ManifestFault(f"archive.surveys, band {entry.band}: {error}") from error
        yield (
            f"{entry.band}: {entry.hips}: order {survey.order}, tiles of {survey.tile_width} pixels, {survey.frame}, "
            f"{area:.4g} deg2"
        )
    yield _catalogue(manifest)
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
    try:
        table = read_table(Path(entry.path))
    except (OSError, ValueError) as error:
        raise ManifestFault(f"archive.catalogue: {error}") from error
    wanted = (entry.id, entry.ra, entry.dec, *entry.magnitudes)
    if missing := [name for name in wanted if name not in table.column_names]:
        raise ManifestFault(
            f"archive.catalogue: {entry.path} has no column {', '.join(missing)}; "
            f"it has {', '.join(table.column_names)}."
        )
    return f"catalogue: {entry.path}: {table.num_rows:,} rows"
