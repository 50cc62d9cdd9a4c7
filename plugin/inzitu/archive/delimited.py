"""Text tables: comma, tab, semicolon, bar or blanks between the columns, comments before the header, ECSV.

The header is the first line that is no comment; where that line holds a number, the last comment is the header
(`# ra dec z`, as TOPCAT writes ASCII). SkyServer's first line `#Table1` is a comment.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from inzitu.errors import TableFault

NULLS = ["", "null", "NULL", "Null", "nan", "NaN", "NAN", "N/A", "n/a", "NA", "--", "\\N"]
"""How a text table may say that a value is missing."""
DELIMITERS = ",\t;|"
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text table is laid out.

    Attributes
    ----------
    delimiter
        What stands between the columns; a blank stands for any number of blanks.
    skipped
        Lines before the first row.
    names
        Names of the columns.
    described
        The comments are those of ECSV, with units.
    """

    delimiter: str
    skipped: int
    names: tuple[str, ...]
    described: bool

    @property
    def streams(self) -> bool:
        """Arrow's reader takes it as it is, block by block."""
        return self.delimiter != " " and not self.described


def layout_of(path: Path) -> Layout:
    """Find the layout of a text table from its first lines.

    Raises
    ------
    TableFault
        There is no header, or it names a column twice.
    """
    comment, skipped, described = "", 0, False
    with path.open(encoding="utf-8-sig", errors="replace", newline=None) as file:
        for line in file:
            text = line.strip()
            if text and not text.startswith("#"):
                return _layout(path.name, text, comment, skipped, described)
            described = described or text.startswith("# %ECSV")
            comment, skipped = text.lstrip("# ") or comment, skipped + 1
    raise TableFault(f"{path.name} has comments only; give a header with the names of the columns, then rows.")


def _layout(name: str, line: str, comment: str, skipped: int, described: bool) -> Layout:
    delimiter = max(DELIMITERS, key=line.count) if any(d in line for d in DELIMITERS) else " "
    first = _fields(line, delimiter)
    headed = not any(NUMBER.fullmatch(field) for field in first)
    names = first if headed else _fields(comment, delimiter)
    if len(names) != len(first) or (not comment and not headed):
        raise TableFault(f"{name} has no header: its first line is {line[:60]!r}. Put the names of the columns there.")
    if twice := {field for field in names if names.count(field) > 1}:
        raise TableFault(f"{name} names the column {sorted(twice)[0]!r} twice; give each a name of its own.")
    return Layout(delimiter, skipped + headed, tuple(names), described)


def _fields(line: str, delimiter: str) -> list[str]:
    fields = line.split() if delimiter == " " else line.split(delimiter)
    return [field.strip().strip("\"'") for field in fields]


def read_csv(path: Path) -> pa.Table:
    """Read a text table; types are found from the values.

    Raises
    ------
    TableFault
        It has no header, or a row of another number of columns.
    """
    layout = layout_of(path)
    if layout.described:
        from inzitu.archive.astropy_tables import read_ecsv

        return read_ecsv(path)
    return pyarrow.csv.read_csv(
        _single_blanks(path) if layout.delimiter == " " else path,
        read_options=csv_reading(layout),
        parse_options=pyarrow.csv.ParseOptions(delimiter=layout.delimiter),
        convert_options=csv_conversion(),
    )


def csv_reading(layout: Layout, **more: Any) -> pyarrow.csv.ReadOptions:
    """Return where the rows begin and what the columns are called, as options of Arrow's reader."""
    return pyarrow.csv.ReadOptions(skip_rows=layout.skipped, column_names=list(layout.names), **more)


def csv_conversion(**more: Any) -> pyarrow.csv.ConvertOptions:
    """Return what counts as a missing value, as options of Arrow's reader."""
    return pyarrow.csv.ConvertOptions(null_values=NULLS, strings_can_be_null=True, **more)


def _single_blanks(path: Path) -> io.BytesIO:
    """Return the text with one blank where there are more, and none at the ends of the lines."""
    return io.BytesIO(re.sub(rb"(?m)^[ \t]+|[ \t]+$|(?<=[ \t])[ \t]+", b"", path.read_bytes()))
