"""FITS and ECSV by astropy, and astropy's tables as Arrow tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from inzitu.archive.fits_records import open_fits_table

if TYPE_CHECKING:
    from astropy.table import Column, Table


def read_fits(path: Path) -> pa.Table:
    """Read the first table of a FITS file.

    Raises
    ------
    TableFault
        The file holds no table, or ends before its table does.
    """
    from astropy.table import Table

    with open_fits_table(path) as hdu:
        header = hdu.header
        numbers = range(1, header["TFIELDS"] + 1)
        said = {header.get(f"TTYPE{n}", ""): {"ucd": header.get(f"TUCD{n}", "")} for n in numbers}
        return arrow_of(Table.read(hdu, format="fits"), said)


def read_ecsv(path: Path) -> pa.Table:
    """Read an ECSV file, whose header has units."""
    from astropy.table import Table

    return arrow_of(Table.read(path, format="ascii.ecsv"), {})


def arrow_of(table: Table, said: Mapping[str, Mapping[str, str]]) -> pa.Table:
    """Return an astropy table as an Arrow table: masked values are null, units go into the fields' metadata.

    So does what else is said of a column. Columns of complex numbers have no counterpart in Arrow and are left out.
    """
    fields, arrays = [], []
    for name in table.colnames:
        if (array := _arrow_array(table[name])) is not None:
            words = {"unit": table[name].unit, "description": table[name].description, **said.get(name, {})}
            fields.append(pa.field(name, array.type, metadata={key: str(text) for key, text in words.items() if text}))
            arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))


def _arrow_array(column: Column) -> pa.Array[Any] | None:
    values = np.ma.getdata(column)
    masked = np.ma.getmaskarray(column)
    array: pa.Array[Any]
    match values.dtype.kind:
        case "c":
            return None
        case "O":
            return _ragged(values, masked)
        case "S":
            values = np.char.decode(values, "utf-8", "replace")
        case _:
            values = values.astype(values.dtype.newbyteorder("="), copy=False)
    array = pa.array(values.ravel(), mask=masked.ravel())
    return array if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(array, int(np.prod(values.shape[1:])))


def _ragged(values: np.ndarray, masked: np.ndarray) -> pa.Array[Any]:
    """Return text, or arrays of different lengths, as Arrow."""
    cells = [None if lost else value for value, lost in zip(values, masked, strict=True)]
    if not all(cell is None or isinstance(cell, str) for cell in cells):
        cells = [None if cell is None else np.ma.filled(np.ravel(cell), np.nan).tolist() for cell in cells]
    array: pa.Array[Any] = pa.array(cells)
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array
