"""Positions of a list of any length, some rows at a time.

Parquet (a file, a partitioned folder, a HATS catalogue), binary FITS, text and VOTable, each plain or compressed with
gzip, are read in batches, in bounded memory; `inzitu.archive.partitions` tells what is read whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inzitu.archive.catalogues import position_columns, positions
from inzitu.archive.formats import parquet_files
from inzitu.archive.partitions import Partition
from inzitu.errors import TableFault
from inzitu.sky.hats import position_names


@dataclass(frozen=True, slots=True)
class Batch:
    """Positions of some rows in a row.

    Attributes
    ----------
    ra, dec
        Positions [deg], ICRS; NaN where there is none.
    fraction
        How much of the list has been read with this batch.
    """

    ra: np.ndarray
    dec: np.ndarray
    fraction: float


def position_batches(
    path: Path, *, columns: tuple[str, str] | None = None, unit: str | None = None, frame: str | None = None
) -> Iterator[Batch]:
    """Yield the positions of a list, batch by batch, in the order of its rows.

    Parameters
    ----------
    path
        A file, or a folder of Parquet files, which count in the order of their paths.
    columns
        Names of the columns with the positions, if they are not to be guessed; a HATS catalogue states them.
    unit
        Unit of both columns, in place of the list's own; hours are those of the right ascension only.
    frame
        "icrs", "galactic" or "fk4", in place of what the list says.

    Raises
    ------
    TableFault
        The list cannot be read, or has no rows, or none with a position.
    """
    files = parquet_files(path)
    if columns is None and path.is_dir():
        columns = position_names(path)
    ra, dec = columns or (None, None)
    rows = usable = 0
    for number, file in enumerate(files):
        part = Partition.whole(file)
        with _named(file):
            wanted = position_columns(part.schema.empty_table(), ra=ra, dec=dec)
        for table, read in part.batches(wanted):
            with _named(file):
                lon, lat = positions(table, ra=ra, dec=dec, unit=unit, frame=frame)
            rows, usable = rows + len(lon), usable + int((~np.isnan(lon)).sum())
            yield Batch(lon, lat, (number + read) / len(files))
    if not rows:
        raise TableFault(f"{path.name} has no rows; give at least one.")
    if not usable:
        raise TableFault(
            f"None of the {rows:,} rows of {path.name} has a usable position in {' and '.join(wanted)}; "
            "state the columns or their unit, if they are others than these."
        )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say of which list a fault is, for there are two in a crossmatch."""
    try:
        yield
    except TableFault as error:
        raise TableFault(str(error) if path.name in str(error) else f"{path.name}: {error}") from error


def read_positions(
    path: Path, *, columns: tuple[str, str] | None = None, unit: str | None = None, frame: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of a whole list [deg], and nothing else of it; see `position_batches`."""
    batches = list(position_batches(path, columns=columns, unit=unit, frame=frame))
    return np.concatenate([batch.ra for batch in batches]), np.concatenate([batch.dec for batch in batches])
