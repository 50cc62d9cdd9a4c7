"""The record by HTTP: ``/provenance``, after the IVOA draft ProvSAP.

What is asked is read here; what came from what is in `inzitu.prov.lineage`, the documents are in
`inzitu.prov.documents`. ProvSAP is a draft, and so is this interface.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from fastapi import APIRouter, Request, Response

from inzitu.errors import LimitFault, NotFoundFault, ParameterFault, ServiceFault
from inzitu.prov.documents import Shown, document
from inzitu.prov.formats import FORMATS, Format, format_of, write
from inzitu.prov.history import UnrecordedError
from inzitu.prov.lineage import Depth, Direction, lineage
from inzitu.prov.names import identifier_of
from inzitu.prov.readings import read_reading
from inzitu.vo.dali import Parameters, response_format
from inzitu.web.descriptions import fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from inzitu.prov.facts import Artefact
    from inzitu.prov.readings import OutsideFile
    from inzitu.web.deployment import Deployment

MOST_IDS = 100
MOST_MEMBERS = 50_000
"""Outside files that one document may list; the readings themselves are artefacts, and list them all."""

_FLAG: dict[str, Any] = {"type": "string", "enum": ["true", "false"]}
PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "ID": (
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": MOST_IDS},
        "An artefact, activity or job; repeatable.",
    ),
    "DEPTH": (
        {"type": "string", "pattern": "^(ALL|[0-9]{1,9})$", "default": "ALL"},
        "How many relations to follow: a number or ALL.",
    ),
    "DIRECTION": (
        {"type": "string", "enum": ["BACK", "FORTH"]},
        "To what it came from, or to what became of it; BACK if not given.",
    ),
    "MODEL": (
        {"type": "string", "enum": ["IVOA", "W3C"]},
        "With the attributes of ProvenanceDM, or W3C PROV alone; IVOA if not given.",
    ),
    "AGENTS": (_FLAG, "Who is responsible; true if not given."),
    "MEMBERS": (_FLAG, "The outside files of each reading; false if not given."),
    "DESCRIPTIONS": (_FLAG, "What the steps are in general; true if not given, but false in drawings."),
    "CONFIGURATION": (_FLAG, "The parameters; true if not given, but false in drawings."),
    "ATTRIBUTES": (_FLAG, "More than identifiers; true if not given."),
    "RESPONSEFORMAT": (
        {"type": "string", "enum": [format.name for format in FORMATS]},
        "PROV-JSON if neither this nor the header Accept names another.",
    ),
}

router = APIRouter(tags=["provenance"])


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the record."""

    ids: tuple[str, ...]
    depth: Depth
    direction: Direction
    shown: Shown
    format: Format


@router.get(
    "/provenance",
    operation_id="provenance",
    response_class=Response,
    responses={
        200: {"description": "The record.", "content": {format.media_type: {} for format in FORMATS}},
        400: fault("The request cannot be served as it stands."),
        404: fault("The record has nothing of that identifier."),
        413: fault("The record is too large for one document."),
    },
    openapi_extra={
        "parameters": [
            {"name": name, "in": "query", "required": name == "ID", "schema": schema, "description": description}
            for name, (schema, description) in PARAMETERS.items()
        ]
    },
)
async def provenance(request: Request) -> Response:
    """Return what artefacts, activities or jobs came from, or what became of them."""
    given = Parameters(request.query_params.multi_items())
    question = read_question(given, accept=request.headers.get("accept", ""))
    return await asyncio.to_thread(answer, request.app.state.deployment, question, str(request.base_url))


def read_question(given: Parameters, *, accept: str = "") -> Question:
    """Read the parameters of ProvSAP.

    Raises
    ------
    ParameterFault
        One is missing, malformed or out of its limits.
    """
    ids = tuple(dict.fromkeys(identifier_of(id) for id in given.all("ID")))
    if not ids:
        raise ParameterFault("ID is missing: the identifier of an artefact, of an activity or of a job.")
    if len(ids) > MOST_IDS:
        raise ParameterFault(f"ID is given {len(ids)} times; at most {MOST_IDS} are answered at once.")
    format = _format(response_format(given), accept)
    drawn = not format.library
    shown = Shown(
        model=cast("Literal['IVOA', 'W3C']", _word(given, "MODEL", "IVOA", "W3C")),
        agents=_flag(given, "AGENTS", default=True),
        members=_flag(given, "MEMBERS", default=False),
        descriptions=_flag(given, "DESCRIPTIONS", default=not drawn),
        configuration=_flag(given, "CONFIGURATION", default=not drawn),
        attributes=_flag(given, "ATTRIBUTES", default=True),
    )
    return Question(ids, _depth(given), cast("Direction", _word(given, "DIRECTION", "BACK", "FORTH")), shown, format)


def answer(deployment: Deployment, question: Question, base: str) -> Response:
    """Return the answer to a question; `base` is the server's address, for identifiers.

    Raises
    ------
    NotFoundFault
        The record has nothing of that identifier.
    LimitFault
        There is too much of it for one document.
    """
    recorder = deployment.recorder
    try:
        found = lineage(recorder, *question.ids, depth=question.depth, direction=question.direction)
    except UnrecordedError as error:
        raise NotFoundFault(f"{error} Identifiers are in the results of a job and at /models.") from error
    except ValueError as error:
        raise LimitFault(f"{str(error).capitalize()}.") from error
    members = _members(deployment, found.artefacts.values())
    content = _written(document(found, base=base, shown=question.shown, members=members), question.format)
    media_type = question.format.media_type
    kind = media_type if media_type.startswith("image/png") else f"{media_type}; charset=utf-8"
    name = f"provenance{question.format.suffix}"
    return Response(content, media_type=kind, headers={"content-disposition": f'inline; filename="{name}"'})


def _written(prov: object, format: Format) -> bytes:
    from prov.model import ProvDocument

    try:
        return write(cast("ProvDocument", prov), format)
    except ValueError as error:
        raise LimitFault(f"{str(error).capitalize()}.") from error
    except OSError as error:
        raise ServiceFault(f"{error}; ask for PROV-JSON, PROV-N, PROV-XML or turtle.") from error


def _members(deployment: Deployment, artefacts: Iterable[Artefact]) -> Callable[[str], Iterable[OutsideFile]]:
    """Return what lists the outside files of a reading, and refuses when they are too many."""
    left = MOST_MEMBERS

    def members(id: str) -> list[OutsideFile]:
        nonlocal left
        files = read_reading(deployment.store.path(id)) if deployment.store.contains(id) else []
        left -= len(files)
        if left < 0:
            raise LimitFault(
                f"MEMBERS would list more than {MOST_MEMBERS} files; fetch the readings themselves from /artefacts."
            )
        return files

    return members


def _depth(given: Parameters) -> Depth:
    if (given.one("DEPTH") or "ALL").upper() == "ALL":
        return "ALL"
    return given.integer("DEPTH", at_least=0) or 0


def _word(given: Parameters, name: str, *words: str) -> str:
    """Return the value of a parameter that is one of some words, the first by default."""
    value = (given.one(name) or words[0]).upper()
    if value not in words:
        raise ParameterFault(f"{name}={value} is not known; it is {' or '.join(words)}.")
    return value


def _flag(given: Parameters, name: str, *, default: bool) -> bool:
    match (given.one(name) or str(default)).lower():
        case "true" | "1" | "yes":
            return True
        case "false" | "0" | "no":
            return False
        case other:
            raise ParameterFault(f"{name}={other} is no yes or no; write true or false.")


def _format(name: str | None, accept: str) -> Format:
    """Return the format that is named, or the first that the client accepts by name, or PROV-JSON."""
    if name is None:
        for media_type in accept.split(","):
            try:
                return format_of(media_type)
            except ValueError:
                continue
        return FORMATS[0]
    try:
        return format_of(name)
    except ValueError as error:
        raise ParameterFault(f"RESPONSEFORMAT: {error}.") from error
