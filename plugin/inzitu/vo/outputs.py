"""The formats in which rows are sent: their names, media types and writers (TAP 1.1, section 2.7.3)."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inzitu.errors import ParameterFault
from inzitu.vo.columns import as_text, concatenated, declared
from inzitu.vo.fields import Field
from inzitu.vo.votable import Info, Rows, Serialization, metadata_document, votable

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Output:
    """A format of results."""

    media_type: str
    aliases: tuple[str, ...]
    suffix: str
    write: Callable[[Rows, Sequence[Info]], Iterator[bytes]]
    standard: str | None = None

    def is_called(self, name: str) -> bool:
        """Whether a client means this format: by alias, or by media type with or without parameters in any spacing."""
        wanted = "".join(name.lower().split())
        return wanted in ("".join(self.media_type.lower().split()), *self.aliases)


def output(name: str | None) -> Output:
    """Return the format that RESPONSEFORMAT names; VOTable if it names none.

    Raises
    ------
    ParameterFault
        There is no such format.
    """
    if not name:
        return OUTPUTS[0]
    for form in OUTPUTS:
        if form.is_called(name):
            return form
    known = ", ".join(form.aliases[0] for form in OUTPUTS)
    raise ParameterFault(f"RESPONSEFORMAT={name} is not offered; take one of {known}.")


def _binary2(rows: Rows, infos: Sequence[Info]) -> Iterator[bytes]:
    return votable(rows, Serialization.BINARY2, infos=infos)


def _tabledata(rows: Rows, infos: Sequence[Info]) -> Iterator[bytes]:
    return votable(rows, Serialization.TABLEDATA, infos=infos)


def _delimited(
    delimiter: str, quoted: Callable[[pa.Array], pa.Array]
) -> Callable[[Rows, Sequence[Info]], Iterator[bytes]]:
    def write(rows: Rows, _infos: Sequence[Info]) -> Iterator[bytes]:
        """Yield a line of names, then a line a row; an array is its elements with a space between them."""
        names = quoted(pa.array([field.name for field in rows.fields])).to_pylist()
        yield delimiter.join(names).encode() + b"\r\n"
        for batch in rows:
            cells = [pc.fill_null(_cell(column, quoted), "") for column in declared(batch, rows.fields)]
            lines = pc.binary_join_element_wise(*cells, delimiter)
            yield concatenated(pc.binary_join_element_wise(lines, "\r\n", ""))

    return write


def _cell(column: pa.Array, quoted: Callable[[pa.Array], pa.Array]) -> pa.Array:
    return quoted(column) if pa.types.is_string(column.type) else as_text(column)


def _csv_quoted(text: pa.Array) -> pa.Array:
    """Return text with quotes about what would be read as more than one cell (RFC 4180)."""
    special = pc.match_substring_regex(text, '[",\r\n]')
    if not pc.any(special).as_py():
        return text
    doubled = pc.replace_substring(text, '"', '""')
    return pc.if_else(special, pc.binary_join_element_wise('"', doubled, '"', ""), text)


def _tsv_quoted(text: pa.Array) -> pa.Array:
    """Return text without tabs and line ends, which TSV has no way to write."""
    return pc.replace_substring_regex(text, "[\t\r\n]", " ")


def _json(rows: Rows, _infos: Sequence[Info]) -> Iterator[bytes]:
    """Yield an object with `metadata`, one entry a column, and `data`, one array a row; not a number is null."""
    metadata = [_described(field) for field in rows.fields]
    yield b'{"metadata": ' + json.dumps(metadata).encode() + b',\n"data": ['
    separator = "\n"
    for batch in rows:
        columns = [column.to_pylist() for column in declared(batch, rows.fields)]
        lines = (json.dumps(_finite(row), allow_nan=False) for row in zip(*columns, strict=True))
        yield (separator + ",\n".join(lines)).encode()
        separator = ",\n"
    yield f'],\n"overflow": {json.dumps(rows.overflow)}}}\n'.encode()


def _described(field: Field) -> dict[str, str]:
    names = ("name", "datatype", "arraysize", "unit", "ucd", "utype", "xtype", "description")
    return {name: value for name in names if (value := getattr(field, name))}


def _finite(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_finite(element) for element in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parquet(rows: Rows, _infos: Sequence[Info]) -> Iterator[bytes]:
    """Yield a Parquet file whose metadata holds a VOTable that says what the columns mean (VOParquet 1.0)."""
    document = metadata_document(rows.fields).decode()
    schema = pa.schema([field.arrow() for field in rows.fields]).with_metadata(
        {"IVOA.VOTable-Parquet.version": "1.0", "IVOA.VOTable-Parquet.content": document}
    )
    with tempfile.TemporaryFile() as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in rows:
                writer.write_batch(_shaped(batch, rows.fields, schema))
        yield from _pieces(file)


def _shaped(batch: pa.RecordBatch, fields: tuple[Field, ...], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [column.cast(t) for column, t in zip(declared(batch, fields), schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _fits(rows: Rows, _infos: Sequence[Info]) -> Iterator[bytes]:
    """Yield a FITS file with one binary table.

    The header states the number of rows and the longest string, so the rows are gathered first.
    """
    from inzitu.vo.fitstable import write

    with tempfile.TemporaryFile() as file:
        write(rows, file)
        yield from _pieces(file)


def _pieces(file: Any) -> Iterator[bytes]:
    file.seek(0)
    while piece := file.read(_PIECE):
        yield piece


OUTPUTS: tuple[Output, ...] = (
    Output(
        "application/x-votable+xml",
        ("votable", "votable/b2", "application/x-votable+xml;serialization=binary2", "text/xml"),
        "vot",
        _binary2,
        "ivo://ivoa.net/std/TAPRegExt#output-votable-binary2",
    ),
    Output(
        "application/x-votable+xml;serialization=tabledata",
        ("votable/td",),
        "vot",
        _tabledata,
        "ivo://ivoa.net/std/TAPRegExt#output-votable-td",
    ),
    Output("text/csv;header=present", ("csv", "text/csv"), "csv", _delimited(",", _csv_quoted)),
    Output("text/tab-separated-values", ("tsv",), "tsv", _delimited("\t", _tsv_quoted)),
    Output("application/fits", ("fits",), "fits", _fits),
    Output("application/json", ("json",), "json", _json),
    Output("application/vnd.apache.parquet", ("parquet", "application/parquet"), "parquet", _parquet),
)
"""The first is the default."""
