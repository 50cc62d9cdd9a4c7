"""Writing a HiPS tree: tiles as FITS files of 16-bit integers, and `properties`.

Covers what a tree needs that is made from pixels already in HEALPix order. Does not resample images and does not build
the lower orders: a HiPS states in `hips_order_min` where its tiles begin.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer

BLOCK = 2880
"""Bytes of a FITS block."""
BLANK = -32768
"""The integer that stands for a blank pixel; the others are -32767 to 32767."""


def tile_path(order: int, npix: int, suffix: str = "fits") -> str:
    """Return a tile's path inside its HiPS (HiPS 1.0, section 4.1)."""
    return f"Norder{order}/Dir{npix // 10000 * 10000}/Npix{npix}.{suffix}"


def nested_to_image(width: int) -> Integer[np.ndarray, "width width"]:
    """Return, for each (row, column) of a tile in file order, its pixel's place within the tile in nested order.

    A tile's columns run along HEALPix's y (north-west) and its rows against x (north-east), which puts north-east up as
    far as a diamond can: the order that CDS's Hipsgen writes.
    """
    x = np.arange(width - 1, -1, -1)[:, None]
    y = np.arange(width)[None, :]
    bits = range(int(width).bit_length() - 1)
    return sum((((x >> b) & 1) << 2 * b) | (((y >> b) & 1) << (2 * b + 1)) for b in bits) + np.zeros_like(x + y)


def encode_int16(values: Float[np.ndarray, ...]) -> tuple[Integer[np.ndarray, ...], float, float]:
    """Return 16-bit integers, BSCALE and BZERO that span the values; NaN becomes BLANK.

    The error is at most BSCALE / 2, that is 1/131068 of the span.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return np.full(values.shape, BLANK, np.int16), 1.0, 0.0
    low, high = float(values[finite].min()), float(values[finite].max())
    scale, zero = (high - low) / 65534 or 1.0, (high + low) / 2
    codes = np.rint((np.where(finite, values, zero) - zero) / scale)
    return np.where(finite, codes, BLANK).astype(np.int16), scale, zero


def write_tile(
    root: Path, order: int, npix: int, values: Float[np.ndarray, "width width"], *, frame: str = "equatorial"
) -> int:
    """Write one tile of float values in file order; return the bytes written."""
    codes, scale, zero = encode_int16(values)
    cards: dict[str, bool | int | float | str] = {
        "SIMPLE": True,
        "BITPIX": 16,
        "NAXIS": 2,
        "NAXIS1": codes.shape[1],
        "NAXIS2": codes.shape[0],
    }
    cards |= {"BSCALE": scale, "BZERO": zero, "BLANK": BLANK, "ORDER": order, "NPIX": npix}
    cards |= _projection(order, npix, codes.shape[0], frame)
    content = _header(cards) + _padded(codes.astype(">i2").tobytes(), b"\0")
    path = root / tile_path(order, npix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return len(content)


def write_properties(root: Path, properties: Mapping[str, str | int | float]) -> None:
    """Write the `properties` file, one `key = value` a line, in the order given."""
    lines = [f"{key:<20} = {value}" for key, value in properties.items()]
    (root / "properties").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _projection(order: int, npix: int, width: int, frame: str) -> dict[str, bool | int | float | str]:
    """Return the tile's world coordinates in the HPX projection, so that any FITS viewer places it on the sky.

    Calabretta & Roukema 2007 (MNRAS 381, 865) with H = 4, K = 3: a face is a square standing on its corner, its centre
    at (45 + 90 f, 45), (90 f, 0) or (45 + 90 f, -45) deg, f = 0..3.
    """
    side = width << order  # pixels along a face
    face, within = npix >> 2 * order, npix & ((1 << 2 * order) - 1)
    x0, y0 = (sum(((within >> (2 * b + shift)) & 1) << b for b in range(order)) * width for shift in (0, 1))
    ring, place = divmod(face, 4)
    u, v = 90.0 * place + (45 if ring != 1 else 0), 45.0 * (1 - ring)
    u -= 360 if u > 180 else 0
    x, y = side * (1 - (u + v) / 45) / 2, side * (1 + (u - v) / 45) / 2  # where (0, 0) deg lies, in pixels of this face
    step = 45 / side
    lon, lat = {
        "equatorial": ("RA---HPX", "DEC--HPX"),
        "galactic": ("GLON-HPX", "GLAT-HPX"),
        "ecliptic": ("ELON-HPX", "ELAT-HPX"),
    }[frame]
    return {
        "CRPIX1": y - y0 + 0.5, "CRPIX2": width - (x - x0) + 0.5,
        "CD1_1": -step, "CD1_2": -step, "CD2_1": step, "CD2_2": -step,
        "CTYPE1": lon, "CTYPE2": lat, "CRVAL1": 0.0, "CRVAL2": 0.0, "PV2_1": 4, "PV2_2": 3,
    }  # fmt: skip


def _header(cards: Mapping[str, bool | int | float | str]) -> bytes:
    """Return a FITS header, padded to whole blocks."""
    text = "".join(f"{key:<8}= {_value(value)}".ljust(80) for key, value in cards.items())
    return _padded((text + "END".ljust(80)).encode("ascii"), b" ")


def _value(value: bool | int | float | str) -> str:
    match value:
        case bool():
            return f"{'T' if value else 'F':>20}"
        case str():
            return f"'{value:<8}'"
        case float():
            return f"{value!r:>20}".replace("e", "E")
        case int():
            return f"{value:>20}"


def _padded(content: bytes, fill: bytes) -> bytes:
    return content + fill * (-len(content) % BLOCK)
