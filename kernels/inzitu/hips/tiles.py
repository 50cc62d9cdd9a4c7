"""FITS tiles: their headers, what is wrong with them, and the rows of pixels that are needed of them.

A tile is read by position, not memory-mapped: the pages touched are the same, and a tile that is rewritten or truncated
while it is read becomes an error, where a map would end the process (SIGBUS). Pixels stay as they are in the file, big
end first; the compiled gather decodes those it uses.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

BLOCK = 2880
"""Bytes of a FITS block."""
WHOLE = 1 << 16
"""A tile of at most this many bytes is read whole."""
HEAD = 2 * BLOCK
"""Bytes read first of a larger one: its header is seldom longer."""
LONGEST_HEADER = 100 * BLOCK
WANTED = frozenset(
    key.encode().ljust(8)
    for key in ("BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "BSCALE", "BZERO", "BLANK", "TRIM1", "TRIM2")
)
BITPIX = frozenset((8, 16, 32, 64, -32, -64))


class TileError(OSError):
    """A tile that is there and cannot be used: truncated, corrupt, of another width, or not readable."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"{uri}: {reason}.")
        self.uri = uri
        self.reason = reason

    def __reduce__(self) -> tuple[type[TileError], tuple[str, str]]:
        """Travel between processes by what it was made of: an exception's own way passes the message alone."""
        return TileError, (self.uri, self.reason)


@runtime_checkable
class Handle(Protocol):
    """An open tile, wherever it lies."""

    @property
    def size(self) -> int:
        """Bytes of the tile."""

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop`, fewer where the tile ends before; raise `TileError`."""

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels lie in a tile's file, and what they stand for: BZERO + BSCALE x raw, BLANK for none."""

    start: int
    bitpix: int
    columns: int
    rows: int
    scale: float
    zero: float
    blank: float | None
    trimmed: tuple[int, int]
    """Columns and rows left out before the first, all blank."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.columns * abs(self.bitpix) // 8

    @property
    def stop(self) -> int:
        """Where the pixels end."""
        return self.start + self.rows * self.row_bytes


def parse_header(head: bytes, uri: str) -> Layout | None:
    """Return the layout that a FITS header states; None if the header goes on after `head`.

    Raises
    ------
    TileError
        These are not the bytes of a FITS image of two axes.
    """
    if not head.startswith(b"SIMPLE  ="):
        raise TileError(uri, f"not a FITS file, it begins with {head[:16]!r}")
    found: dict[bytes, bytes] = {}
    for at in range(0, len(head) - 79, 80):
        key = head[at : at + 8]
        if key == b"END     ":
            return _layout(found, (at // BLOCK + 1) * BLOCK, uri)
        if key in WANTED:
            found[key.rstrip()] = head[at + 10 : at + 80].partition(b"/")[0].strip()
    if len(head) >= LONGEST_HEADER:
        raise TileError(uri, "its header has no END")
    return None


def _layout(found: dict[bytes, bytes], start: int, uri: str) -> Layout:
    try:
        bitpix, axes = int(found[b"BITPIX"]), int(found[b"NAXIS"])
        if axes < 2 or int(found.get(b"NAXIS3", b"1")) != 1:
            raise TileError(uri, f"its first HDU has {axes} axes; a tile of an image HiPS has two")
        columns, rows = int(found[b"NAXIS1"]), int(found[b"NAXIS2"])
        scale, zero = _real(found.get(b"BSCALE", b"1")), _real(found.get(b"BZERO", b"0"))
        # The standard has an integer here; CDS's own DSS2 tiles say -32768.0.
        blank = _real(found[b"BLANK"]) if b"BLANK" in found and bitpix > 0 else None
        trimmed = int(found.get(b"TRIM1", b"0")), int(found.get(b"TRIM2", b"0"))
    except KeyError as error:
        raise TileError(uri, f"its header lacks {error.args[0].decode()}") from error
    except ValueError as error:
        raise TileError(uri, f"its header cannot be read ({error})") from error
    if bitpix not in BITPIX:
        raise TileError(uri, f"BITPIX is {bitpix}")
    if columns < 1 or rows < 1 or min(trimmed) < 0:
        raise TileError(uri, f"it has {columns} x {rows} pixels")
    return Layout(start, bitpix, columns, rows, scale, zero, blank, trimmed)


def _real(value: bytes) -> float:
    return float(value.replace(b"D", b"E"))


class Tile:
    """An open tile of which the rows asked for are in memory.

    Parameters
    ----------
    handle
        Where its bytes come from.
    uri
        Its name in messages and in the record.
    width
        Pixels along it, as the HiPS states.
    digest
        Whether to take the SHA-256 of what is read.

    Raises
    ------
    TileError
        The tile cannot be used.
    """

    __slots__ = ("_handle", "_hash", "_held", "_pixels", "_spans", "address", "bytes_read", "layout", "uri")

    def __init__(self, handle: Handle, uri: str, *, width: int, digest: bool) -> None:
        self._handle, self.uri, self.bytes_read = handle, uri, 0
        self._hash = hashlib.sha256() if digest else None
        self._spans: list[tuple[int, int]] = []
        whole = handle.size <= WHOLE
        content = self._read(0, handle.size if whole else HEAD)
        if content.startswith(b"\x1f\x8b") and not whole:
            content, whole = content + self._read(HEAD, handle.size), True
        size = handle.size
        if content.startswith(b"\x1f\x8b"):
            content = _inflated(content, uri)
            size = len(content)
        layout = parse_header(content, uri)
        while layout is None:
            if whole or len(content) >= size:
                raise TileError(uri, "its header has no END")
            content += self._read(len(content), len(content) + 10 * BLOCK)
            layout = parse_header(content, uri)
        if size < layout.stop:
            raise TileError(uri, f"truncated: it has {size} bytes of {layout.stop}")
        _check_width(layout, width, uri)
        self.layout = layout
        self._held = (0, layout.rows) if whole else (0, 0)
        if whole:
            self._pixels = np.frombuffer(content, np.uint8, layout.stop - layout.start, layout.start)
        else:
            self._pixels = np.empty(layout.stop - layout.start, np.uint8)
        if (layout.columns, layout.rows) != (width, width):
            self._untrim(width)
        self.address = int(self._pixels.__array_interface__["data"][0])

    def need(self, first: int, last: int) -> None:
        """Have the rows from `first` to `last` in memory."""
        low, high = self._held
        if low <= first and last < high:
            return
        if low == high:
            low = high = first
        for start, stop in ((min(first, low), low), (high, max(last + 1, high))):
            if start < stop:
                self._load(start, stop)
        self._held = min(first, low), max(last + 1, high)

    def values(self) -> Float[np.ndarray, "y x"]:
        """Return the pixels in file order, NaN where blank; all rows must be in memory."""
        layout = self.layout
        raw = self._pixels.view(_dtype(layout.bitpix)).reshape(layout.rows, layout.columns)
        values = layout.zero + layout.scale * raw.astype(float)
        if layout.blank is not None:
            values[raw == layout.blank] = np.nan
        return values

    @property
    def sha256(self) -> str:
        """Of what has been read, in that order; empty if it was not asked for."""
        return self._hash.hexdigest() if self._hash else ""

    @property
    def ranges(self) -> str:
        """Which bytes have been read, in that order, as HTTP writes ranges; empty for the whole file."""
        if self._spans == [(0, self._handle.size)]:
            return ""
        return ",".join(f"{start}-{stop - 1}" for start, stop in self._spans)

    def close(self) -> None:
        """Let go of the file."""
        self._handle.close()

    def _load(self, first: int, stop: int) -> None:
        step, start = self.layout.row_bytes, self.layout.start
        content = self._read(start + first * step, start + stop * step)
        if len(content) != (stop - first) * step:
            raise TileError(self.uri, "truncated while it was read")
        self._pixels[first * step : stop * step] = np.frombuffer(content, np.uint8)

    def _read(self, start: int, stop: int) -> bytes:
        content = self._handle.read(start, stop)
        self.bytes_read += len(content)
        if self._hash:
            self._hash.update(content)
        end = start + len(content)
        if self._spans and self._spans[-1][1] == start:
            start = self._spans.pop()[0]
        self._spans.append((start, end))
        return content

    def _untrim(self, width: int) -> None:
        """Put the blank margin back, as float64, which holds any value and NaN."""
        self.need(0, self.layout.rows - 1)
        full = np.full((width, width), np.nan, ">f8")
        column, row = self.layout.trimmed
        full[row : row + self.layout.rows, column : column + self.layout.columns] = self.values()
        self.layout = Layout(0, -64, width, width, 1.0, 0.0, None, (0, 0))
        self._pixels, self._held = full.view(np.uint8).ravel(), (0, width)


def _dtype(bitpix: int) -> np.dtype[np.generic]:
    kind = "f" if bitpix < 0 else "u" if bitpix == 8 else "i"
    return np.dtype(f">{kind}{abs(bitpix) // 8}")


def _check_width(layout: Layout, width: int, uri: str) -> None:
    column, row = layout.trimmed
    if column + layout.columns > width or row + layout.rows > width:
        raise TileError(uri, f"it is {layout.columns} x {layout.rows} pixels, but hips_tile_width is {width}")
    if (layout.columns, layout.rows) != (width, width) and layout.trimmed == (0, 0):
        # Trimmed tiles say what was left out (TRIM1, TRIM2), zeros included; without a word the width is wrong.
        raise TileError(uri, f"it is {layout.columns} x {layout.rows} pixels, but hips_tile_width is {width}")


def _inflated(content: bytes, uri: str) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise TileError(uri, f"its gzip stream is damaged ({error})") from error
