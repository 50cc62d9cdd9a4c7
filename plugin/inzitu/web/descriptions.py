"""What ``/openapi.json`` says of the UWS routes: their parameters, bodies and answers.

The protocols' parameter names are case-insensitive and repeatable, which a signature cannot say, so the handlers read
them with `inzitu.vo.dali` and their description stands here.
"""

from __future__ import annotations

from typing import Any

from inzitu.jobs.phases import Phase

TEXT = {"text/plain": {"schema": {"type": "string"}}}
XML = {"text/xml": {"schema": {"type": "string"}}}

_PHASE = {"type": "string", "enum": [phase.value for phase in Phase]}
_MOMENT = {"type": "string", "format": "date-time"}


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


_FAULTS = {400: fault("The request cannot be served as it stands."), 404: fault("There is no such job.")}
_SEE = {303: {"description": "See the job."}} | _FAULTS
_JOB_FIELDS = {
    "PHASE": {"type": "string", "enum": ["RUN"]},
    "RUNID": {"type": "string"},
    "UPLOAD": {"type": "string", "description": "NAME,param:FILE; repeatable."},
}

_TEXT_ANSWER: dict[str, Any] = {"responses": {200: {"description": "The value.", "content": TEXT}} | _FAULTS}
_XML_ANSWER: dict[str, Any] = {"responses": {200: {"description": "The document.", "content": XML}} | _FAULTS}

_ROUTES: dict[str, dict[str, Any]] = {
    "list_jobs": _XML_ANSWER
    | {
        "openapi_extra": {
            "parameters": [
                _query(
                    "PHASE", {"type": "array", "items": _PHASE}, "Any of these phases; without it all but ARCHIVED."
                ),
                _query("AFTER", _MOMENT, "Created after."),
                _query("LAST", {"type": "integer", "minimum": 1}, "At most so many, the latest."),
            ]
        }
    },
    "create": {
        "status_code": 303,
        "responses": _SEE | {413: fault("A file or the parameters are too big.")},
        "openapi_extra": {"requestBody": form(_JOB_FIELDS, multipart=True)},
    },
    "job": _XML_ANSWER
    | {
        "openapi_extra": {
            "parameters": [
                _query("WAIT", {"type": "integer"}, "Wait so long for a change of phase [s]; -1: as long as allowed."),
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
                {"EXECUTIONDURATION": {"type": "integer", "minimum": 0}}, required=("EXECUTIONDURATION",)
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
        "responses": _SEE | {413: fault("A file or the parameters are too big.")},
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
        | _FAULTS
    },
    "log": _TEXT_ANSWER
    | {
        "openapi_extra": {
            "parameters": [_query("AFTER", {"type": "integer", "minimum": 0}, "Only the lines after so many.")]
        }
    },
}


def of(handler: str) -> dict[str, Any]:
    """Return what FastAPI is told of a handler's route."""
    return _ROUTES.get(handler, _TEXT_ANSWER)
