"""Facts: the artefacts, activities and agents that the record is made of.

The words are those of W3C PROV (entity, activity, agent, usage, generation) with what IVOA ProvenanceDM 1.0 adds:
parameters with units, kinds of activity, roles. An artefact is a PROV entity that is named by its content.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

type Value = str | int | float | bool | tuple[Value, ...] | None
"""What a parameter may be: a scalar, or a list of scalars."""

DIGEST = re.compile(r"[0-9a-f]{64}")
"""An artefact's identifier: 64 lower-case hexadecimal digits."""

READING = "reading"
"""Kind of an artefact that lists the outside files that an activity read."""


class ActivityKind(StrEnum):
    """Types of activity (ProvenanceDM 1.0, section 3.5.2)."""

    OBSERVATION = "Observation"
    SIMULATION = "Simulation"
    SELECTION = "Selection"
    REDUCTION = "Reduction"
    CALIBRATION = "Calibration"
    RECONSTRUCTION = "Reconstruction"
    ANALYSIS = "Analysis"


class AgentKind(StrEnum):
    """Types of agent (PROV-DM, section 5.3.1)."""

    PERSON = "Person"
    ORGANIZATION = "Organization"
    SOFTWARE = "SoftwareAgent"


@dataclass(frozen=True, slots=True)
class Artefact:
    """An immutable file or folder, named by its content.

    Parameters
    ----------
    id
        SHA-256 of the file, or the Merkle hash of the folder (`inzitu.prov.store.digest`).
    kind
        What it is in the pipeline: selection, cutouts, model, log...
    media_type
        Its IANA media type; `inode/directory` for a folder.
    size
        [byte] Of the file, or of the folder's files together.
    name
        What to call it when it is downloaded.
    """

    id: str
    kind: str
    media_type: str
    size: int
    name: str

    def __post_init__(self) -> None:
        if not DIGEST.fullmatch(self.id):
            raise ValueError(f"{self.id!r} is no artefact's identifier: it must be 64 lower-case hexadecimal digits")
        if self.size < 0:
            raise ValueError(f"artefact {self.id[:12]} has a size of {self.size} bytes: it must be 0 or more")
        if not self.kind:
            raise ValueError(f"artefact {self.id[:12]} has no kind: say what it is")


@dataclass(frozen=True, slots=True)
class Agent:
    """Somebody, or a programme, that is responsible for an artefact or an activity."""

    id: str
    name: str
    kind: str = AgentKind.PERSON

    def __post_init__(self) -> None:
        _one_of(self.kind, AgentKind, f"the kind of agent {self.id!r}")
        if not self.id:
            raise ValueError("an agent needs an id: who is it?")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One setting of an activity, hyper-parameters and seeds among them."""

    name: str
    value: Value
    unit: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError(f"the parameter with the value {self.value!r} has no name")
        object.__setattr__(self, "value", _frozen(self.name, self.value))


@dataclass(frozen=True, slots=True)
class Used:
    """An activity used the artefact of that id, in that role."""

    role: str
    artefact: str


@dataclass(frozen=True, slots=True)
class Made:
    """An activity made the artefact of that id, in that role."""

    role: str
    artefact: str


class Product(NamedTuple):
    """A file or folder that an activity has just made and that is not yet an artefact."""

    path: Path
    kind: str
    media_type: str
    name: str


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that ran: one step of a pipeline, with all that it depended on.

    Parameters
    ----------
    step
        Name of the step.
    kind
        Its type, a word of `ActivityKind`.
    started
        When it began, with a time zone.
    ended
        When it ended.
    agent
        Who is responsible for it.
    parameters
        Its settings; defaults and seeds too.
    software
        Versions of what it ran on, by name.
    device
        What it computed on.
    code
        Version of the step's own code: a release and a commit.
    used
        What it read.
    made
        What it made; left out when it is recorded, as its artefacts get their names then.
    key
        What makes two runs equal; `key_of` by default.
    description
        One sentence for readers of the record.
    id
        Its identifier, made up if not given.
    """

    step: str
    kind: str
    started: datetime
    ended: datetime
    agent: Agent
    parameters: tuple[Parameter, ...] = ()
    software: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    code: str = ""
    used: tuple[Used, ...] = ()
    made: tuple[Made, ...] = ()
    key: str = ""
    description: str = ""
    id: str = field(default_factory=lambda: f"run-{uuid4().hex}")

    def __post_init__(self) -> None:
        _one_of(self.kind, ActivityKind, f"the kind of step {self.step!r}")
        if self.started.tzinfo is None or self.ended.tzinfo is None:
            raise ValueError(f"step {self.step!r} ran from {self.started} to {self.ended}: times need a time zone")
        if self.ended < self.started:
            raise ValueError(f"step {self.step!r} ended at {self.ended}, before it started at {self.started}")
        for what, names in (("parameter", [p.name for p in self.parameters]), ("role", [m.role for m in self.made])):
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"step {self.step!r} has two values for the {what} {', '.join(sorted(twice))}")
        if not self.key:
            key = key_of(step=self.step, parameters=self.parameters, used=self.used, code=self.code)
            object.__setattr__(self, "key", key)


def key_of(*, step: str, parameters: Sequence[Parameter], used: Sequence[Used], code: str) -> str:
    """Return what two runs share that must make the same artefacts: equal step, settings, inputs and code.

    The order of parameters and inputs, and their descriptions, do not matter. Outside files that are only known after
    the run (readings) are no part of it: put what tells one state of an archive from another among the parameters.
    """
    facts = {
        "step": step,
        "code": code,
        "parameters": sorted(([p.name, p.value, p.unit] for p in parameters), key=lambda p: str(p[0])),
        "used": sorted([u.role, u.artefact] for u in used),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _one_of(word: str, words: type[StrEnum], what: str) -> None:
    if word not in list(words):
        raise ValueError(f"{what} is {word!r}: it must be one of {', '.join(words)}")


def _frozen(name: str, value: object) -> Value:
    """Return the value with its lists as tuples."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return tuple(_frozen(name, item) for item in value)
    raise ValueError(f"parameter {name} is a {type(value).__name__}: give it as text, a number or a list of these")
