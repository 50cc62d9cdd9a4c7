"""The functions of ours that queries call, as DuckDB calls them: on Arrow columns, a few thousand rows at a time.

A NULL in any argument, a NULL or NaN inside an array, and a value that a function has no answer for give NULL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from duckdb.func import FunctionNullHandling, PythonUDFType

from inzitu.tables import regions
from inzitu.tables.cells import ORDER, cells_about, cells_at
from inzitu.tables.mixtures import FUNCTIONS as PDF_FUNCTIONS

type Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_LIST = "DOUBLE[]"
_DISTANCE = """
CREATE MACRO sky_distance(a1, d1, a2, d2) AS degrees(atan2(
    sqrt(pow(cos(radians(d2)) * sin(radians(a2 - a1)), 2)
       + pow(cos(radians(d1)) * sin(radians(d2)) - sin(radians(d1)) * cos(radians(d2)) * cos(radians(a2 - a1)), 2)),
    sin(radians(d1)) * sin(radians(d2)) + cos(radians(d1)) * cos(radians(d2)) * cos(radians(a2 - a1))))
"""
"""The angle between two positions [deg], by Vincenty's formula: exact for small angles and for nearly 180 degrees."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A function with the SQL types that it takes and gives."""

    takes: tuple[str, ...]
    gives: str
    function: Callable[..., pa.Array]


def provide(connection: duckdb.DuckDBPyConnection, names: frozenset[str]) -> None:
    """Make functions known to a connection."""
    connection.execute(_DISTANCE)
    for name in sorted(names):
        offered = CALLABLES[name]
        connection.create_function(
            name,
            offered.function,
            list(offered.takes),
            offered.gives,
            type=PythonUDFType.ARROW,
            null_handling=FunctionNullHandling.SPECIAL,
        )


def _joined(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _numbers(column: pa.Array | pa.ChunkedArray) -> Array:
    """Return a column of numbers, NaN where it is NULL."""
    values: Array = _joined(column).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values


def _components(column: pa.Array | pa.ChunkedArray, width: int) -> Array:
    """Return a column of arrays as (row, component), NaN where there is none."""
    lists = _joined(column)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    flat = lists.flatten().to_numpy(zero_copy_only=False).astype(float)
    out = np.full((len(lists), width), np.nan)
    out[np.arange(width) < lengths[:, None]] = flat
    return out


def _on_mixtures(function: Callable[..., Array], scalars: int) -> Callable[..., pa.Array]:
    """Return a function on mixtures as one on columns; rows whose three arrays differ in length give NULL.

    DuckDB counts the parameters of what it calls, so there is one form for one scalar and one for two.
    """

    def on_columns(weights: pa.Array, means: pa.Array, sigmas: pa.Array, scalar: pa.Array) -> pa.Array:
        return _evaluated(function, (weights, means, sigmas), (scalar,))

    def on_columns_two(
        weights: pa.Array, means: pa.Array, sigmas: pa.Array, first: pa.Array, second: pa.Array
    ) -> pa.Array:
        return _evaluated(function, (weights, means, sigmas), (first, second))

    return on_columns if scalars == 1 else on_columns_two


def _evaluated(
    function: Callable[..., Array], mixture: tuple[pa.Array, ...], scalars: tuple[pa.Array, ...]
) -> pa.Array:
    lengths = [pc.fill_null(pc.list_value_length(_joined(c)), 0).to_numpy(zero_copy_only=False) for c in mixture]
    width = int(max(length.max(initial=0) for length in lengths))
    components = [_components(column, width) for column in mixture]
    padding = np.arange(width) >= lengths[0][:, None]
    w, m, s = (np.where(padding, blank, c) for blank, c in zip((0.0, 0.0, 1.0), components, strict=True))
    values = [_numbers(scalar) for scalar in scalars]
    with np.errstate(all="ignore"):
        result = function(w, m, s, *values)
    alike = (lengths[0] == lengths[1]) & (lengths[0] == lengths[2]) & (lengths[0] > 0)
    unknown = ~alike | np.isnan(result) | ~np.isfinite(w + m + s).all(axis=1) | np.isnan(values).any(axis=0)
    return pa.array(result, mask=unknown)


def _healpix_index(orders: pa.Array, lon: pa.Array, lat: pa.Array) -> pa.Array:
    order, x, y = _numbers(orders), _numbers(lon), _numbers(lat)
    out = np.full(len(order), -1, np.int64)
    for depth in np.unique(order[np.isfinite(order)]):
        if 0 <= depth <= ORDER:
            rows = order == depth
            out[rows] = cells_at(x[rows], y[rows], int(depth))
    return pa.array(out, mask=out < 0)


def _cells_about(lon: pa.Array, lat: pa.Array, orders: pa.Array) -> pa.Array:
    order = _joined(orders)
    about = cells_about(_numbers(lon), _numbers(lat), order[0].as_py() if len(order) else 0)
    present = about >= 0
    offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(about[present]))


def _regions(column: pa.Array | pa.ChunkedArray) -> list[tuple[float, ...] | None]:
    """Return the numbers of each region; None where one is NULL."""
    rows = _joined(column).to_pylist()
    return [None if row is None or None in row else tuple(row) for row in rows]


def _contains(outer: pa.Array, inner: pa.Array) -> pa.Array:
    """Return whether each first region holds the second; at once for all points where the first is the same."""
    outers, inners = _regions(outer), _regions(inner)
    if len(set(outers)) == 1 and outers[0] is not None and all(row is None or len(row) == 2 for row in inners):
        points = np.array([row or (np.nan, np.nan) for row in inners])
        usable = np.isfinite(points).all(axis=1)
        inside = regions.region(outers[0]).contains(regions.vectors(points[:, 0], points[:, 1]))
        return pa.array(inside, mask=~usable)
    return _pairwise(regions.contains, outers, inners)


def _intersects(first: pa.Array, second: pa.Array) -> pa.Array:
    return _pairwise(regions.intersects, _regions(first), _regions(second))


def _pairwise(
    test: Callable[[regions.Region, regions.Region], bool],
    first: list[tuple[float, ...] | None],
    second: list[tuple[float, ...] | None],
) -> pa.Array:
    return pa.array(
        [
            None if a is None or b is None else test(regions.region(a), regions.region(b))
            for a, b in zip(first, second, strict=True)
        ],
        pa.bool_(),
    )


def _area(shapes: pa.Array) -> pa.Array:
    return pa.array([None if row is None else regions.region(row).area for row in _regions(shapes)], pa.float64())


def _centroid(shapes: pa.Array) -> pa.Array:
    def position(row: tuple[float, ...]) -> list[float]:
        x, y, z = regions.region(row).centroid
        return [float(np.degrees(np.arctan2(y, x)) % 360), float(np.degrees(np.arctan2(z, np.hypot(x, y))))]

    return pa.array([None if row is None else position(row) for row in _regions(shapes)], pa.list_(pa.float64()))


CALLABLES: dict[str, Offered] = {
    **{
        name: Offered(
            (_LIST, _LIST, _LIST, *(["DOUBLE"] * len(arguments))), "DOUBLE", _on_mixtures(function, len(arguments))
        )
        for name, (function, arguments, _) in PDF_FUNCTIONS.items()
    },
    "ivo_healpix_index": Offered(("INTEGER", "DOUBLE", "DOUBLE"), "BIGINT", _healpix_index),
    "sky_cell": Offered(("INTEGER", "DOUBLE", "DOUBLE"), "BIGINT", _healpix_index),
    "sky_cells": Offered(("DOUBLE", "DOUBLE", "INTEGER"), "BIGINT[]", _cells_about),
    "sky_contains": Offered((_LIST, _LIST), "BOOLEAN", _contains),
    "sky_intersects": Offered((_LIST, _LIST), "BOOLEAN", _intersects),
    "sky_area": Offered((_LIST,), "DOUBLE", _area),
    "sky_centroid": Offered((_LIST,), _LIST, _centroid),
}
"""By the name that `adql` gives them; what begins with sky_ cannot be written in a query."""
