"""The rows of a VOTable as BINARY2: a mask of nulls, then the values, big-endian (VOTable 1.4, section 5.4).

A row with strings has a length of its own, so rows are laid out in two steps: the length of each piece of each row
gives every piece its place, then each piece is scattered to its places, one column at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inzitu.vo.columns import declared
from inzitu.vo.fields import Field

type Bytes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class _Ragged:
    """A piece whose length differs from row to row; `data` holds the rows one after the other."""

    lengths: np.ndarray[tuple[int], np.dtype[np.int64]]
    data: Bytes


type _Piece = Bytes | _Ragged


def pack(batch: pa.RecordBatch, fields: tuple[Field, ...]) -> bytes:
    """Return the rows of a batch as BINARY2."""
    columns = declared(batch, fields)
    pieces: list[_Piece] = [_null_mask(columns, batch.num_rows)]
    for column, field in zip(columns, fields, strict=True):
        pieces += _pieces(column, field)
    return _laid_out(_merged(pieces))


def _null_mask(columns: list[pa.Array], rows: int) -> Bytes:
    """Return one bit a column, the first column in the highest bit, set where the value is null."""
    nulls = np.zeros((rows, len(columns)), bool)
    for i, column in enumerate(columns):
        if column.null_count:
            nulls[:, i] = column.is_null().to_numpy(zero_copy_only=False)
    return np.packbits(nulls, axis=1)


def _pieces(column: pa.Array, field: Field) -> list[_Piece]:
    if field.is_text:
        data = column.fill_null("").cast(pa.binary())
        return _prefixed(pc.binary_length(data).to_numpy(), _flat_bytes(data), 1)
    if field.arraysize is None:
        return [_big_endian(column.fill_null(False if field.datatype == "boolean" else 0))]
    if field.length is not None:
        return [_fixed(column, field.length)]
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    elements = _big_endian(column.flatten().fill_null(_blank(column)))
    return _prefixed(lengths, elements.reshape(-1), elements.shape[1] if len(elements) else 0)


def _prefixed(counts: np.ndarray, data: Bytes, width: int) -> list[_Piece]:
    """Return a count of elements and the elements: how BINARY2 writes what has no fixed length."""
    prefix = counts.astype(">i4").view(np.uint8).reshape(-1, 4)
    return [prefix, _Ragged(counts.astype(np.int64) * width, data)]


def _flat_bytes(data: pa.BinaryArray) -> Bytes:
    """Return the bytes of all values, one after the other."""
    _, offsets, values = data.buffers()
    ends = np.frombuffer(offsets, np.int32)[data.offset : data.offset + len(data) + 1]
    return np.frombuffer(values or b"", np.uint8)[ends[0] : ends[-1]]


def _fixed(column: pa.ListArray, length: int) -> Bytes:
    """Return arrays of one length; a null row is zeros, for its bit in the mask says that it is null."""
    present = column.is_valid().to_numpy(zero_copy_only=False)
    elements = _big_endian(column.flatten().fill_null(_blank(column)))
    rows = np.zeros((len(column), length * elements.shape[1]), np.uint8)
    rows[present] = elements.reshape(-1, rows.shape[1])
    return rows


def _blank(column: pa.ListArray) -> float:
    """Return what stands for a null element: VOTable has no null inside an array."""
    return float("nan") if pa.types.is_floating(column.type.value_type) else 0


def _big_endian(column: pa.Array) -> Bytes:
    """Return a column without nulls as bytes, (row, byte)."""
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype == bool:
        return np.where(values, np.uint8(ord("T")), np.uint8(ord("F")))[:, None]
    swapped = np.ascontiguousarray(values, values.dtype.newbyteorder(">"))
    return swapped.view(np.uint8).reshape(len(values), values.dtype.itemsize)


def _merged(pieces: list[_Piece]) -> list[_Piece]:
    """Return the pieces with neighbours of fixed length joined into one."""
    merged: list[_Piece] = []
    run: list[Bytes] = []
    for piece in pieces:
        if isinstance(piece, _Ragged):
            merged += [np.concatenate(run, axis=1), piece] if run else [piece]
            run = []
        else:
            run.append(piece)
    return [*merged, np.concatenate(run, axis=1)] if run else merged


def _laid_out(pieces: list[_Piece]) -> bytes:
    """Return the bytes of all rows, each the row's pieces one after the other."""
    if len(pieces) == 1 and not isinstance(pieces[0], _Ragged):
        return pieces[0].tobytes()
    rows = np.zeros(_rows(pieces), np.int64)
    for piece in pieces:
        rows += piece.lengths if isinstance(piece, _Ragged) else piece.shape[1]
    places = np.cumsum(rows) - rows
    out = np.empty(int(rows.sum()), np.uint8)
    for piece in pieces:
        places = _scattered(out, places, piece)
    return out.tobytes()


def _rows(pieces: list[_Piece]) -> int:
    return len(pieces[0].lengths) if isinstance(pieces[0], _Ragged) else pieces[0].shape[0]


def _scattered(out: Bytes, places: np.ndarray, piece: _Piece) -> np.ndarray:
    """Write one piece of every row and return where the next piece of each row begins."""
    if isinstance(piece, _Ragged):
        starts = np.cumsum(piece.lengths) - piece.lengths
        out[np.repeat(places - starts, piece.lengths) + np.arange(len(piece.data))] = piece.data
        return places + piece.lengths
    if len(places):
        windows = np.lib.stride_tricks.sliding_window_view(out, piece.shape[1], writeable=True)
        windows[places] = piece
    return places + piece.shape[1]
