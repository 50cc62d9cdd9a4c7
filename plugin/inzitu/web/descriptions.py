"""What ``/openapi.json`` says beyond the signatures of the handlers.

The protocols' parameter names are case-insensitive and repeatable, which a signature cannot say, so the handlers read
them with `inzitu.vo.dali` and their description stands here; and so does what every route answers when it fails.
"""

from __future__ import annotations

from typing import Any

from inzitu.jobs.phases import Phase

JSON = {"application/json": {"schema": {"type": "object"}}}
PNG: dict[str, Any] = {"image/png": {"schema": {"type": "string", "format": "binary"}}}
TEXT = {"text/plain": {"schema": {"type": "string"}}}
VOTABLE = {"application/x-votable+xml": {"schema": {"type": "string"}}}
XML = {"text/xml": {"schema": {"type": "string"}}}

_PHASE = {"type": "string", "enum": [phase.value for phase in Phase]}
_MOMENT = {
    "type": "string",
    "pattern": "^([0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)?)?$",
    "examples": ["2026-11-21T03:15:00Z"],
}
_MOST = 10**18 - 1


def fault(description: str) -> dict[str, Any]:
    """Return the description of an answer that is a fault."""
    return {"description": description, "content": TEXT}


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def form(fields: dict[str, Any], *, required: tuple[str, ...] = (), multipart: bool = False) -> dict[str, Any]:
    """Return the description of a form."""
    schema = {"type": "object", "properties": fields, "required": list(required)}
    content = {"application/x-www-form-urlencoded": {"schema": schema}}
    if multipart:
        files = {"type": "string", "format": "binary"}
        content["multipart/form-data"] = {"schema": schema | {"additionalProperties": files}}
    return {"content": content, "required": bool(required)}


_SEE: dict[int, Any] = {303: {"description": "See the job."}}
_JOB_FIELDS = {
    "PHASE": {"type": "string", "enum": ["RUN"]},
    "RUNID": {"type": "string"},
    "UPLOAD": {"type": "string", "description": "NAME,param:FILE; repeatable."},
}

_TEXT_ANSWER: dict[str, Any] = {"responses": {200: {"description": "The value.", "content": TEXT}}}
_XML_ANSWER: dict[str, Any] = {"responses": {200: {"description": "The document.", "content": XML}}}

_ROUTES: dict[str, dict[str, Any]] = {
    "list_jobs": _XML_ANSWER
    | {
        "openapi_extra": {
            "parameters": [
                _query(
                    "PHASE", {"type": "array", "items": _PHASE}, "Any of these phases; without it all but ARCHIVED."
                ),
                _query("AFTER", _MOMENT, "Created after."),
                _query("LAST", {"type": "integer", "minimum": 1, "maximum": _MOST}, "At most so many, the latest."),
            ]
        }
    },
    "create": {
        "status_code": 303,
        "responses": _SEE,
        "openapi_extra": {"requestBody": form(_JOB_FIELDS, multipart=True)},
    },
    "job": _XML_ANSWER
    | {
        "openapi_extra": {
            "parameters": [
                _query(
                    "WAIT",
                    {"type": "integer", "minimum": -_MOST, "maximum": _MOST},
                    "Wait so long for a change of phase [s]; -1: as long as allowed.",
                ),
                _query("PHASE", _PHASE, "The phase that is known; answered at once if the job has left it."),
            ]
        }
    },
    "act": {
        "status_code": 303,
        "responses": _SEE,
        "openapi_extra": {
            "requestBody": form({"ACTION": {"type": "string", "enum": ["DELETE"]}}, required=("ACTION",))
        },
    },
    "delete": {"status_code": 303, "responses": _SEE},
    "set_phase": {
        "status_code": 303,
        "responses": _SEE,
        "openapi_extra": {
            "requestBody": form({"PHASE": {"type": "string", "enum": ["RUN", "ABORT"]}}, required=("PHASE",))
        },
    },
    "set_execution_duration": {
        "status_code": 303,
        "responses": _SEE,
        "openapi_extra": {
            "requestBody": form(
                {"EXECUTIONDURATION": {"type": "integer", "minimum": 0, "maximum": _MOST}},
                required=("EXECUTIONDURATION",),
            )
        },
    },
    "set_destruction": {
        "status_code": 303,
        "responses": _SEE,
        "openapi_extra": {"requestBody": form({"DESTRUCTION": _MOMENT}, required=("DESTRUCTION",))},
    },
    "set_parameters": {
        "status_code": 303,
        "responses": _SEE,
        "openapi_extra": {"requestBody": form(_JOB_FIELDS, multipart=True)},
    },
    "parameters": _XML_ANSWER,
    "results": _XML_ANSWER,
    "result": {
        "responses": {
            200: {"description": "The result, in its own media type.", "content": {"*/*": {}}},
            303: {"description": "Where the result is."},
            410: fault("The result was destroyed."),
        }
    },
    "estimate": {"responses": {200: {"description": "The estimate.", "content": JSON}}},
    "estimate_picture": {"responses": {200: {"description": "The estimate as a picture.", "content": PNG}}},
    "log": _TEXT_ANSWER
    | {
        "openapi_extra": {
            "parameters": [
                _query("AFTER", {"type": "integer", "minimum": 0, "maximum": _MOST}, "Only the lines after so many.")
            ]
        }
    },
}


def of(handler: str) -> dict[str, Any]:
    """Return what FastAPI is told of a handler's route."""
    return _ROUTES.get(handler, _TEXT_ANSWER)


_ANYWHERE = {
    "400": "The request cannot be served as it stands.",
    "500": "The service failed; the request may be right.",
    "503": "The service cannot do it now; it may later.",
    "507": "There is no room to write.",
}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document in which every operation says how it fails."""
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete(path, operation)
    return document


def _complete(path: str, operation: dict[str, Any]) -> None:
    descriptions = dict(_ANYWHERE)
    if "{" in path:
        descriptions["404"] = "There is nothing of that name."
    if "requestBody" in operation:
        descriptions["413"] = "A file or the parameters are too big."
    responses = operation["responses"]
    # The framework promises a 422 that `inzitu.web.faults` never gives.
    responses.pop("422", None)
    for status, description in descriptions.items():
        responses.setdefault(status, {"description": description})
    # Under /tap every fault is a VOTable.
    content = VOTABLE if path.startswith("/tap") else TEXT
    for status, response in responses.items():
        if status >= "400":
            response["content"] = content
