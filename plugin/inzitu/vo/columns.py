"""Columns as they are written: cast to the type that their field declares, and as text.

Everything is done on whole columns by Arrow's kernels; a row is never a Python object.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inzitu.vo.fields import Field


def declared(batch: pa.RecordBatch, fields: tuple[Field, ...]) -> list[pa.Array]:
    """Return the columns of a batch, each in the Arrow type of its field."""
    return [_cast(column, field) for column, field in zip(batch.columns, fields, strict=True)]


def _cast(column: pa.Array, field: Field) -> pa.Array:
    if column.type.equals(field.arrow_type):
        return column
    if field.xtype == "timestamp" and pa.types.is_temporal(column.type):
        return pc.strftime(column.cast(pa.timestamp("us")), format="%Y-%m-%dT%H:%M:%S")
    if field.is_text and pa.types.is_nested(column.type):
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
    return column.cast(field.arrow_type, safe=False)


def as_text(column: pa.Array) -> pa.Array:
    """Return a declared column as strings, as TABLEDATA writes them; null stays null.

    An array is its elements with a space between them.
    """
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_list(column.type):
        elements = pc.fill_null(as_text(column.flatten()), "NaN")
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        joined = pc.binary_join(pa.ListArray.from_arrays(offsets, elements), " ")
        return pc.if_else(column.is_valid(), joined, pa.scalar(None, pa.string()))
    if pa.types.is_boolean(column.type):
        return pc.if_else(column, "true", "false")
    text = column.cast(pa.string())
    return _named_infinities(column, text) if pa.types.is_floating(column.type) else text


def _named_infinities(column: pa.Array, text: pa.Array) -> pa.Array:
    """Return the text with NaN and infinities as VOTable spells them (VOTable 1.4, section 2.1)."""
    if pc.all(pc.is_finite(column)).as_py() in (True, None):
        return text
    text = pc.if_else(pc.is_nan(column), "NaN", text)
    infinity = pc.if_else(pc.greater(column, 0), "+Inf", "-Inf")
    return pc.if_else(pc.is_inf(column), infinity, text)


def concatenated(lines: pa.StringArray) -> bytes:
    """Return all strings of an array, one after the other."""
    _, offsets, values = lines.buffers()
    if values is None or not len(lines):
        return b""
    ends = pa.Array.from_buffers(pa.int32(), len(lines) + 1, [None, offsets], offset=lines.offset)
    return bytes(values.slice(ends[0].as_py(), ends[-1].as_py() - ends[0].as_py()))
