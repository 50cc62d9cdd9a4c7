"""VOTable 1.4 documents, written as they come: a table of any length needs the memory of one batch.

Covers writing, as BINARY2 or TABLEDATA, and error documents (DALI 1.1, section 4.4). See `inzitu.tables.uploads` for
reading what users send.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from xml.etree import ElementTree as ET

import pyarrow as pa
import pyarrow.compute as pc
from defusedxml.ElementTree import iterparse

from inzitu.errors import Fault, as_fault
from inzitu.vo.binary2 import pack
from inzitu.vo.columns import as_text, concatenated, declared
from inzitu.vo.fields import MEANINGS, Field

NAMESPACE = "http://www.ivoa.net/xml/VOTable/v1.3"
_SEAM = "@rows@"


class Serialization(StrEnum):
    """How the rows stand in the document."""

    BINARY2 = "BINARY2"
    TABLEDATA = "TABLEDATA"


class Rows(Protocol):
    """Rows on their way out: batches, and when they are done, whether there were more than allowed."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """The columns."""

    @property
    def overflow(self) -> bool:
        """Whether rows were left out for a limit; known once the batches are read."""

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches, once."""


type Info = tuple[str, str, str | None]
"""Name, value and text of an INFO element."""


def votable(rows: Rows, serialization: Serialization, *, infos: Sequence[Info] = ()) -> Iterator[bytes]:
    """Yield a VOTable piece by piece.

    Too many rows, or a fault after the first ones were sent, stand in a last INFO named QUERY_STATUS (TAP 1.1,
    section 3.3).

    Parameters
    ----------
    rows
        The columns and the batches.
    serialization
        How the rows are written.
    infos
        INFO elements for the head, beside QUERY_STATUS=OK.
    """
    before: list[Info] = [("QUERY_STATUS", "OK", None), *infos]
    after: list[Info] = []
    yield _document(rows.fields, serialization, before, []).partition(_SEAM)[0].encode()
    try:
        yield from _base64(rows) if serialization is Serialization.BINARY2 else _tabledata(rows)
        if rows.overflow:
            after.append(("QUERY_STATUS", "OVERFLOW", None))
    except Fault as fault:
        after.append(("QUERY_STATUS", "ERROR", str(fault)))
    yield _document(rows.fields, serialization, before, after).partition(_SEAM)[2].encode()


def error_document(error: BaseException) -> bytes:
    """Return the VOTable that says what went wrong (DALI 1.1, section 4.4)."""
    root = ET.Element("VOTABLE", version="1.4", xmlns=NAMESPACE)
    resource = ET.SubElement(root, "RESOURCE", type="results")
    fault = as_fault(error)
    _add_info(resource, ("QUERY_STATUS", "ERROR", f"{fault.code}: {fault}"))
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + bytes(ET.tostring(root, encoding="utf-8"))


def metadata_document(fields: Sequence[Field], *, description: str | None = None) -> bytes:
    """Return a VOTable without rows: what a Parquet file carries to say what its columns mean."""
    root, _ = _frame(fields, [], [])
    if description:
        ET.SubElement(root, "DESCRIPTION").text = description
    return bytes(ET.tostring(root, encoding="utf-8"))


def field_meanings(path: Path) -> list[dict[str, str]]:
    """Return what the FIELDs of a VOTable's first table say of its columns, in order; the rows are not read."""
    found = []
    for _, element in iterparse(path, events=("start",)):
        name = element.tag.rpartition("}")[2]
        if name == "DATA":
            break
        if name == "FIELD":
            found.append({key: element.attrib[key] for key in MEANINGS if key in element.attrib})
    return found


def _frame(fields: Sequence[Field], before: Sequence[Info], after: Sequence[Info]) -> tuple[ET.Element, ET.Element]:
    """Return the root and the TABLE of a document that has no rows yet."""
    root = ET.Element("VOTABLE", version="1.4", xmlns=NAMESPACE)
    resource = ET.SubElement(root, "RESOURCE", type="results")
    for info in before:
        _add_info(resource, info)
    table = ET.SubElement(resource, "TABLE")
    for field in fields:
        _add_field(table, field)
    for info in after:
        _add_info(resource, info)
    return root, table


def _document(
    fields: Sequence[Field], serialization: Serialization, before: Sequence[Info], after: Sequence[Info]
) -> str:
    """Return the whole document with a seam where the rows belong."""
    root, table = _frame(fields, before, after)
    rows = ET.SubElement(ET.SubElement(table, "DATA"), serialization)
    if serialization is Serialization.BINARY2:
        rows = ET.SubElement(rows, "STREAM", encoding="base64")
    rows.text = _SEAM
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def _add_info(parent: ET.Element, info: Info) -> None:
    name, value, text = info
    ET.SubElement(parent, "INFO", name=name, value=value).text = text


def _add_field(table: ET.Element, field: Field) -> None:
    names = ("name", "datatype", "arraysize", "unit", "ucd", "utype", "xtype")
    attributes = {name: value for name in names if (value := getattr(field, name))}
    element = ET.SubElement(table, "FIELD", attributes)
    if field.description:
        ET.SubElement(element, "DESCRIPTION").text = field.description


def _base64(rows: Rows) -> Iterator[bytes]:
    """Yield the rows in base64, padded only at the very end."""
    rest = b""
    for batch in rows:
        data = rest + pack(batch, rows.fields)
        whole = len(data) - len(data) % 3
        yield binascii.b2a_base64(data[:whole])
        rest = data[whole:]
    yield binascii.b2a_base64(rest)


def _tabledata(rows: Rows) -> Iterator[bytes]:
    """Yield the rows as TR and TD elements; a null is an empty cell (VOTable 1.4, section 5.1)."""
    for batch in rows:
        columns = zip(declared(batch, rows.fields), rows.fields, strict=True)
        cells = [pc.fill_null(_cell_text(column), _blank(field)) for column, field in columns]
        parts: list[pa.Array | str] = ["<TR><TD>"]
        for cell in cells:
            parts += [cell, "</TD><TD>"]
        lines = pc.binary_join_element_wise(*parts[:-1], "</TD></TR>\n", "")
        yield concatenated(lines)


def _blank(field: Field) -> str:
    """Return the cell of a null: empty, but an array of fixed length must have its elements."""
    return " ".join(["NaN"] * field.length) if field.length and field.datatype in ("float", "double") else ""


def _cell_text(column: pa.Array) -> pa.Array:
    text = as_text(column)
    return _escaped(text) if pa.types.is_string(column.type) else text


def _escaped(text: pa.Array) -> pa.Array:
    """Return text that can stand in XML: entities for mark-up, and without the characters that XML cannot hold."""
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = pc.replace_substring(text, character, entity)
    return pc.replace_substring_regex(text, r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "?")
