"""VOTables from strangers: checked before astropy parses them.

Three things in XML reach beyond the file that carries them: entities (which also grow without end), a document type
that loads another document, and a STREAM whose data lie at an address. None has a place in an upload.
"""

from __future__ import annotations

import mmap
import re
from contextlib import suppress
from pathlib import Path
from xml.parsers import expat

import pyarrow as pa

from inzitu.archive.astropy_tables import arrow_of
from inzitu.archive.packed import content
from inzitu.errors import TableFault

REMOTE_DATA = re.compile(rb"<(?:\w+:)?STREAM\b[^>]*\shref\s*=")
FITS_DATA = re.compile(rb"<(?:\w+:)?FITS\b")
PLAIN_ENCODINGS = {"utf-8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "windows-1252"}
"""Encodings in which the markup is ASCII, so that it can be searched as bytes."""


def read_votable(path: Path) -> pa.Table:
    """Read the first table of a VOTable.

    Raises
    ------
    TableFault
        It holds no table, or reaches beyond itself.
    """
    from astropy.io.votable import parse

    refuse_what_reaches_out(path)
    for table in parse(path, verify="ignore", invalid="mask").iter_tables():
        frames = field_frames(path)
        said = {field.name: {"ucd": field.ucd or "", "frame": frames.get(field.name, "")} for field in table.fields}
        return arrow_of(table.to_table(use_names_over_ids=True), said)
    raise TableFault(f"{path.name} is a VOTable without a TABLE element; give one with rows.")


def refuse_what_reaches_out(path: Path) -> None:
    """Raise unless an XML file is free of entities and of data elsewhere.

    Raises
    ------
    TableFault
        It declares entities, keeps its data elsewhere or as FITS, is in an encoding that hides markup, or is no XML.
    """
    refuse_entities(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as markup:
        if REMOTE_DATA.search(markup):
            raise remote_data(path)
        if FITS_DATA.search(markup):
            raise TableFault(f"{path.name} keeps its rows in a FITS file within the VOTable; send that file itself.")


def refuse_entities(path: Path) -> None:
    """Raise unless an XML file is free of entities; its prolog is parsed, declarations can stand nowhere else.

    Raises
    ------
    TableFault
        It declares entities, is in an encoding that hides markup, or is no XML.
    """
    try:
        _parse_prolog(path)
    except expat.ExpatError as error:
        raise TableFault(f"{path.name} is no well-formed XML: {error}.") from error


def remote_data(path: Path) -> TableFault:
    """Return what to raise for a table that keeps its data elsewhere."""
    return TableFault(f"{path.name} keeps its data at another address (STREAM href); send the data in the table.")


def field_frames(path: Path) -> dict[str, str]:
    """Return the frame of each field of the first table that refers to a coordinate system (COOSYS), wherever that is.

    It is icrs, galactic or fk4, which `inzitu.archive.catalogues` knows, or as the file has it.
    """
    systems: dict[str, str] = {}
    references: dict[str, str] = {}

    def begin(tag: str, attributes: dict[str, str]) -> None:
        match tag.rpartition(":")[2]:
            case "COOSYS":
                systems[attributes.get("ID", "")] = _frame(
                    attributes.get("system", "ICRS"), attributes.get("equinox", "")
                )
            case "FIELD" if "ref" in attributes:
                references[attributes.get("name", "")] = attributes["ref"]
            case "DATA":
                raise _Reached
            case _:
                pass

    parser = expat.ParserCreate()
    parser.StartElementHandler = begin
    with content(path) as (file, _), suppress(_Reached):
        parser.ParseFile(file)
    return {name: systems[reference] for name, reference in references.items() if reference in systems}


def _frame(system: str, equinox: str) -> str:
    match system.lower().removeprefix("eq_"), re.sub(r"\.0*$", "", equinox.upper()):
        case ("icrs", _) | ("fk5", "" | "J2000" | "2000"):
            return "icrs"  # J2000 differs by some hundredths of an arcsecond
        case ("fk4", "" | "B1950" | "1950"):
            return "fk4"
        case ("galactic", _):
            return "galactic"
        case _:
            return f"{system} {equinox}".strip()


class _Reached(Exception):
    """What is looked for is over."""


def _parse_prolog(path: Path) -> None:
    def refuse_entity(*_: object) -> None:
        raise TableFault(f"{path.name} declares XML entities; a VOTable needs none, remove its DOCTYPE.")

    def check_encoding(_version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in PLAIN_ENCODINGS:
            raise TableFault(f"{path.name} is encoded in {encoding}; send it in UTF-8.")

    def reach_root(*_: object) -> None:
        raise _Reached

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse_entity
    parser.UnparsedEntityDeclHandler = refuse_entity
    parser.XmlDeclHandler = check_encoding
    parser.StartElementHandler = reach_root
    with content(path) as (file, _):
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise TableFault(f"{path.name} is encoded in UTF-16; send it in UTF-8.")
        file.seek(0)
        try:
            parser.ParseFile(file)
        except _Reached:
            return
    raise TableFault(f"{path.name} is XML without an element.")
