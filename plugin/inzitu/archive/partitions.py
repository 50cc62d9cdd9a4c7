"""A table in files as partitions: rows that are read together, by whichever worker is free, some at a time.

A Parquet table (file, partitioned folder, HATS) is divided by its row groups, a binary FITS table by rows; text, a
VOTable and what is compressed with gzip are one partition. All are read in batches, in bounded memory, but for FITS
tables in ASCII and VOTables with a stream in another encoding than base64, which are read whole and may not be large.
Parquet within gzip, whose end is needed first, is unpacked onto the disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from inzitu.archive.delimited import csv_batches, text_layout
from inzitu.archive.fits_records import fits_layout
from inzitu.archive.formats import as_table_fault, format_of, parquet_files, read_table
from inzitu.archive.packed import is_packed, unpacked
from inzitu.archive.votable_rows import votable_batches, votable_layout
from inzitu.errors import TableFault

ROWS = 1 << 20
"""Rows that a partition should have; a row group may have more."""
BUFFER = 1 << 20
"""How much of a Parquet column is read at a time [byte]."""
MOST_WHOLE = 256 << 20
"""Largest file of those that are read whole [byte]."""

type Range = tuple[float, float]
"""Least and greatest value of a column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Some rows of a table, wherever they are read.

    Attributes
    ----------
    path, form
        The file, and its format.
    size
        What its file, or its share of it, takes on disk [byte].
    start, rows
        First row in the file and number of rows; None where only reading tells.
    groups
        Row groups of a Parquet file; None for all.
    ranges
        What the file says of the values of its columns of floating-point numbers, by name.
    """

    path: Path
    form: str
    size: int
    start: int = 0
    rows: int | None = None
    groups: tuple[int, ...] | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)

    @classmethod
    def whole(cls, path: Path) -> Partition:
        """Return a file as one partition.

        Raises
        ------
        TableFault
            It is of no format that is read here.
        """
        return cls(path=path, form=format_of(path), size=path.stat().st_size)

    @property
    def schema(self) -> pa.Schema:
        """Names of the columns and what the file says of them, its rows unread where the format allows.

        Raises
        ------
        TableFault
            The file cannot be read.
        """
        with as_table_fault(self.path, self.form):
            match self.form:
                case "parquet":
                    with unpacked(self.path) as plain:
                        return pq.read_schema(plain)
                case "fits" if (records := fits_layout(self.path)) is not None:
                    return records.schema
                case "csv":
                    return text_layout(self.path).schema
                case "votable" if (rows := votable_layout(self.path)) is not None:
                    return rows.schema
                case _:
                    return self._whole().schema

    def batches(
        self, names: Sequence[str], *, rows: int = ROWS, text: Collection[str] = ()
    ) -> Iterator[tuple[pa.Table, float]]:
        """Yield some columns, at most so many rows at a time, and how much of the partition has been read.

        Parameters
        ----------
        names
            The columns.
        rows
            Most rows at a time.
        text
            Those columns that are text, where the format does not say: numbers of a text table lose digits otherwise.

        Raises
        ------
        TableFault
            The file cannot be read.
        """
        with as_table_fault(self.path, self.form):
            before = 0.0
            for table, read in self._tables(list(names), rows, text):
                for first in range(0, table.num_rows, rows):
                    some = table.slice(first, rows)
                    yield some, before + (read - before) * (first + some.num_rows) / table.num_rows
                before = read

    def _tables(self, names: list[str], rows: int, text: Collection[str]) -> Iterator[tuple[pa.Table, float]]:
        match self.form:
            case "parquet":
                with unpacked(self.path) as plain:
                    yield from self._row_groups(plain, names, rows)
            case "fits" if (records := fits_layout(self.path)) is not None:
                yield from records.batches(self.path, names, first=self.start, rows=self.rows, most=rows)
            case "csv":
                yield from csv_batches(self.path, text_layout(self.path), names, text=text)
            case "votable" if (layout := votable_layout(self.path)) is not None:
                yield from votable_batches(self.path, layout, names)
            case _:
                yield self._whole().select(names), 1.0

    def _whole(self) -> pa.Table:
        """Return the table of a file that cannot be read some rows at a time."""
        with unpacked(self.path) as plain:
            if (size := plain.stat().st_size) > MOST_WHOLE:
                raise TableFault(
                    f"{self.path.name} has {size / 2**20:,.0f} MB in a form of {self.form} that is read whole, which "
                    f"is done to {MOST_WHOLE >> 20} MB; turn it into Parquet or a binary FITS table."
                )
            return read_table(plain)

    def _row_groups(self, path: Path, names: list[str], rows: int) -> Iterator[tuple[pa.Table, float]]:
        # Without these two, Arrow keeps what it has read of every row group until the last is done.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
            groups = range(file.num_row_groups) if self.groups is None else self.groups
            total, done = sum(file.metadata.row_group(group).num_rows for group in groups), 0
            for batch in file.iter_batches(rows, row_groups=list(groups), columns=names):
                done += batch.num_rows
                # A partition's file gives its columns in its own order.
                yield pa.Table.from_batches([batch]).select(names), done / total


def partitions(path: Path) -> list[Partition]:
    """Divide a table, in the order of its rows.

    Raises
    ------
    TableFault
        It cannot be read.
    """
    if path.is_dir():
        with as_table_fault(path, "parquet"):
            return [part for file in parquet_files(path) for part in _row_groups(file)]
    whole = Partition.whole(path)
    with as_table_fault(path, whole.form):
        if whole.form == "parquet" and not is_packed(path):
            return list(_row_groups(path))
        if whole.form == "fits" and (layout := fits_layout(path)) is not None:
            if is_packed(path):  # whoever reads the last of its rows unpacks the first
                return [replace(whole, rows=layout.rows)]
            width = layout.record.itemsize
            counts = {start: min(ROWS, layout.rows - start) for start in range(0, layout.rows, ROWS)}
            return [replace(whole, start=start, rows=rows, size=rows * width) for start, rows in counts.items()]
        return [whole]


def column_names(path: Path) -> list[str]:
    """Return the names of a table's columns.

    Raises
    ------
    TableFault
        It cannot be read.
    """
    first = parquet_files(path)[0] if path.is_dir() else path
    return list(Partition.whole(first).schema.names)


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
