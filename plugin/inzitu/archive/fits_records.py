"""Binary FITS tables record by record, so that a table of any length can be read some rows at a time."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from inzitu.archive.packed import content, is_packed
from inzitu.errors import TableFault

BYTES = 16 << 20
"""How much of the records is read at a time [byte]."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """What turns the stored number of a column into its value (FITS 4.0, section 7.3.2)."""

    factor: float
    zero: float
    null: int | None


@dataclass(frozen=True, slots=True)
class FitsLayout:
    """Where the records of a binary table are in the content of its file, and what they hold.

    Attributes
    ----------
    record
        One row, big-endian as it is stored.
    start
        Offset of the first row [byte].
    rows
        Number of rows.
    scalings
        Of the columns that need it.
    schema
        Names, units and UCDs of the columns.
    """

    record: np.dtype[np.void]
    start: int
    rows: int
    scalings: dict[str, Scaling]
    schema: pa.Schema

    def batches(
        self, path: Path, names: list[str], *, first: int = 0, rows: int | None = None, most: int
    ) -> Iterator[tuple[pa.Table, float]]:
        """Yield some columns of some rows of the file, at most so many at a time, and how much of them has been read.

        Raises
        ------
        ValueError
            The file ends before they do.
        """
        rows, size = self.rows - first if rows is None else rows, self.record.itemsize
        step = max(1, min(most, BYTES // size))
        with content(path) as (file, _):
            file.seek(self.start + first * size)
            for start in range(0, rows, step):
                count = min(step, rows - start)
                if len(records := file.read(count * size)) < count * size:
                    raise ValueError("it ends among its rows")
                yield self.columns(np.frombuffer(records, self.record), names), (start + count) / rows

    def columns(self, records: np.ndarray, names: list[str]) -> pa.Table:
        """Return some columns of some records, in the units of the table."""
        arrays = [self._column(name, records[name]) for name in names]
        return pa.table(
            arrays,
            schema=pa.schema(
                [self.schema.field(name).with_type(array.type) for name, array in zip(names, arrays, strict=True)]
            ),
        )

    def _column(self, name: str, values: np.ndarray) -> pa.Array[Any]:
        if values.ndim > 1 or values.dtype.kind == "c":
            raise ValueError(f"the column {name} holds arrays or complex numbers; name one with a number in each row")
        scaling = self.scalings.get(name)
        array: pa.Array[Any]
        if values.dtype.kind == "S":
            array = pa.array(np.char.decode(values, "ascii", "replace"))
        elif scaling is None:
            array = pa.array(values.astype(values.dtype.newbyteorder("=")))
        else:
            lost = None if scaling.null is None else values == scaling.null
            array = pa.array(values.astype(np.float64) * scaling.factor + scaling.zero, mask=lost)
        return array


def fits_layout(path: Path) -> FitsLayout | None:
    """Return the layout of the first table of a FITS file; None if it is one of ASCII.

    Raises
    ------
    TableFault
        The file holds no table, or ends before its table does.
    """
    from astropy.io import fits

    with open_fits_table(path) as hdu:
        if isinstance(hdu, fits.TableHDU):
            return None
        fields = [
            pa.field(column.name, pa.null(), metadata=_said(column, hdu.header, number))
            for number, column in enumerate(hdu.columns, start=1)
        ]
        scalings = {
            column.name: Scaling(column.bscale or 1.0, column.bzero or 0.0, column.null)
            for column in hdu.columns
            if column.bscale or column.bzero or column.null is not None
        }
        start, rows = hdu.fileinfo()["datLoc"], hdu.header["NAXIS2"]
        return FitsLayout(hdu.columns.dtype.newbyteorder(">"), start, rows, scalings, pa.schema(fields))


@contextmanager
def open_fits_table(path: Path) -> Iterator[Any]:
    """Open a FITS file and give its first table, known to be whole.

    Raises
    ------
    TableFault
        The file holds no table, or ends before its table does, or its header is not as the standard has it.
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyUserWarning

    with warnings.catch_warnings():
        # astropy warns where a file ends early; what matters of that is an error here.
        warnings.simplefilter("ignore", AstropyUserWarning)
        with fits.open(path, memmap=True) as hdus:
            impossible = TableFault(f"{path.name} states a size of its table that none has; write or send it again.")
            try:
                hdu = next((hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)), None)
            except OSError as error:
                if error.errno == errno.EINVAL:  # astropy looks for its end before the file
                    raise impossible from error
                raise
            if hdu is None:
                _read_through(path)  # a stream that is cut off has no table for astropy
                raise TableFault(f"{path.name} is a FITS file without a table; give one with a table extension.")
            width, rows, heap = (hdu.header[key] for key in ("NAXIS1", "NAXIS2", "PCOUNT"))
            if min(width, rows, heap) < 0:
                raise impossible
            end = hdu.fileinfo()["datLoc"] + width * rows + heap
            # How long a compressed file is shows when it is read.
            if end > (size := path.stat().st_size) and not is_packed(path):
                raise TableFault(
                    f"{path.name} is truncated: its table ends at byte {end}, it at {size}; send it again."
                )
            try:
                yield hdu
            except fits.VerifyError as error:
                raise TableFault(f"{path.name} is no valid FITS table: {error}; write it again.") from error


def _read_through(path: Path) -> None:
    """Raise if a compressed file is damaged."""
    if is_packed(path):
        with content(path) as (file, _):
            while file.read(BYTES):
                pass


def _said(column: Any, header: Any, number: int) -> dict[str, str]:
    said = {"unit": column.unit, "ucd": header.get(f"TUCD{number}"), "description": header.get(f"TCOMM{number}")}
    return {key: str(text) for key, text in said.items() if text}
