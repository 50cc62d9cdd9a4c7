"""Documents: a lineage as W3C PROV records with the attributes of IVOA ProvenanceDM 1.0.

What ProvenanceDM adds to PROV is written onto W3C records, so that every PROV reader takes it:

* an activity, usage, generation or dataset description is an entity of type `voprov:...Description`;
* a parameter is an entity of type `voprov:Parameter` with its `prov:value` and unit;
* "is described by" and "was configured by" are influences of type `voprov:IsDescribedBy`, `voprov:WasConfiguredBy`.

Scores are made with the type Quality, logs with Log and pictures with Preview (section 3.5 of the standard).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from inzitu.prov.facts import READING, Activity, Agent, Artefact, Made, Parameter, Used, Value
from inzitu.prov.lineage import Lineage
from inzitu.prov.names import GENERATION_TYPES, PROV, TERMS, VOPROV, local_name
from inzitu.prov.readings import OutsideFile
from prov.identifier import QualifiedName
from prov.model import ProvDocument

type Attributes = list[tuple[QualifiedName, object]]
type Members = Callable[[str], Iterable[OutsideFile]]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a document tells, in the words of the ProvSAP draft.

    Parameters
    ----------
    model
        IVOA for ProvenanceDM, W3C for PROV alone: no descriptions, no configuration, no `voprov:` attributes.
    agents
        Who is responsible.
    members
        The outside files of each reading.
    descriptions
        What the steps, their inputs and outputs are in general.
    configuration
        The parameters.
    attributes
        Everything about a record but its identifier.
    """

    model: Literal["IVOA", "W3C"] = "IVOA"
    agents: bool = True
    members: bool = False
    descriptions: bool = True
    configuration: bool = True
    attributes: bool = True


def document(
    lineage: Lineage, *, base: str = "urn:inzitu:", shown: Shown | None = None, members: Members | None = None
) -> ProvDocument:
    """Return a lineage as a PROV document.

    Parameters
    ----------
    base
        URL or URN that identifiers begin with; `<base>artefacts/...` leads to the artefacts.
    shown
        What to tell; everything but members by default.
    members
        Returns the outside files of a reading, if they are to be shown.
    """
    return _Writer(lineage, base, shown or Shown(), members).write()


class _Writer:
    """Writes one lineage into one document."""

    def __init__(self, lineage: Lineage, base: str, shown: Shown, members: Members | None) -> None:
        self.lineage = lineage
        self.members = members if shown.members else None
        self.full = shown.attributes
        self.ivoa = shown.model == "IVOA"
        self.agents = shown.agents
        self.descriptions = shown.descriptions and self.ivoa
        self.configuration = shown.configuration and self.ivoa
        self.base = base
        self.document = ProvDocument()
        spaces = {"artefact": "artefacts/", "run": "runs/", "agent": "agents/", "outside": "outside/"}
        spaces |= {"step": "steps/", "kind": "kinds/", "parameter": "parameters/"}
        self.spaces = {prefix: self.document.add_namespace(prefix, base + path) for prefix, path in spaces.items()}
        for namespace in (TERMS, *([VOPROV] if self.ivoa else [])):
            self.document.add_namespace(namespace)

    def write(self) -> ProvDocument:
        """Write all records, elements before relations."""
        for id in sorted(self.lineage.artefacts):
            self._artefact(self.lineage.artefacts[id])
        for activity in self.lineage.activities:
            self._activity(activity)
        if self.agents:
            self._agents()
        return self.document

    def _name(self, prefix: str, text: str) -> QualifiedName:
        return self.spaces[prefix][local_name(text)]

    def _attributes(self, *pairs: tuple[QualifiedName, object]) -> Attributes:
        """Return the attributes that have a value and are wanted; types always are."""
        kept: Attributes = []
        for name, value in pairs:
            if value in ("", None) or not (self.full or name == PROV["type"]):
                continue
            if self.ivoa or VOPROV not in (name.namespace, getattr(value, "namespace", None)):
                kept.append((name, _printable(value) if isinstance(value, str) else value))
        return kept

    # -- entities -------------------------------------------------------------------------------------------------

    def _artefact(self, artefact: Artefact) -> None:
        entity = self._name("artefact", artefact.id)
        collection = artefact.kind == READING
        self.document.entity(
            entity,
            self._attributes(
                (PROV["label"], artefact.name),
                (PROV["type"], VOPROV["DatasetEntity"]),
                (PROV["type"], PROV["Collection"] if collection else None),
                (PROV["location"], f"{self.base}artefacts/{artefact.id}"),
                (VOPROV["name"], artefact.name),
                (TERMS["kind"], artefact.kind),
                (TERMS["mediaType"], artefact.media_type),
                (TERMS["bytes"], artefact.size),
                (TERMS["sha256"], artefact.id),
            ),
        )
        if artefact.id in self.lineage.destroyed:
            self.document.invalidation(entity, time=self.lineage.destroyed[artefact.id])
        if self.descriptions:
            self._described(entity, self._kind(artefact))
        if collection and self.members is not None and artefact.id not in self.lineage.destroyed:
            for file in {(file.uri, file.sha256): file for file in self.members(artefact.id)}.values():
                self._member(entity, file)

    def _member(self, collection: QualifiedName, file: OutsideFile) -> None:
        entity = self._name("outside", hashlib.sha256(f"{file.uri}\n{file.sha256}".encode()).hexdigest())
        attributes = self._attributes(
            (PROV["location"], file.uri),
            (TERMS["sha256"], file.sha256),
            (TERMS["bytes"], file.bytes),
            (TERMS["band"], file.band),
            (TERMS["ranges"], file.ranges),
        )
        self._once(entity, attributes)
        self.document.membership(collection, entity)

    def _kind(self, artefact: Artefact) -> QualifiedName:
        """Write the description of a kind of artefact and return its name."""
        return self._once(
            self._name("kind", artefact.kind),
            self._attributes(
                (PROV["type"], VOPROV["DatasetDescription"]),
                (VOPROV["name"], artefact.kind),
                (VOPROV["contentType"], artefact.media_type),
            ),
        )

    def _once(self, entity: QualifiedName, attributes: Attributes) -> QualifiedName:
        """Write an entity unless it is there."""
        if not self.document.get_record(entity):
            self.document.entity(entity, attributes)
        return entity

    # -- activities -----------------------------------------------------------------------------------------------

    def _activity(self, activity: Activity) -> None:
        name = self._name("run", activity.id)
        self.document.activity(
            name,
            activity.started,
            activity.ended,
            self._attributes(
                (PROV["label"], activity.step),
                (VOPROV["name"], activity.step),
                (VOPROV["type"], str(activity.kind)),
                (VOPROV["comment"], activity.description),
                (TERMS["device"], activity.device),
                (TERMS["code"], activity.code),
                (TERMS["key"], activity.key),
                *((TERMS["software"], f"{what} {version}") for what, version in sorted(activity.software.items())),
            ),
        )
        used = [item for item in activity.used if item.artefact in self.lineage.artefacts]
        made = [item for item in activity.made if item.artefact in self.lineage.artefacts]
        self._usages(name, used)
        self._generations(name, activity, made)
        if self.configuration:
            for parameter in activity.parameters:
                self._parameter(name, activity, parameter)
        if self.descriptions:
            self._described(name, self._step(activity, used, made))

    def _usages(self, activity: QualifiedName, used: list[Used]) -> None:
        for item in used:
            attributes = self._attributes((PROV["role"], item.role), (VOPROV["type"], "Main"))
            self.document.usage(activity, self._name("artefact", item.artefact), other_attributes=attributes)

    def _generations(self, name: QualifiedName, activity: Activity, made: list[Made]) -> None:
        for item in made:
            entity = self._name("artefact", item.artefact)
            attributes = self._attributes((PROV["role"], item.role), (VOPROV["type"], self._generation_type(item)))
            self.document.generation(entity, name, activity.ended, other_attributes=attributes)

    def _generation_type(self, made: Made) -> str:
        return GENERATION_TYPES.get(self.lineage.artefacts[made.artefact].kind, "Main")

    def _parameter(self, name: QualifiedName, activity: Activity, parameter: Parameter) -> None:
        entity = self._name("parameter", f"{activity.id}-{parameter.name}")
        self.document.entity(
            entity,
            self._attributes(
                (PROV["label"], parameter.name),
                (PROV["type"], VOPROV["Parameter"]),
                (PROV["value"], _literal(parameter.value)),
                (VOPROV["name"], parameter.name),
                (VOPROV["unit"], parameter.unit),
                (VOPROV["valueType"], _value_type(parameter.value)),
                (VOPROV["description"], parameter.description),
            ),
        )
        influence = self._attributes((PROV["type"], VOPROV["WasConfiguredBy"]), (VOPROV["artefactType"], "Parameter"))
        self.document.influence(name, entity, other_attributes=influence)

    # -- descriptions ---------------------------------------------------------------------------------------------

    def _step(self, activity: Activity, used: list[Used], made: list[Made]) -> QualifiedName:
        """Write the description of a step, with those of its inputs and outputs, and return its name."""
        version = f"{activity.step}-{activity.code}" if activity.code else activity.step
        step = self._once(
            self._name("step", version),
            self._attributes(
                (PROV["label"], activity.step),
                (PROV["type"], VOPROV["ActivityDescription"]),
                (PROV["type"], PROV["Plan"]),
                (VOPROV["name"], activity.step),
                (VOPROV["type"], str(activity.kind)),
                (VOPROV["version"], activity.code),
                (VOPROV["description"], activity.description),
            ),
        )
        for input in used:
            self._port(step, "UsageDescription", f"{version}-uses-{input.role}", input, "Main")
        for output in made:
            self._port(
                step, "GenerationDescription", f"{version}-makes-{output.role}", output, self._generation_type(output)
            )
        return step

    def _port(self, step: QualifiedName, what: str, id: str, item: Used | Made, type: str) -> None:
        """Write the description of a usage or a generation, once."""
        name = self._name("step", id)
        if self.document.get_record(name):
            return
        attributes = self._attributes(
            (PROV["label"], item.role),
            (PROV["type"], VOPROV[what]),
            (VOPROV["role"], item.role),
            (VOPROV["type"], type),
        )
        self.document.entity(name, attributes)
        self._influence(name, step, VOPROV["IsRelatedTo"])
        self._influence(name, self._kind(self.lineage.artefacts[item.artefact]), VOPROV["IsRelatedTo"])

    def _described(self, what: QualifiedName, description: QualifiedName) -> None:
        self._influence(what, description, VOPROV["IsDescribedBy"])

    def _influence(self, influenced: QualifiedName, by: QualifiedName, type: QualifiedName) -> None:
        self.document.influence(influenced, by, other_attributes=self._attributes((PROV["type"], type)))

    # -- agents ---------------------------------------------------------------------------------------------------

    def _agents(self) -> None:
        agents = {activity.agent.id: activity.agent for activity in self.lineage.activities}
        agents |= {agent.id: agent for brought in self.lineage.attributions.values() for agent in brought}
        for id in sorted(agents):
            self._agent(agents[id])
        for activity in self.lineage.activities:
            role = self._attributes((PROV["role"], "operator"))
            run, operator = self._name("run", activity.id), self._name("agent", activity.agent.id)
            self.document.association(run, operator, other_attributes=role)
        for artefact, brought in sorted(self.lineage.attributions.items()):
            for agent in brought:
                role = self._attributes((VOPROV["role"], "provider"))
                entity = self._name("artefact", artefact)
                self.document.attribution(entity, self._name("agent", agent.id), other_attributes=role)

    def _agent(self, agent: Agent) -> None:
        attributes = self._attributes(
            (PROV["label"], agent.name),
            (PROV["type"], PROV[str(agent.kind)]),
            (VOPROV["name"], agent.name),
            (TERMS["id"], agent.id),
        )
        self.document.agent(self._name("agent", agent.id), attributes)


def _printable(text: str) -> str:
    """Return the text without the control characters and halves of characters that XML cannot hold."""
    return re.sub(r"[^\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def _literal(value: Value) -> object:
    """Return a value as PROV can hold it: lists as JSON text, and NaN as text, since it would not equal itself."""
    if value is None or isinstance(value, tuple):
        return json.dumps(value)
    return "NaN" if value != value else value


def _value_type(value: Value) -> str:
    """Return the type of a value in the words of VOTable."""
    match value:
        case bool():
            return "boolean"
        case int():
            return "long"
        case float():
            return "double"
        case _:
            return "char"
