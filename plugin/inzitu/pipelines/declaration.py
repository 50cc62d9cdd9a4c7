"""The words a step is declared in: its parameters, the artefacts it takes and makes, the function that does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from inzitu.prov.facts import ActivityKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Kind(StrEnum):
    """The kinds of artefact that steps exchange."""

    LIST = "list"
    NETWORK = "network"
    SELECTION = "selection"
    CUTOUTS = "cutouts"
    SPLIT = "split"
    MODEL = "model"
    PREDICTIONS = "predictions"
    SCORES = "scores"
    PICTURE = "picture"
    ARRAY = "array"
    READING = "reading"
    LOG = "log"


class Parameters(BaseModel):
    """The parameters of a step: immutable, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def idle(self) -> bool:
        """Whether these parameters ask for nothing, so that the step is left out."""
        return False


def as_sent(value: object) -> str:
    """Return a parameter's value as a user sends it: nothing for none, names with commas between."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)


def complaint(error: ValidationError) -> str:
    """Return what is wrong first, in the words of the check, with the parameter and its value if it is about one."""
    first = error.errors()[0]
    said = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
    return f"{str(first['loc'][0]).upper()}={first['input']}: {said}" if first["loc"] else said


@dataclass(frozen=True, slots=True)
class Port:
    """A place where an artefact goes into a step or comes out of it; a labelled list is of use with redshifts only."""

    role: str
    kind: Kind
    optional: bool = False
    labelled: bool = False

    @property
    def recorded(self) -> bool:
        """Whether an artefact that is there already goes into it, named by its identifier, and no upload."""
        return self.kind in (Kind.MODEL, Kind.PREDICTIONS, Kind.SELECTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step, declared once.

    `function` names what computes it as ``module:function``, so that reading the declaration loads no numerics; it is
    called with the parameters, the paths of what the step takes, and a `inzitu.run.work.Work`.
    """

    name: str
    title: str
    parameters: type[Parameters]
    takes: tuple[Port, ...]
    makes: tuple[Port, ...]
    activity: ActivityKind
    function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A named chain of steps.

    `uploads` are the roles that the user sends, `defaults` the parameters that differ from the steps' own.

    Raises
    ------
    ValueError
        A step takes something that neither the user sends nor an earlier step makes.
    """

    name: str
    title: str
    steps: tuple[Step, ...]
    uploads: tuple[Port, ...]
    defaults: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        there = {port.role for port in self.uploads}
        for step in self.steps:
            if missing := [p.role for p in step.takes if p.role not in there and not p.optional]:
                raise ValueError(
                    f"The pipeline {self.name}: its step {step.name} takes {', '.join(missing)}, which no upload and "
                    f"no earlier step provides; there are {', '.join(sorted(there))}."
                )
            there |= {port.role for port in step.makes}

    def fields(self) -> Iterator[tuple[str, Step]]:
        """Yield the name of every parameter with the first step that has it."""
        seen: set[str] = set()
        for step in self.steps:
            for name in step.parameters.model_fields:
                if name not in seen:
                    seen.add(name)
                    yield name, step
