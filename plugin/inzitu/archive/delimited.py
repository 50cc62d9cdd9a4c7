"""Text tables: comma, tab, semicolon, bar or blanks between the columns, comments before the header, ECSV.

The header is the first line that is no comment; where that line holds a number, the last comment is the header
(`# ra dec z`, as TOPCAT writes ASCII). SkyServer's first line `#Table1` is a comment.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from inzitu.archive.packed import content
from inzitu.errors import TableFault

BYTES = 4 << 20
"""How much text is read at a time [byte]."""
NULLS = ["", "null", "NULL", "Null", "nan", "NaN", "NAN", "N/A", "n/a", "NA", "--", "\\N"]
"""How a text table may say that a value is missing."""
DELIMITERS = ",\t;|"
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


@dataclass(frozen=True, slots=True)
class TextLayout:
    """How a text table is laid out.

    Attributes
    ----------
    delimiter
        What stands between the columns; a blank stands for any number of blanks.
    skipped
        Lines before the first row.
    schema
        Names of the columns, and what the header of ECSV says of each.
    described
        The comments are those of ECSV.
    """

    delimiter: str
    skipped: int
    schema: pa.Schema
    described: bool


def text_layout(path: Path) -> TextLayout:
    """Find the layout of a text table from its first lines.

    Raises
    ------
    TableFault
        There is no header, or it names a column twice.
    """
    comments: list[str] = []
    with content(path) as (file, _):
        for text in (line.strip() for block in file for line in block.decode("utf-8-sig", "replace").splitlines()):
            if text and not text.startswith("#"):
                return _layout(path.name, text, comments)
            comments.append(text)
    raise TableFault(f"{path.name} has comments only; give a header with the names of the columns, then rows.")


def _layout(name: str, line: str, comments: Sequence[str]) -> TextLayout:
    described = any(text.startswith("# %ECSV") for text in comments)
    delimiter = max(DELIMITERS, key=line.count) if any(d in line for d in DELIMITERS) else " "
    first = _fields(line, delimiter)
    headed = not any(NUMBER.fullmatch(field) for field in first)
    comment = next((text for text in map(_bare, reversed(comments)) if text), "")
    names = first if headed else _fields(comment, delimiter)
    if len(names) != len(first) or (not comment and not headed):
        raise TableFault(f"{name} has no header: its first line is {line[:60]!r}. Put the names of the columns there.")
    if twice := {field for field in names if names.count(field) > 1}:
        raise TableFault(f"{name} names the column {sorted(twice)[0]!r} twice; give each a name of its own.")
    said = _said(comments) if described else {}
    schema = pa.schema([pa.field(field, pa.null(), metadata=said.get(field)) for field in names])
    return TextLayout(delimiter, len(comments) + headed, schema, described)


def _bare(comment: str) -> str:
    return comment.lstrip("# ")


def _fields(line: str, delimiter: str) -> list[str]:
    fields = line.split() if delimiter == " " else line.split(delimiter)
    if any(field.count('"') % 2 for field in fields):  # a name between quotes holds the delimiter
        fields = next(csv.reader([line], delimiter=delimiter))
    return [field.strip().strip("\"'") for field in fields]


def _said(comments: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return unit and description of each column, from the header of ECSV."""
    from astropy.table.meta import get_header_from_yaml

    header = get_header_from_yaml([text.removeprefix("# ") for text in comments if text.startswith("# ")])
    keys = ("unit", "description")
    return {column["name"]: {key: str(column[key]) for key in keys if key in column} for column in header["datatype"]}


def read_csv(path: Path) -> pa.Table:
    """Read a text table; types are found from the values.

    Raises
    ------
    TableFault
        It has no header, or a row of another number of columns.
    """
    layout = text_layout(path)
    if layout.described:
        from inzitu.archive.astropy_tables import read_ecsv

        return read_ecsv(path)
    options = pyarrow.csv.ReadOptions(column_names=layout.schema.names, skip_rows=layout.skipped)
    try:
        return _table(path.read_bytes(), layout, options)
    except pa.ArrowInvalid:
        _refuse_odd_line(path, layout)
        raise


def csv_batches(
    path: Path, layout: TextLayout, names: Sequence[str], *, text: Collection[str] = ()
) -> Iterator[tuple[pa.Table, float]]:
    """Yield some columns of all rows, and how much of the file has been read.

    Parameters
    ----------
    path
        The file, plain or compressed with gzip.
    layout
        How it is laid out.
    names
        The columns: numbers, or text where a block of the file has something among them that is no number.
    text
        Those of them that are text, whatever they look like.
    """
    options = pyarrow.csv.ReadOptions(column_names=layout.schema.names)
    for block, fraction in _blocks(path, layout):
        if not block or block.isspace():
            continue
        for numbers in (pa.float64(), pa.string()):
            kinds = {name: pa.string() if name in text else numbers for name in names}
            try:
                table = _table(block, layout, options, include_columns=list(names), column_types=kinds)
            except pa.ArrowInvalid as error:
                if "conversion error" not in str(error) or numbers == pa.string():
                    _refuse_odd_line(path, layout)
                    raise
                continue
            fields = [layout.schema.field(name).with_type(table.schema.field(name).type) for name in names]
            yield table.cast(pa.schema(fields)), fraction
            break


def _refuse_odd_line(path: Path, layout: TextLayout) -> None:
    """Name the line that has another number of values than there are columns, for Arrow does not."""
    wanted = len(layout.schema)
    with content(path) as (file, _):
        for number, line in enumerate(file, start=1):
            text = line.decode("utf-8-sig", "replace").strip("\r\n")
            if number > layout.skipped and text.strip() and (found := len(_fields(text, layout.delimiter))) != wanted:
                raise TableFault(
                    f"{path.name}: line {number} has {found} value{'s' * (found > 1)} where the header names {wanted}; "
                    "mend or remove it, or send the list again if it was cut off there."
                )


def _blocks(path: Path, layout: TextLayout) -> Iterator[tuple[bytes, float]]:
    """Yield the text of whole rows, block by block."""
    with content(path) as (file, fraction):
        for _ in range(layout.skipped):
            if b"\r" in file.readline().rstrip(b"\r\n"):
                raise ValueError("its lines end with CR alone; let them end with LF")
        rest = b""
        while block := file.read(BYTES):
            whole, end, after = block.rpartition(b"\n")
            if end:
                yield rest + whole + end, fraction()
            rest = after if end else rest + after
        yield rest, 1.0


def _table(text: bytes, layout: TextLayout, options: pyarrow.csv.ReadOptions, **conversion: Any) -> pa.Table:
    if layout.delimiter == " " and not layout.described:
        text = _single_blanks(text)
    return pyarrow.csv.read_csv(
        pa.py_buffer(text),
        read_options=options,
        parse_options=pyarrow.csv.ParseOptions(delimiter=layout.delimiter),
        convert_options=pyarrow.csv.ConvertOptions(null_values=NULLS, strings_can_be_null=True, **conversion),
    )


def _single_blanks(text: bytes) -> bytes:
    """Return a text with one blank where there are more, and none at the ends of the lines."""
    return re.sub(rb"(?m)^[ \t]+|[ \t]+$|(?<=[ \t])[ \t]+", b"", text)
