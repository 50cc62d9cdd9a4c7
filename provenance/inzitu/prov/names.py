"""Names: the vocabularies of a PROV document, and how identifiers are written in it and read again."""

from __future__ import annotations

import hashlib
import re

from prov.identifier import Namespace

PROV = Namespace("prov", "http://www.w3.org/ns/prov#")
VOPROV = Namespace("voprov", "http://www.ivoa.net/documents/ProvenanceDM/index.html#")
TERMS = Namespace("inzitu", "urn:inzitu:terms#")

GENERATION_TYPES = {"scores": "Quality", "log": "Log", "picture": "Preview"}
"""Type of a generation (GenerationDescription.type) by the kind of artefact; Main for all others."""


def local_name(text: str) -> str:
    """Return an identifier as the local part of a qualified name that all formats can write.

    An artefact's is its digest after `sha256-`, as XML names begin with a letter.
    """
    if re.fullmatch(r"[0-9a-f]{64}", text):
        return f"sha256-{text}"
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", text):
        return text
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', 'n-' + text)[:40]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def identifier_of(name: str) -> str:
    """Return the identifier of an artefact, activity or job from any name that a document gives it.

    The name may be the identifier itself, a qualified name (`artefact:sha256-...`) or an IRI.
    """
    local = re.sub(r"^[a-z]+:", "", name.strip().rpartition("/")[2])
    digest = re.fullmatch(r"sha256-([0-9a-f]{64})", local)
    return digest.group(1) if digest else local
