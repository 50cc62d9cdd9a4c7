"""Lists and catalogues: which columns of a table hold its positions, and the positions themselves.

Column names follow what SDSS, VizieR, Gaia, LSST, DESI and SExtractor write; units and UCDs come from the table's own
metadata. Everything guessed can be overridden. For the file formats see `inzitu.archive.formats`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from inzitu.archive.angles import counts_hours, degrees, degrees_of_parts
from inzitu.archive.formats import read_table
from inzitu.errors import TableFault
from inzitu.sky import usable

__all__ = ["guess_positions", "look_like_hours", "position_columns", "positions", "read_table", "unusable"]

EQUATORIAL = [
    ("ra", "dec"),
    ("_ra", "_dec"),
    ("_raj2000", "_dej2000"),
    ("raj2000", "dej2000"),
    ("raj2000", "decj2000"),
    ("ra_icrs", "de_icrs"),
    ("ra_icrs", "dec_icrs"),
    ("ra_j2000", "dec_j2000"),
    ("ra2000", "dec2000"),
    ("ra_deg", "dec_deg"),
    ("radeg", "decdeg"),
    ("radeg", "dedeg"),
    ("ra_d", "dec_d"),
    ("ra", "de"),
    ("_ra", "_de"),
    ("right_ascension", "declination"),
    ("rightascension", "declination"),
    ("alpha_j2000", "delta_j2000"),
    ("alphawin_j2000", "deltawin_j2000"),
    ("coord_ra", "coord_dec"),
    ("target_ra", "target_dec"),
    ("plug_ra", "plug_dec"),
    ("mean_ra", "mean_dec"),
    ("meanra", "meandec"),
    ("ramean", "decmean"),
    ("ra_mean", "dec_mean"),
    ("raj", "decj"),
    ("s_ra", "s_dec"),
    ("alpha", "delta"),
]
"""Names of right ascension and declination, in lower case, the likeliest first."""

PARTS = ("rah", "ram", "ras"), ("ded", "dem", "des")
"""Names of hours or degrees, minutes and seconds in columns of their own, as VizieR has them."""
SIGNS = ("de-", "de_")
"""Names of the column with the sign of such a declination: degrees of 0 have none."""

GALACTIC = [
    ("glon", "glat"),
    ("_glon", "_glat"),
    ("gal_lon", "gal_lat"),
    ("galactic_longitude", "galactic_latitude"),
    ("l", "b"),
    ("gal_l", "gal_b"),
    ("ll", "bb"),
]
"""Names of galactic longitude and latitude."""

FRAMES = ("icrs", "galactic", "fk4")
"""Frames of positions that are read; the last is that of B1950."""

UCDS = [
    ("pos.eq.ra;meta.main", "pos.eq.dec;meta.main"),
    ("pos_eq_ra_main", "pos_eq_dec_main"),
    ("pos.eq.ra", "pos.eq.dec"),
    ("pos.galactic.lon", "pos.galactic.lat"),
]
"""UCDs (1+ and the older form) of positions, the main ones first."""


def guess_positions(table: pa.Table, *, ra: str | None = None, dec: str | None = None) -> tuple[str, str]:
    """Return the names of the two columns that hold the positions; of those in parts, of the two largest.

    They are found by name, then by the names of columns in parts (RAh RAm RAs DE- DEd DEm DEs), then by UCD, then by
    the names of galactic coordinates; upper and lower case are alike.

    Parameters
    ----------
    table
        The list; only its schema is looked at.
    ra, dec
        Names given by the user; both or neither.

    Raises
    ------
    TableFault
        No such columns, or only one was named, or two have one name; the message lists the columns there are.
    """
    there = f"Its columns are: {', '.join(table.column_names) or 'none'}."
    if twice := [name for name, count in Counter(table.column_names).items() if count > 1]:
        raise TableFault(f"The list names the column {twice[0]!r} twice; give each a name of its own.")
    if (ra is None) != (dec is None):
        raise TableFault(
            f"Only {'ra' if dec is None else 'dec'} was named; name the columns of both, or of none. {there}"
        )
    if ra is not None and dec is not None:
        for name in (ra, dec):
            if name not in table.column_names:
                raise TableFault(f"The list has no column {name!r}. {there}")
        if ra == dec:
            raise TableFault(f"The column {ra!r} was named for both coordinates; name two. {there}")
        return ra, dec
    for pair in _candidates(table):
        return pair
    raise TableFault(
        f"The list has no positions that can be recognised. {there} Name two of them ra and dec (ICRS, degrees), "
        "or l and b (galactic), or state which they are."
    )


def position_columns(table: pa.Table, *, ra: str | None = None, dec: str | None = None) -> list[str]:
    """Return the names of all columns that the positions are read from; see `guess_positions`."""
    names = guess_positions(table, ra=ra, dec=dec)
    return list(names) if ra is not None else [column for name in names for column in _parts(table, name)]


def positions(
    table: pa.Table,
    *,
    ra: str | None = None,
    dec: str | None = None,
    unit: str | None = None,
    frame: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return right ascensions and declinations [deg], ICRS, one a row; NaN in both where a row has no usable position.

    Units come from the table's metadata, else from the form of the text (12:30:00 is hours in a right ascension), else
    they are degrees. Columns with galactic names or UCDs are rotated to ICRS, and those that a VOTable puts in the
    galactic frame or FK4 (B1950).

    Parameters
    ----------
    table
        The list.
    ra, dec
        Names of the columns, if they are not to be guessed.
    unit
        Unit of both columns, in place of the table's own; hours are those of the right ascension only.
    frame
        One of `FRAMES`, in place of what the table says.

    Raises
    ------
    TableFault
        The list has no rows or no positions, or their unit is no angle, or their frame is not known.
    """
    names = guess_positions(table, ra=ra, dec=dec)
    if table.num_rows == 0:
        raise TableFault(
            f"The list has no rows, only the columns {', '.join(table.column_names)}; give at least one row."
        )
    frame = frame or _frame(table.schema, names)
    if frame not in FRAMES:
        raise TableFault(f"The frame {frame!r} is not known; give positions in {', '.join(FRAMES)} (B1950).")
    if ra is None and names[0].lower() == PARTS[0][0]:
        lon, lat = (_from_parts(table, name, hours=hours) for name, hours in zip(names, (True, False), strict=True))
    else:
        lon = degrees(table.column(names[0]), unit or _said(table.schema, names[0], b"unit"), hours=frame != "galactic")
        of_both = None if unit is None or counts_hours(unit) else unit
        lat = degrees(table.column(names[1]), of_both or _said(table.schema, names[1], b"unit"), hours=False)
    lost = ~usable(lon, lat)
    lon, lat = np.where(lost, 0.0, lon), np.where(lost, 0.0, lat)
    if frame != "icrs":
        lon, lat = _icrs_of(frame, lon, lat)
    return np.where(lost, np.nan, lon % 360.0), np.where(lost, np.nan, lat)


def unusable(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Return the numbers, from 0, of the rows without a usable position."""
    return np.flatnonzero(~usable(ra, dec))


def look_like_hours(ra: np.ndarray, dec: np.ndarray) -> bool:
    """Tell whether right ascensions taken for degrees [deg] may be hours.

    They are suspect if none is beyond 24 though the list is long and spreads over the sky in declination.
    """
    good = usable(ra, dec)
    return bool(good.sum() >= 100 and ra[good].max() <= 24.0 and np.ptp(ra[good]) > 12.0 and np.ptp(dec[good]) > 30.0)


def _candidates(table: pa.Table) -> Iterator[tuple[str, str]]:
    """Yield the pairs of columns that may be the positions, the likeliest first."""
    # Of names that differ in case only, the first column wins.
    by_name = {name.lower(): name for name in reversed(table.column_names)}
    by_ucd = {_said(table.schema, name, b"ucd"): name for name in reversed(table.column_names)}
    for lon, lat in EQUATORIAL:
        if lon in by_name and lat in by_name:
            yield by_name[lon], by_name[lat]
    # Before the UCDs, for VizieR gives hours, minutes and seconds the same one.
    lon, lat = PARTS[0][0], PARTS[1][0]
    if lon in by_name and lat in by_name:
        yield by_name[lon], by_name[lat]
    for lon, lat in UCDS:
        if lon in by_ucd and lat in by_ucd:
            yield by_ucd[lon], by_ucd[lat]
    for lon, lat in GALACTIC:
        if lon in by_name and lat in by_name:
            yield by_name[lon], by_name[lat]


def _parts(table: pa.Table, name: str) -> list[str]:
    """Return the columns that make a coordinate: its own, or those of its parts, the sign last."""
    by_name = {column.lower(): column for column in reversed(table.column_names)}
    for parts, signs in zip(PARTS, ((), SIGNS), strict=True):
        if name.lower() == parts[0]:
            return [by_name[part] for part in (*parts, *signs) if part in by_name]
    return [name]


def _from_parts(table: pa.Table, name: str, *, hours: bool) -> np.ndarray:
    """Return a coordinate [deg] whose hours or degrees are in a column, with minutes and seconds beside it."""
    columns = {part.lower(): table.column(part) for part in _parts(table, name)}
    sign = next((columns.pop(key) for key in SIGNS if key in columns), None)
    return degrees_of_parts(list(columns.values()), sign, hours=hours)


def _said(schema: pa.Schema, name: str, key: bytes) -> str:
    """Return what the table's metadata says of a column under a key, in lower case; empty if nothing."""
    metadata = schema.field(name).metadata or {}
    return re.sub(r"\s", "", metadata.get(key, b"").decode("utf-8", "replace")).lower()


def _frame(schema: pa.Schema, names: tuple[str, str]) -> str:
    """Return the frame that the columns' names, UCDs or metadata say."""
    lon, lat = (name.lower() for name in names)
    if (lon, lat) in GALACTIC or _said(schema, names[0], b"ucd").startswith(("pos.galactic", "pos_gal")):
        return "galactic"
    return _said(schema, names[0], b"frame") or "icrs"


def _icrs_of(frame: str, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Imported here because it takes longer than most lists, and most lists are ICRS.
    from astropy.coordinates import FK4, Galactic, SkyCoord

    icrs = SkyCoord(lon, lat, unit="deg", frame=Galactic() if frame == "galactic" else FK4(equinox="B1950")).icrs
    return icrs.ra.deg, icrs.dec.deg
