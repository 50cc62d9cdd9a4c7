"""Rows of a VOTable some at a time, so that one of any length can be read: TABLEDATA, BINARY and BINARY2.

astropy reads the head of the table, which says what the fields are; the rows are cut out here (VOTable 1.4, sections 5
and 6). A table in another form (with a stream of another encoding) is left to astropy as a whole.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import pyarrow as pa

from inzitu.archive.packed import content
from inzitu.archive.votables import field_frames, refuse_entities, remote_data

BYTES = 4 << 20
"""What is read at a time [byte]."""
COMMENT = re.compile(rb"(?s)<!--.*?-->")
TAG = re.compile(rb"""<(?:"[^"]*"|'[^']*'|[^>"'])*>""")
ROW_END = re.compile(rb"</(?:\w+:)?TR\s*>")
CELL_END = re.compile(rb"<(?:\w+:)?TD\b[^>]*?/>|</(?:\w+:)?TD\s*>")
TYPES = {
    "boolean": "u1",
    "unsignedByte": "u1",
    "char": "S1",
    "short": ">i2",
    "unicodeChar": ">u2",
    "int": ">i4",
    "long": ">i8",
    "float": ">f4",
    "double": ">f8",
    "floatComplex": ">c8",
    "doubleComplex": ">c16",
}
"""Stored type of each datatype; bits are counted apart."""


@dataclass(frozen=True, slots=True)
class Field:
    """One column: its stored type and how many of it stand in a cell, None if each cell says."""

    name: str
    kind: np.dtype[Any]
    count: int | None
    null: int | None


@dataclass(frozen=True, slots=True)
class VotableLayout:
    """Where the rows of a VOTable begin, in which form, and what they hold."""

    form: str
    start: int
    fields: tuple[Field, ...]
    schema: pa.Schema


def votable_layout(path: Path) -> VotableLayout | None:
    """Return the layout of the first table, or None if its rows are in a form that is not read here.

    Raises
    ------
    TableFault
        It reaches beyond itself (`inzitu.archive.votables`).
    """
    from astropy.io.votable import parse

    refuse_entities(path)
    found = _find_rows(path)
    if found is None:
        return None
    form, data, start, closing = found
    with content(path) as (file, _):
        head = file.read(data) + closing
    table = next(iter(parse(io.BytesIO(head), verify="ignore").iter_tables()))
    if any(field.datatype == "bit" for field in table.fields):
        return None
    fields = tuple(_field(field) for field in table.fields)
    frames = field_frames(path)
    said = (_said(field, frames.get(field.name)) for field in table.fields)
    schema = pa.schema([pa.field(f.name, pa.null(), metadata=words) for f, words in zip(fields, said, strict=True)])
    return VotableLayout(form, start, fields, schema)


def votable_batches(path: Path, layout: VotableLayout, names: list[str]) -> Iterator[tuple[pa.Table, float]]:
    """Yield some columns of all rows, and how much of the file has been read."""
    wanted = [[field.name for field in layout.fields].index(name) for name in names]
    rows = _text_rows if layout.form == "TABLEDATA" else _binary_rows
    for columns, fraction in rows(path, layout, wanted):
        schema = pa.schema([layout.schema.field(i).with_type(a.type) for i, a in zip(wanted, columns, strict=True)])
        yield pa.table(columns, schema=schema), fraction


class _RowsReached(Exception):
    """The head of the table is over."""


def _find_rows(path: Path) -> tuple[str, int, int, bytes] | None:
    """Return the form of the rows, where DATA begins, where they begin, and the tags that close the head."""
    stack: list[str] = []
    found: tuple[str, int, dict[str, str]] | None = None
    data = 0

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal found, data
        name = tag.rpartition(":")[2]
        if name == "DATA":
            data = parser.CurrentByteIndex
        elif name in ("TABLEDATA", "STREAM", "FITS"):
            found = (name, parser.CurrentByteIndex, attributes)
            raise _RowsReached
        stack.append(tag)

    parser = expat.ParserCreate()
    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda _tag: stack.pop()
    with content(path) as (file, _):
        with suppress(_RowsReached):
            parser.ParseFile(file)
        if found is None:
            return None
        form, at, attributes = found
        file.seek(at)
        tag = TAG.match(file.read(4096))
    if "href" in attributes:
        raise remote_data(path)
    inner = stack[-1].rpartition(":")[2]
    if form == "FITS" or tag is None or tag[0].endswith(b"/>"):
        return None
    if form == "STREAM" and (attributes.get("encoding") != "base64" or inner not in ("BINARY", "BINARY2")):
        return None
    outside = stack[: next(i for i, name in enumerate(stack) if name.rpartition(":")[2] == "DATA")]
    closing = "".join(f"</{name}>" for name in reversed(outside)).encode()
    return inner if form == "STREAM" else form, data, at + len(tag[0]), closing


def _field(field: Any) -> Field:
    size = str(field.arraysize or "1")
    count = None if "*" in size else int(np.prod([int(part) for part in size.split("x")]))
    kind = np.dtype(TYPES[field.datatype])
    # Of other kinds, NaN and nothing are null as they are; VizieR states so.
    null = field.values.null if field.values is not None and kind.kind in "iu" else None
    return Field(field.name, kind, count, None if null is None else int(null))


def _said(field: Any, frame: str | None) -> dict[str, str]:
    said = {"unit": field.unit, "ucd": field.ucd, "description": field.description, "frame": frame}
    return {key: str(text) for key, text in said.items() if text}


def _text_rows(path: Path, layout: VotableLayout, wanted: list[int]) -> Iterator[tuple[list[pa.Array[Any]], float]]:
    fields = len(layout.fields)
    for text, fraction in _blocks(path, layout.start):
        text = COMMENT.sub(b"", _plain(text))
        if b"<!" in text:
            raise ValueError("it has CDATA, or a long comment with rows in it, among its rows; write it without")
        *cells, _ = text.split(b"</TD>")
        if len(cells) != fields * text.count(b"</TR>"):
            raise ValueError(f"a row has not the {fields} cells that the fields call for")
        yield [_cells(cells[k::fields], layout.fields[k]) for k in wanted], fraction


def _plain(text: bytes) -> bytes:
    """Return rows whose cells all end in </TD>, whatever prefixes and blanks their tags have; most are so already."""
    if b"/>" in text or text.count(b"</") != text.count(b"</TD>") + text.count(b"</TR>"):
        text = CELL_END.sub(lambda tag: b"<TD></TD>" if tag[0].endswith(b"/>") else b"</TD>", text)
        text = ROW_END.sub(b"</TR>", text)
    return text


def _cells(cells: list[bytes], field: Field) -> pa.Array[Any]:
    cells = [cell[cell.rindex(b"<") :].partition(b">")[2] for cell in cells]  # after its own tag, the last
    if field.kind.kind in "iuf":
        try:
            # A long integer, as many an identifier is one, has more digits than a float64.
            values = np.array(cells, dtype="S").astype(np.float64 if field.kind.kind == "f" else np.int64)
            return pa.array(values, mask=None if field.null is None else values == field.null)
        except (ValueError, OverflowError):
            pass  # An empty cell among them: read each as text.
    return pa.array([html.unescape(cell.decode("utf-8", "replace")).strip() or None for cell in cells], pa.string())


def _blocks(path: Path, start: int) -> Iterator[tuple[bytes, float]]:
    """Yield the text of whole rows, block by block, up to the end of the rows."""
    with content(path) as (file, fraction):
        file.seek(start)
        rest = b""
        while block := file.read(BYTES):
            text = rest + block
            if over := re.search(rb"</(?:\w+:)?TABLEDATA", text):
                yield text[: over.start()], 1.0
                return
            end = text.rfind(b"</TR>") + 5 if b"</TR>" in text else _last_end(text)
            yield text[:end], fraction()
            rest = text[end:]
    raise ValueError("it ends among its rows")


def _last_end(text: bytes) -> int:
    return max((match.end() for match in ROW_END.finditer(text)), default=0)


def _binary_rows(path: Path, layout: VotableLayout, wanted: list[int]) -> Iterator[tuple[list[pa.Array[Any]], float]]:
    flags = -(-len(layout.fields) // 8) if layout.form == "BINARY2" else 0
    rest = b""
    for block, fraction in _decoded(path, layout.start):
        rest += block
        cells, lost, used = _walk(rest, layout.fields, wanted, flags)
        rest = rest[used:]
        yield [_values(cells[k], lost[k], layout.fields[k]) for k in wanted], fraction
    if rest:
        raise ValueError("it ends within a row")


def _walk(
    content: bytes, fields: tuple[Field, ...], wanted: list[int], flags: int
) -> tuple[dict[int, list[bytes]], dict[int, list[bool]], int]:
    """Return the cells of the wanted fields in all whole rows, which of them are flagged null, and the rows' length."""
    cells: dict[int, list[bytes]] = {k: [] for k in wanted}
    lost: dict[int, list[bool]] = {k: [] for k in wanted}
    used = 0
    while True:
        at, spans = used + flags, []
        for field in fields:
            count = field.count
            if count is None:
                count, at = int.from_bytes(content[at : at + 4], "big"), at + 4
            spans.append((at, at + count * field.kind.itemsize))
            at = spans[-1][1]
        if at > len(content) or at == used:
            return cells, lost, used
        for k in wanted:
            cells[k].append(content[slice(*spans[k])])
            lost[k].append(bool(flags) and bool(content[used + k // 8] & (128 >> k % 8)))
        used = at


def _values(cells: list[bytes], lost: list[bool], field: Field) -> pa.Array[Any]:
    if field.kind.kind == "S" or field.kind == np.dtype(">u2"):
        code = "utf-8" if field.kind.kind == "S" else "utf-16-be"
        text = [cell.decode(code, "replace").rstrip("\0 ") or None for cell in cells]
        return pa.array(text, pa.string(), mask=np.array(lost, dtype=bool))
    if field.count != 1:
        raise ValueError(f"the column {field.name} holds arrays, which are no positions")
    values = np.frombuffer(b"".join(cells), dtype=field.kind)
    masked = np.array(lost, dtype=bool) | (values == field.null if field.null is not None else False)
    return pa.array(values.astype(field.kind.newbyteorder("=")), mask=masked)


def _decoded(path: Path, start: int) -> Iterator[tuple[bytes, float]]:
    """Yield what the base64 text stands for, block by block."""
    with content(path) as (file, fraction):
        file.seek(start)
        rest = b""
        while block := file.read(BYTES):
            text, end, _ = block.partition(b"<")
            text = rest + b"".join(text.split())
            whole = len(text) if end else len(text) // 4 * 4
            yield base64.b64decode(text[:whole]), 1.0 if end else fraction()
            if end:
                return
            rest = text[whole:]
    raise ValueError("it ends among its rows")
