"""Columns of angles as degrees: decimal or sexagesimal, in whatever unit the table says.

What cannot be read becomes NaN, row by row; a unit that is no angle is an error of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inzitu.errors import TableFault

DEGREES: dict[str, float] = {
    **dict.fromkeys(["deg", "degree", "degrees", "d", "°", "d:m:s", "dms", '"d:m:s"', "ddmmss"], 1.0),
    **dict.fromkeys(["h", "hr", "hour", "hours", "hourangle", "h:m:s", "hms", '"h:m:s"', "hhmmss"], 15.0),
    **dict.fromkeys(["rad", "radian", "radians"], 57.29577951308232),
    **dict.fromkeys(["arcmin", "'"], 1 / 60),
    **dict.fromkeys(["arcsec", "as", '"'], 1 / 3600),
    "mas": 1 / 3_600_000,
}
"""Degrees in one of each unit, as FITS, VizieR and hands write them; astropy knows the others."""

DECIMAL = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
SEXAGESIMAL = (
    r"^(?P<sign>[+-]?)(?P<whole>\d{1,3})\s*(?P<mark>[:hd°\s])\s*(?P<minutes>[0-5]?\d(?:\.\d*)?)"
    r"(?:\s*[:m'′\s]\s*(?P<seconds>[0-5]?\d(?:\.\d*)?)?)?\s*[s\"″]?$"
)


type Values = pa.ChunkedArray[Any] | pa.Array[Any]


def degrees(column: Values, unit: str | None, *, hours: bool) -> np.ndarray:
    """Return a column of angles [deg]; NaN where it holds none.

    Parameters
    ----------
    column
        Numbers, or text with numbers or sexagesimal angles.
    unit
        Unit that the table or the user states, if any; degrees otherwise.
    hours
        Sexagesimal text without a unit counts hours (a right ascension) instead of degrees.

    Raises
    ------
    TableFault
        The unit is no angle, or the column is neither numbers nor text.
    """
    said = (unit or "").strip()
    scale = _degrees_in(said) if said else 1.0
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _from_text(column, scale, 15.0 if hours and not said else scale)
    if any(
        kind(column.type) for kind in (pa.types.is_null, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    ):
        return _numbers(column) * scale
    raise TableFault(f"A column of type {column.type} holds no angles; give numbers or text.")


def degrees_of_parts(parts: Sequence[Values], sign: Values | None, *, hours: bool) -> np.ndarray:
    """Return angles [deg] from columns of degrees or hours, minutes and seconds; NaN where they make none.

    Parameters
    ----------
    parts
        The columns, the largest unit first. Minutes or seconds that a row leaves out are 0.
    sign
        Column of signs, "-" or something else; without it the first column has the sign.
    hours
        The first column counts hours.
    """
    whole, *smaller = (degrees(part, None, hours=False) for part in parts)
    angles = np.abs(whole)
    for place, part in enumerate(smaller, start=1):
        angles = angles + np.where(np.isnan(part), 0.0, np.where((part >= 0) & (part < 60), part, np.nan)) / 60**place
    negative = np.signbit(whole) if sign is None else _is_minus(sign)
    return np.where(negative, -angles, angles) * (15.0 if hours else 1.0)


def _is_minus(sign: Values) -> np.ndarray:
    text = pc.utf8_trim_whitespace(sign.cast(pa.string()))
    return np.asarray(pc.fill_null(pc.equal(text, pa.scalar("-")), False).to_numpy())


def counts_hours(unit: str) -> bool:
    """Tell whether a unit is hours, in which right ascensions are given but never declinations."""
    return _degrees_in(unit.strip()) == 15.0


def _degrees_in(unit: str) -> float:
    if (known := DEGREES.get(unit.lower())) is not None:
        return known
    from astropy import units

    try:
        return float(units.Unit(unit).to(units.deg))
    except (ValueError, TypeError) as error:
        raise TableFault(f"The unit {unit!r} is no angle; use deg, hour, rad, arcmin, arcsec or mas.") from error


def _from_text(column: Values, decimal_scale: float, sexagesimal_scale: float) -> np.ndarray:
    """Read each value as a decimal number or as a sexagesimal one, with the scale of that form."""
    text = pc.utf8_trim_whitespace(column)
    decimals = _numbers(pc.if_else(pc.match_substring_regex(text, DECIMAL), text, pa.scalar(None, text.type)))
    parts = pc.extract_regex(text, SEXAGESIMAL)
    whole, minutes, seconds = (_part(parts, name) for name in ("whole", "minutes", "seconds"))
    angles = whole + minutes / 60 + seconds / 3600
    angles = np.where(_part_is(parts, "sign", "-"), -angles, angles)
    # The marks in 12h30m and 187d30m say what they are, whatever the column's unit.
    scale = np.where(_part_is(parts, "mark", "h"), 15.0, sexagesimal_scale)
    scale = np.where(_part_is(parts, "mark", "d") | _part_is(parts, "mark", "°"), 1.0, scale)
    return np.asarray(np.where(pc.is_valid(parts).to_numpy(), angles * scale, decimals * decimal_scale))


def _numbers(column: Values) -> np.ndarray:
    """Return numbers, or text that holds nothing else, as float64; null as NaN."""
    values = column.cast(pa.float64()).to_numpy()
    return np.asarray(values, dtype=np.float64)


def _part(parts: Values, name: str) -> np.ndarray:
    """Return one number of the sexagesimal angles; zero where it is left out."""
    field = pc.struct_field(parts, name)
    given = pc.if_else(pc.equal(field, pa.scalar("")), pa.scalar(None, field.type), field)
    return np.asarray(np.nan_to_num(_numbers(given)))


def _part_is(parts: Values, name: str, mark: str) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.equal(pc.struct_field(parts, name), pa.scalar(mark)), False).to_numpy())
