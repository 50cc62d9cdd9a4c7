"""What the steps of a job will be given, before it runs: rows, and where the stamps of those that can be used lie.

Of lists that were sent that is their selection. Of a list that the job downloads nothing is known but how long it may
be; it is taken to be that long, all of it usable, and spread over what the archive covers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inzitu.archive.formats import parquet_files
from inzitu.archive.selection import coverages
from inzitu.errors import ArchiveFault
from inzitu.hips import Survey, bytes_to_read
from inzitu.pipelines import Kind
from inzitu.pipelines.download import DownloadParameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inzitu.archive.selection import Selection
    from inzitu.manifest import Manifest
    from inzitu.pipelines import Request
    from inzitu.pipelines.parameters import CutParameters

SAMPLE = 2000
"""Places whose tiles are counted for a list that is not there yet."""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Positions of stamps [deg], each standing for so many."""

    ra: np.ndarray
    dec: np.ndarray
    each: float = 1.0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Expectation:
    """What a job will work on.

    Attributes
    ----------
    rows
        Of all its lists.
    usable
        How many will be used, of each list.
    places
        Where their stamps lie.
    catalogue_bytes
        What is to be searched of the catalogue [byte].
    """

    rows: int
    usable: Mapping[str, int]
    places: tuple[Places, ...]
    catalogue_bytes: float

    def tiles_and_bytes(self, cut: CutParameters, manifest: Manifest) -> tuple[float, float]:
        """Return how many tiles lie under the stamps, and their size [byte]."""
        tiles = size = 0.0
        try:
            surveys = [Survey.open(entry.hips) for entry in manifest.archive.surveys]
            for places in self.places:
                found = bytes_to_read(surveys, places.ra, places.dec, size=cut.size, scale=cut.scale)
                tiles, size = (
                    total + round(places.each * part) for total, part in zip((tiles, size), found, strict=True)
                )
        except (OSError, ValueError) as error:
            raise ArchiveFault(f"A survey of the archive cannot be opened: {error}.") from error
        return tiles, size


def expectation(request: Request, found: Selection | None, manifest: Manifest) -> Expectation | None:
    """Return what a job will work on; None where a step makes a list of which nothing is known."""
    download = request.parameters.get("download")
    if makes_lists(request) and not isinstance(download, DownloadParameters):
        return None
    usable, places, rows, size = dict.fromkeys(("training", "targets"), 0), [], 0, 0.0
    if found is not None:
        ok = candidates(found.table, found.share)
        usable = {name: usable_rows(found, found.of(name)) for name in usable}
        places.append(Places(*(found.table[name].to_numpy()[ok] for name in ("ra", "dec"))))
        rows, size = found.table.num_rows, found.size
    if isinstance(download, DownloadParameters):
        usable["training"] = download.top
        places.append(_spread(download.top, manifest))
        rows, size = rows + download.top, size or _catalogue_bytes(manifest)
    return Expectation(rows=rows, usable=usable, places=tuple(places), catalogue_bytes=size)


def makes_lists(request: Request) -> bool:
    """Whether a step of the job makes a list, which nobody has seen before."""
    return any(port.kind is Kind.LIST for step in request.pipeline.steps for port in step.makes)


def candidates(rows: pa.Table, share: float) -> np.ndarray:
    """Return which rows will be used, or may be, as far as the catalogue was searched."""
    words = ["ok"] if share == 1 else ["ok", "unmatched"]
    return np.asarray(pc.is_in(rows["status"], pa.array(words)))


def usable_rows(found: Selection, rows: pa.Table) -> int:
    """Return how many of some rows will be used: extrapolated from what of the catalogue was searched."""
    ok, most = (int(candidates(rows, share).sum()) for share in (1, found.share))
    return most if found.share == 0 else min(most, round(ok / found.share))


def _spread(count: int, manifest: Manifest) -> Places:
    """Return places inside the coverage of all bands that stand for so many."""
    first, *others = coverages(manifest).values()
    ra, dec = first.intersection(*others).sample(min(count, SAMPLE))
    return Places(ra, dec, count / max(1, len(ra)))


def _catalogue_bytes(manifest: Manifest) -> float:
    """Return the size of the catalogue's files; of one behind TAP nothing is known."""
    path = manifest.archive.catalogue.path
    return sum(file.stat().st_size for file in parquet_files(Path(path))) if path else 0.0
