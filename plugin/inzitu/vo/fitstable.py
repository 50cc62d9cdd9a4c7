"""Rows as a FITS binary table."""

from __future__ import annotations

from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inzitu.vo.columns import as_text, declared
from inzitu.vo.fields import Field
from inzitu.vo.votable import Rows

_FORMATS = {"boolean": "L", "unsignedByte": "B", "short": "I", "int": "J", "long": "K", "float": "E", "double": "D"}


def write(rows: Rows, file: IO[bytes]) -> None:
    """Write all rows into an open file.

    Floating-point nulls are NaN. Other numbers have no null in FITS but by a value of their own: the least one of the
    type, as TNULL says. Arrays whose length differs from row to row are written as text.
    """
    from astropy.io import fits

    fields = rows.fields
    gathered: list[list[pa.Array]] = [[] for _ in fields]
    for batch in rows:
        for column, values in zip(gathered, declared(batch, fields), strict=True):
            column.append(values)
    columns = [
        _column(field, pa.chunked_array(chunks, field.arrow_type))
        for field, chunks in zip(fields, gathered, strict=True)
    ]
    table = fits.BinTableHDU.from_columns(columns)
    for i, field in enumerate(fields, 1):
        for key, text in (("TUCD", field.ucd), ("TCOMM", field.description)):
            if text:
                table.header[f"{key}{i}"] = text.encode("ascii", "replace").decode()[:66]
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(file)


def _column(field: Field, values: pa.ChunkedArray) -> Any:
    from astropy.io import fits

    column = values.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    if field.is_text or (pa.types.is_nested(column.type) and field.length is None):
        text = np.char.encode(pc.fill_null(as_text(column), "").to_numpy(zero_copy_only=False).astype(str), "utf-8")
        return fits.Column(field.name, f"{max(text.dtype.itemsize, 1)}A", array=text, unit=field.unit)
    code = _FORMATS[field.datatype]
    if field.length is not None:
        array = np.full((len(column), field.length), np.nan if code in "ED" else 0, code_type(field))
        array[column.is_valid().to_numpy(zero_copy_only=False)] = (
            column.flatten().to_numpy(zero_copy_only=False).reshape(-1, field.length)
        )
        return fits.Column(field.name, f"{field.length}{code}", array=array, unit=field.unit)
    if code in "EDL":
        filled = column if code != "L" else column.fill_null(False)
        return fits.Column(field.name, code, array=filled.to_numpy(zero_copy_only=False), unit=field.unit)
    null = 255 if code == "B" else int(np.iinfo(code_type(field)).min)
    array = column.fill_null(null).to_numpy(zero_copy_only=False)
    return fits.Column(field.name, code, array=array, unit=field.unit, null=null if column.null_count else None)


def code_type(field: Field) -> np.dtype[Any]:
    """Return the type of a field's numbers."""
    scalar = field.arrow_type.value_type if pa.types.is_list(field.arrow_type) else field.arrow_type
    numpy_type: np.dtype[Any] = np.dtype(scalar.to_pandas_dtype())
    return numpy_type
