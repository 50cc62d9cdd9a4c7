"""Values from raw pixels, compiled: weighted means over a plan's entries, decoded from the bytes of the tiles."""

from __future__ import annotations

from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float, Integer
from llvmlite import ir  # type: ignore[import-untyped]  # it ships no types
from numba import njit, types
from numba.extending import intrinsic

MISSING = 0
"""Stands for BITPIX where a tile does not exist."""
FAILED = 1
"""Stands for BITPIX where a tile cannot be used."""


class Sources(NamedTuple):
    """The tiles of a plan in one survey, by slot."""

    address: Integer[np.ndarray, " s"]
    """Where the first pixel of a tile lies in memory."""
    bitpix: Integer[np.ndarray, " s"]
    scale: Float[np.ndarray, " s"]
    zero: Float[np.ndarray, " s"]
    blank: Float[np.ndarray, " s"]
    """The integer that stands for a blank pixel; NaN if there is none."""

    @classmethod
    def empty(cls, count: int) -> Sources:
        """Return the sources of `count` slots, all missing."""
        whole, real = np.zeros(count, np.int64), np.zeros(count)
        return cls(whole, whole.copy(), real, real.copy(), np.full(count, np.nan))


def _big_endian(result):  # type: ignore[no-untyped-def]  # numba's types have no types
    """Return a compiled function that reads a number of that type, big end first, from an address."""

    @intrinsic
    def load(typing_context, address):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            pointer = builder.inttoptr(arguments[0], ir.IntType(result.bitwidth).as_pointer())
            value = builder.load(pointer)
            value.align = 1
            value = builder.bswap(value) if result.bitwidth > 8 else value
            return builder.bitcast(value, context.get_value_type(result))

        return result(types.int64), generate

    return load


_uint8, _int16, _int32, _int64, _float32, _float64 = map(
    _big_endian, (types.uint8, types.int16, types.int32, types.int64, types.float32, types.float64)
)


@njit(cache=True, nogil=True)
@no_type_check
def _raw(address, bitpix, offset):
    """Return a pixel as it stands in the file, NaN where there is no file to take it from."""
    if bitpix == -32:
        return float(_float32(address + 4 * offset))
    if bitpix == 16:
        return float(_int16(address + 2 * offset))
    if bitpix == -64:
        return _float64(address + 8 * offset)
    if bitpix == 32:
        return float(_int32(address + 4 * offset))
    if bitpix == 8:
        return float(_uint8(address + offset))
    if bitpix == 64:
        return float(_int64(address + 8 * offset))
    return np.nan


@njit(cache=True, nogil=True)
@no_type_check
def gather(starts, slots, offsets, weights, address, bitpix, scale, zero, blank, pixels, rows, band):
    """Fill one band of some rows of `pixels` (n, y, x, band); a stamp pixel with any blank pixel in it is blank.

    Returns for each stamp: pixels that are not blank, uses of tiles that exist, uses of failed tiles.
    """
    count, size = len(rows), pixels.shape[1]
    tally = np.zeros((count, 3), np.int64)
    p, base, kind, factor, origin, nothing = 0, 0, 0, 1.0, 0.0, np.nan
    for n in range(count):
        good, present, failed, last = 0, 0, 0, -1
        for y in range(size):
            for x in range(size):
                total = 0.0
                for e in range(starts[p], starts[p + 1]):
                    weight, slot = float(weights[e]), slots[e]
                    if weight <= 0.0:
                        continue
                    if slot != last:  # neighbours share their tile: what is known of it stays in registers
                        last, base, kind = slot, address[slot], bitpix[slot]
                        factor, origin, nothing = scale[slot], zero[slot], blank[slot]
                        failed += kind == FAILED
                        present += kind != FAILED and kind != MISSING
                    raw = _raw(base, kind, offsets[e])
                    if raw == nothing:
                        raw = np.nan
                    total += weight * (origin + factor * raw)
                pixels[rows[n], y, x, band] = total
                good += not np.isnan(total)
                p += 1
        tally[n, 0], tally[n, 1], tally[n, 2] = good, present, failed
    return tally
