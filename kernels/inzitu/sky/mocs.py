"""MOC files: which of their forms a file has, and what of it is read."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from mocpy import MOC, STMOC, TimeMOC

ASCII_MOC = re.compile(r"\s*(\d{1,2}/[\d\s,-]*)+")
"""Orders, each with its cells and ranges of cells (MOC 2.0, section 4.3.2)."""
SPACE_TIME = re.compile(r"\s*t\d{1,2}/[\d\s/,-]*s")
"""Times, each followed by the space that was covered then."""
DEEPEST = 29


def read_moc(path: Path) -> MOC:
    """Read a MOC of any form; of a space-time MOC, its space part.

    Raises
    ------
    ValueError
        The file is no MOC, or not in the equatorial frame.
    OSError
        The file cannot be read.
    """
    content = path.read_bytes()
    try:
        match content.lstrip()[:1]:
            case b"S" if content.startswith(b"SIMPLE"):
                return _from_fits(path)
            case b"{" | b"[":
                return _from_json(content)
            case _:
                return moc_of_text(content.decode("ascii"))
    except (ValueError, OSError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path.name} is no MOC that can be read: {error}. Give one in FITS, ASCII or JSON, in ICRS."
        ) from error


def _from_fits(path: Path) -> MOC:
    header = _table_header(path)
    frame = str(header.get("COORDSYS", "C")).strip().upper()
    if frame != "C":
        raise ValueError(f"its frame is {frame!r}, where a MOC has 'C' (ICRS)")
    if "TIME" in str(header.get("MOCDIM", "")).upper() or "TORDER" in header:
        return MOC.from_stmoc_time_fold(TimeMOC.from_str("0/0-1"), STMOC.load(str(path), format="fits"))
    return MOC.load(str(path), format="fits")


def _table_header(path: Path) -> fits.Header:
    """Return the header of the table of a MOC in FITS, known to be whole."""
    try:
        with warnings.catch_warnings(action="ignore", category=AstropyWarning), fits.open(path) as hdus:
            header = hdus[1].header
            end = hdus[1].fileinfo()["datLoc"] + header["NAXIS1"] * header["NAXIS2"]
            header.tostring()  # astropy parses a card when it is asked for
    except (LookupError, AttributeError, TypeError, fits.VerifyError) as error:
        raise ValueError(f"the header of its table is damaged or cut off ({error}); fetch the file again") from error
    if end > (size := path.stat().st_size):
        raise ValueError(f"its table ends at byte {end}, the file at {size}; fetch it again")
    return header


def _from_json(content: bytes) -> MOC:
    stated = json.loads(content)
    if not isinstance(stated, list):
        return _from_orders(stated)
    # Of a space-time MOC, a list of times, each with the space that was covered then (MOC 2.0, section 4.3.3).
    return _all_of([_from_orders(part["s"]) for part in stated])


def _all_of(spaces: list[MOC]) -> MOC:
    """Return the space covered at any time."""
    if not spaces:
        raise ValueError("it covers no space at any time")
    return spaces[0].union(*spaces)  # itself once more, for mocpy wants at least one other


def _from_orders(orders: dict[str, Any]) -> MOC:
    for order, cells in orders.items():
        if not order.isdigit() or int(order) > DEEPEST or not isinstance(cells, list):
            raise ValueError(f"{order!r} is no order from 0 to {DEEPEST} with a list of cells")
        if not all(type(cell) is int and 0 <= cell < 12 * 4 ** int(order) for cell in cells):
            raise ValueError(f"it names cells that do not exist at order {order}")
    return MOC.from_json(orders)


def moc_of_text(text: str) -> MOC:
    """Read a MOC in ASCII.

    Raises
    ------
    ValueError
        It is none, or names cells that do not exist.
    """
    if SPACE_TIME.match(text):
        return _all_of([moc_of_text(space) for space in re.findall(r"s([^st]+)", text)])
    if not ASCII_MOC.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is neither FITS nor JSON nor text like '5/1-4,9 6/100'")
    cells = 0
    for order, low, high in re.findall(r"(\d+)/|(\d+)(?:-(\d+))?", text):
        if order:
            if int(order) > DEEPEST:
                raise ValueError(f"its order {order} is out of range, which ends at {DEEPEST}")
            cells = 12 * 4 ** int(order)
        elif not int(low) <= int(high or low) < cells:
            raise ValueError(f"its cells {low}-{high or low} do not exist at their order")
    return MOC.from_string(text.replace(",", " "), format="ascii")  # mocpy knows blanks only
