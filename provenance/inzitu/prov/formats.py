"""Formats: PROV documents as PROV-JSON, PROV-N, PROV-XML and Turtle (PROV-O), both ways, and as drawings."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import defusedxml
from defusedxml import ElementTree

from inzitu.prov.drawings import draw
from prov.model import ProvDocument

LARGEST = 256 << 20
"""Largest document that is read [byte]."""


@dataclass(frozen=True, slots=True)
class Format:
    """A way to write a document.

    Parameters
    ----------
    name
        What RESPONSEFORMAT calls it.
    media_type
        Its media type.
    suffix
        How its files end.
    library
        What the prov library calls it; empty for a drawing.
    """

    name: str
    media_type: str
    suffix: str
    library: str = ""


FORMATS = (
    Format("PROV-JSON", "application/json", ".json", "json"),
    Format("PROV-N", "text/provenance-notation", ".provn", "provn"),
    Format("PROV-XML", "application/provenance+xml", ".xml", "xml"),
    Format("turtle", "text/turtle", ".ttl", "rdf"),
    Format("PROV-SVG", "image/svg+xml", ".svg"),
    Format("PROV-PNG", "image/png", ".png"),
)

_ALIASES = {"json": "prov-json", "provn": "prov-n", "xml": "prov-xml", "svg": "prov-svg", "png": "prov-png"}


def format_of(name: str) -> Format:
    """Return the format of a name, short name or media type.

    Raises
    ------
    ValueError
        There is no such format; the message lists those that there are.
    """
    word = name.split(";")[0].strip().lower()
    word = _ALIASES.get(word, word)
    for format in FORMATS:
        if word in (format.name.lower(), format.media_type):
            return format
    raise ValueError(f"no format is called {name!r}: ask for one of {', '.join(format.name for format in FORMATS)}")


def write(document: ProvDocument, format: Format) -> bytes:
    """Return a document in a format.

    Raises
    ------
    ValueError
        It is too large to be drawn.
    OSError
        Drawing needs Graphviz, and it is not installed or failed.
    """
    if not format.library:
        return draw(document, format.suffix.removeprefix("."))
    with warnings.catch_warnings():
        # rdflib 7.6 warns of a property that the prov library reads.
        warnings.filterwarnings("ignore", message=r"Dataset\.default_context", category=DeprecationWarning)
        text = document.serialize(format=format.library, **_options(format))
    if text is None:
        raise ValueError(f"the document cannot be written as {format.name}")
    return text.encode()


def read(content: bytes, format: Format) -> ProvDocument:
    """Return the document that some bytes hold.

    Raises
    ------
    ValueError
        They hold none; or it is a drawing, larger than `LARGEST`, or XML with a document type or entities.
    """
    if not format.library:
        raise ValueError(f"{format.name} is a drawing: it cannot be read back")
    if len(content) > LARGEST:
        raise ValueError(f"the document has {len(content)} bytes: at most {LARGEST} are read")
    try:
        text = content.decode("utf-8")
        if format.library == "xml":
            _check_xml(content)
        with warnings.catch_warnings():
            # The library warns of what it leaves out: a document that cannot be read whole is not read.
            warnings.simplefilter("error", UserWarning)
            warnings.filterwarnings("ignore", message=r"Dataset\.default_context", category=DeprecationWarning)
            return ProvDocument.deserialize(content=text, format=format.library, **_options(format))
    except (defusedxml.DefusedXmlException, RecursionError) as error:
        raise ValueError(f"the document is no {format.name} that is safe to read ({type(error).__name__})") from error
    except Exception as error:  # the library's parsers raise whatever their input leads them to
        raise ValueError(f"the document is no {format.name}: {error}") from error


def _check_xml(content: bytes) -> None:
    """Refuse XML that reaches for other files, grows without end, or is no PROV."""
    root = ElementTree.fromstring(content, forbid_dtd=True)
    if root.tag != "{http://www.w3.org/ns/prov#}document":
        raise ValueError(f"it begins with <{root.tag}> instead of <prov:document>")


def _options(format: Format) -> dict[str, str]:
    return {"rdf_format": "turtle"} if format.library == "rdf" else {}
