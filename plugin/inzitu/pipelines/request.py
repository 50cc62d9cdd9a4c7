"""A request in the domain's own terms, made from the protocol's strings and checked before anything queues."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from inzitu.errors import ParameterFault
from inzitu.pipelines.catalogue import pipelines
from inzitu.pipelines.declaration import Parameters, Pipeline, complaint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PROTOCOL = frozenset({"PIPELINE", "UPLOAD", "PHASE", "RUNID", "TABLE", "RESPONSEFORMAT", "REQUEST"}) | {
    "MODEL",
    "PREDICTIONS",
}
_TABLE = re.compile(r"[a-z][a-z0-9_]{0,62}")
_ARTEFACT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a job is to do: its pipeline, the parameters of each step, and the names it starts from and ends in."""

    pipeline: Pipeline
    parameters: Mapping[str, Parameters]
    table: str | None = None
    model: str | None = None
    predictions: str | None = None


def check(
    parameters: Iterable[tuple[str, str]],
    uploads: Iterable[str],
    *,
    chains: Mapping[str, tuple[str, ...]] | None = None,
) -> Request:
    """Turn a job's parameters into a request.

    Parameters
    ----------
    parameters
        Names, in any case, and values, as they came.
    uploads
        The roles of the uploaded tables.
    chains
        The manifest's own pipelines.

    Raises
    ------
    ParameterFault
        An unknown pipeline or parameter, a value out of its limits, a missing or needless upload.
    """
    given = _once(parameters)
    pipeline = _pipeline(given.get("PIPELINE"), pipelines(chains))
    table = given.get("TABLE") or None
    if table is not None and not _TABLE.fullmatch(table):
        raise ParameterFault(
            f"TABLE={table} cannot name a table: use a letter, then letters, digits and underscores, "
            "all lower-case, 63 at most."
        )
    if table is not None and table.startswith("p_"):
        raise ParameterFault(f"TABLE={table}: names that begin with p_ are kept for tables named after their jobs.")
    named = {role: _recorded(role, given.get(role.upper()) or None, pipeline) for role in ("model", "predictions")}
    uploads = set(uploads)
    _check_uploads(uploads, pipeline)
    values = {name: value for name, value in given.items() if name not in _PROTOCOL}
    _say_whose_network(values, own="network" in uploads)
    return Request(pipeline=pipeline, parameters=_step_parameters(values, pipeline), table=table, **named)


def _say_whose_network(values: dict[str, str], *, own: bool) -> None:
    """Have the parameter NETWORK, which the record keeps, say that the network was uploaded."""
    named = values.setdefault("NETWORK", "own") if own else values.get("NETWORK", "")
    if own and named != "own":
        raise ParameterFault(f"NETWORK={named}, and a network of your own is uploaded; give one of them.")
    if not own and named == "own":
        raise ParameterFault("NETWORK=own needs the network: send it as UPLOAD=network,param:NAME with a file NAME.")


def _once(parameters: Iterable[tuple[str, str]]) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in parameters:
        key = name.upper()
        if key in given and key != "UPLOAD":
            raise ParameterFault(f"{key} is given twice, as {given[key]!r} and {value!r}; give it once.")
        given[key] = value
    return given


def _pipeline(name: str | None, known: Mapping[str, Pipeline]) -> Pipeline:
    if name is None:
        raise ParameterFault(f"PIPELINE is missing; choose one of {', '.join(known)}.")
    if name not in known:
        raise ParameterFault(f"PIPELINE={name} is unknown{_meant(name, known)}; choose one of {', '.join(known)}.")
    return known[name]


def _recorded(role: str, id: str | None, pipeline: Pipeline) -> str | None:
    """Return the identifier of an artefact that is there already, if the pipeline starts from one."""
    what = {"model": "a model; /models lists them", "predictions": "predictions, as the results of their job link to"}
    name, taken = role.upper(), any(port.role == role for port in pipeline.uploads)
    if taken and id is None:
        raise ParameterFault(f"The pipeline {pipeline.name} needs {name}, the id of {what[role]}.")
    if id is not None and not taken:
        raise ParameterFault(f"The pipeline {pipeline.name} makes its own {role} and takes no {name}; leave it out.")
    if id is not None and not _ARTEFACT.fullmatch(id):
        raise ParameterFault(f"{name}={id} is no id: 64 hexadecimal digits, of {what[role]}.")
    return id


def _check_uploads(uploads: set[str], pipeline: Pipeline) -> None:
    files = {port.role for port in pipeline.uploads if not port.recorded}
    needed = {port.role for port in pipeline.uploads if port.role in files and not port.optional}
    if needless := uploads - files:
        raise ParameterFault(
            f"The pipeline {pipeline.name} takes no upload named {', '.join(sorted(needless))}; "
            f"it takes {', '.join(sorted(files)) or 'none'}."
        )
    if missing := needed - uploads:
        role = sorted(missing)[0]
        raise ParameterFault(
            f"The pipeline {pipeline.name} needs the table {role}: "
            f"send it as UPLOAD={role},param:NAME with a multipart file NAME."
        )


def _step_parameters(values: Mapping[str, str], pipeline: Pipeline) -> dict[str, Parameters]:
    names = {name.upper(): name for name, _ in pipeline.fields()}
    if unknown := [name for name in values if name not in names]:
        raise ParameterFault(
            f"{unknown[0]} is no parameter of {pipeline.name}{_meant(unknown[0], names)}; it has {', '.join(names)}."
        )
    # An empty value is DALI's way of leaving a parameter out (DALI 1.1, section 3).
    given = dict(pipeline.defaults) | {names[name]: value for name, value in values.items() if value != ""}
    try:
        return {
            step.name: step.parameters.model_validate(
                {n: v for n, v in given.items() if n in step.parameters.model_fields}
            )
            for step in pipeline.steps
        }
    except ValidationError as error:
        raise ParameterFault(f"{complaint(error)}.") from error


def _meant(name: str, known: Iterable[str]) -> str:
    """Return a hint at the nearest known name."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
