"""A table in files as partitions: rows that are read together, by whichever worker is free.

A Parquet table (file, partitioned folder, HATS) is divided by its row groups, a binary FITS table by rows; CSV is one
partition, read in batches. Other forms are read whole: turn a large VOTable into Parquet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from inzitu.archive.delimited import csv_conversion, csv_reading, layout_of
from inzitu.archive.fits_records import fits_layout
from inzitu.archive.formats import as_table_fault, format_of, parquet_files, read_table

ROWS = 1 << 20
"""Rows that a partition should have; a row group may have more."""
BUFFER = 1 << 20
"""How much of a Parquet column is read at a time [byte]."""
BYTES = 16 << 20
"""Size of a block of text [byte]."""

type Range = tuple[float, float]
"""Least and greatest value of a column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Some rows of a table, wherever they are read.

    Attributes
    ----------
    path, form
        The file, and its format.
    start, rows
        First row in the file and number of rows; None where only reading tells.
    groups
        Row groups of a Parquet file.
    size
        What its file, or its share of it, takes on disk [byte].
    ranges
        What the file says of the values of its columns of floating-point numbers, by name.
    """

    path: Path
    form: str
    start: int = 0
    rows: int | None = None
    groups: tuple[int, ...] = ()
    size: int
    ranges: dict[str, Range]

    def batches(self, names: Sequence[str], *, rows: int) -> Iterator[pa.Table]:
        """Yield some columns, so many rows at a time or fewer.

        Raises
        ------
        TableFault
            The file cannot be read.
        """
        with as_table_fault(self.path, self.form):
            for table in self._tables(list(names), rows):
                for first in range(0, table.num_rows, rows):
                    yield table.slice(first, rows)

    def about_rows(self) -> int | None:
        """Return how many rows there are, of a text by the length of its first lines; None if it is read whole."""
        if self.rows is not None or self.form != "csv" or not layout_of(self.path).streams:
            return self.rows
        with self.path.open("rb") as file:
            start = file.read(BUFFER)
        return round(self.size * start.count(b"\n") / max(1, len(start)))

    def _tables(self, names: list[str], rows: int) -> Iterator[pa.Table]:
        match self.form:
            case "parquet":
                # Without these two, Arrow keeps what it has read of every row group until the last is done.
                with pq.ParquetFile(self.path, pre_buffer=False, buffer_size=BUFFER) as file:
                    for batch in file.iter_batches(rows, row_groups=list(self.groups), columns=names):
                        # A partition's file gives its columns in its own order.
                        yield pa.Table.from_batches([batch]).select(names)
            case "fits":
                yield from self._records(names, rows)
            case "csv" if (layout := layout_of(self.path)).streams:
                options = pyarrow.csv.ParseOptions(delimiter=layout.delimiter)
                conversion = csv_conversion(include_columns=names)
                reading = csv_reading(layout, block_size=BYTES)
                with pyarrow.csv.open_csv(self.path, reading, options, conversion) as reader:
                    yield from (pa.Table.from_batches([batch]) for batch in reader)
            case _:
                yield read_table(self.path, format=self.form).select(names)

    def _records(self, names: list[str], rows: int) -> Iterator[pa.Table]:
        layout = fits_layout(self.path)
        if layout is None:
            yield read_table(self.path, format="fits").select(names)
            return
        size = layout.record.itemsize
        for first in range(self.start, self.start + (self.rows or 0), rows):
            count = min(rows, self.start + (self.rows or 0) - first)
            records = np.fromfile(self.path, layout.record, count, offset=layout.start + first * size)
            yield layout.columns(records, names)


def partitions(path: Path) -> list[Partition]:
    """Divide a table, in the order of its rows.

    Raises
    ------
    TableFault
        It cannot be read.
    """
    form = format_of(path)
    with as_table_fault(path, form):
        match form:
            case "parquet":
                return [part for file in parquet_files(path) for part in _row_groups(file)]
            case "fits" if (layout := fits_layout(path)) is not None:
                return [
                    Partition(
                        path=path, form=form, start=start, rows=rows, size=rows * layout.record.itemsize, ranges={}
                    )
                    for start in range(0, layout.rows, ROWS)
                    for rows in (min(ROWS, layout.rows - start),)
                ]
            case _:
                return [Partition(path=path, form=form, size=path.stat().st_size, ranges={})]


def column_names(path: Path) -> list[str]:
    """Return the names of a table's columns, its rows unread where the format allows.

    Raises
    ------
    TableFault
        It cannot be read.
    """
    form = format_of(path)
    with as_table_fault(path, form):
        match form:
            case "parquet":
                return list(pq.read_schema(parquet_files(path)[0]).names)
            case "fits" if (layout := fits_layout(path)) is not None:
                return list(layout.schema.names)
            case "csv":
                return list(layout_of(path).names)
            case _:
                return list(read_table(path, format=form).column_names)


def _row_groups(path: Path) -> Iterator[Partition]:
    """Yield neighbouring row groups together, up to the rows of a partition."""
    about = pq.read_metadata(path)
    numbers: list[int] = []
    rows = 0
    for number in range(about.num_row_groups):
        count = about.row_group(number).num_rows
        if numbers and rows + count > ROWS:
            yield _groups(path, about, numbers)
            numbers, rows = [], 0
        numbers.append(number)
        rows += count
    if numbers:
        yield _groups(path, about, numbers)


def _groups(path: Path, about: pq.FileMetaData, numbers: list[int]) -> Partition:
    groups = [about.row_group(number) for number in numbers]
    columns = [[group.column(k) for group in groups] for k in range(about.num_columns)]
    said = {column[0].path_in_schema: _range(column) for column in columns}
    return Partition(
        path=path,
        form="parquet",
        rows=sum(group.num_rows for group in groups),
        groups=tuple(numbers),
        size=sum(chunk.total_compressed_size for column in columns for chunk in column),
        ranges={name: found for name, found in said.items() if found is not None},
    )


def _range(chunks: Sequence[pq.ColumnChunkMetaData]) -> Range | None:
    """Return between which values all chunks of a column lie, if each of them says so."""
    statistics = [chunk.statistics for chunk in chunks]
    if any(s is None or not s.has_min_max or s.physical_type not in ("FLOAT", "DOUBLE") for s in statistics):
        return None
    low, high = min(s.min for s in statistics), max(s.max for s in statistics)
    return (low, high) if low <= high else None  # NaN compares false
