"""Positions of a list of any length, some rows at a time.

Parquet (a file, a partitioned folder, a HATS catalogue), binary FITS, CSV and VOTable are read in batches, in bounded
memory; FITS tables in ASCII, text between blanks and VOTables with FITS inside are read whole. What is compressed with
gzip is unpacked into a temporary file first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from inzitu.archive.catalogues import position_columns, positions
from inzitu.archive.delimited import Layout, csv_conversion, csv_reading, layout_of
from inzitu.archive.fits_records import fits_layout
from inzitu.archive.formats import as_table_fault, format_of, parquet_files, read_table, unpacked
from inzitu.archive.votable_rows import votable_batches, votable_layout
from inzitu.errors import TableFault

ROWS = 1 << 20
"""Rows in a batch."""
BUFFER = 1 << 20
"""How much of a Parquet column is read at a time [byte]."""
BYTES = 16 << 20
"""Size of a block of text or of FITS records [byte]."""


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
        Names of the columns with the positions, if they are not to be guessed.
    unit
        Unit of the right ascension, in place of the list's own.
    frame
        "icrs" or "galactic", in place of what the columns say.

    Raises
    ------
    TableFault
        The list cannot be read, or has no positions, or no rows.
    """
    ra, dec = columns or (None, None)
    empty = True
    with unpacked(path) as plain:
        form = format_of(plain)
        with as_table_fault(path, form):
            for table, fraction in _batches(plain, form, ra, dec):
                if table.num_rows:
                    empty = False
                    yield Batch(*positions(table, ra=ra, dec=dec, unit=unit, frame=frame), fraction)
    if empty:
        raise TableFault(f"{path.name} has no rows; give at least one.")


def read_positions(
    path: Path, *, columns: tuple[str, str] | None = None, unit: str | None = None, frame: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of a whole list [deg], and nothing else of it; see `position_batches`."""
    batches = list(position_batches(path, columns=columns, unit=unit, frame=frame))
    return np.concatenate([batch.ra for batch in batches]), np.concatenate([batch.dec for batch in batches])


def _batches(path: Path, form: str, ra: str | None, dec: str | None) -> Iterator[tuple[pa.Table, float]]:
    match form:
        case "parquet":
            return _parquet_batches(path, ra, dec)
        case "csv":
            return _csv_batches(path, ra, dec)
        case "fits":
            return _fits_batches(path, ra, dec)
        case "votable":
            return _votable_batches(path, ra, dec)
        case _:
            return iter([(read_table(path, format=form), 1.0)])


def _wanted(schema: pa.Schema, ra: str | None, dec: str | None) -> list[str]:
    return position_columns(schema.empty_table(), ra=ra, dec=dec)


def _parquet_batches(path: Path, ra: str | None, dec: str | None) -> Iterator[tuple[pa.Table, float]]:
    files = parquet_files(path)
    for number, name in enumerate(files):
        # Without these two, Arrow keeps what it has read of every row group until the last is done.
        with pq.ParquetFile(name, pre_buffer=False, buffer_size=BUFFER) as file:
            rows, done = max(file.metadata.num_rows, 1), 0
            for batch in file.iter_batches(ROWS, columns=_wanted(file.schema_arrow, ra, dec)):
                done += batch.num_rows
                yield pa.Table.from_batches([batch]), (number + done / rows) / len(files)


def _csv_batches(path: Path, ra: str | None, dec: str | None) -> Iterator[tuple[pa.Table, float]]:
    layout = layout_of(path)
    if not layout.streams:
        yield read_table(path, format="csv"), 1.0
        return
    names = pa.schema([(name, pa.null()) for name in layout.names])
    wanted = _wanted(names, ra, dec)
    done = 0
    try:
        for table, fraction in _csv_columns(path, layout, wanted, pa.float64()):
            yield table, fraction
            done += table.num_rows
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error):
            raise
        # Text among the numbers, or sexagesimal angles: read as text, which is slower, from where it was met.
        for table, fraction in _csv_columns(path, layout, wanted, pa.string()):
            skipped = min(done, table.num_rows)
            done -= skipped
            yield table.slice(skipped), fraction


def _csv_columns(path: Path, layout: Layout, wanted: list[str], kind: pa.DataType) -> Iterator[tuple[pa.Table, float]]:
    with pyarrow.csv.open_csv(
        path,
        read_options=csv_reading(layout, block_size=BYTES),
        parse_options=pyarrow.csv.ParseOptions(delimiter=layout.delimiter),
        convert_options=csv_conversion(include_columns=wanted, column_types=dict.fromkeys(wanted, kind)),
    ) as reader:
        size, read = path.stat().st_size, 0
        for batch in reader:
            read += BYTES
            yield pa.Table.from_batches([batch]), min(read / size, 1.0)


def _fits_batches(path: Path, ra: str | None, dec: str | None) -> Iterator[tuple[pa.Table, float]]:
    layout = fits_layout(path)
    if layout is None:
        yield read_table(path, format="fits"), 1.0
        return
    wanted = _wanted(layout.schema, ra, dec)
    step = max(1, min(ROWS, BYTES // layout.record.itemsize))
    for start in range(0, layout.rows, step):
        count = min(step, layout.rows - start)
        records = np.fromfile(path, layout.record, count, offset=layout.start + start * layout.record.itemsize)
        yield layout.columns(records, wanted), (start + count) / layout.rows


def _votable_batches(path: Path, ra: str | None, dec: str | None) -> Iterator[tuple[pa.Table, float]]:
    layout = votable_layout(path)
    if layout is None:
        yield read_table(path, format="votable"), 1.0
    else:
        yield from votable_batches(path, layout, _wanted(layout.schema, ra, dec))
