"""Verification: hash a lineage again, in order, and name the first link that fails.

Every artefact is held against its identifier, and every outside file against the digest that its reading recorded. An
artefact that nobody brought and nothing made is a broken link as well: the chain must end at somebody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from inzitu.prov.facts import READING, Activity
from inzitu.prov.history import UnrecordedError
from inzitu.prov.lineage import Lineage, lineage
from inzitu.prov.readings import OutsideFile, content_of, read_reading
from inzitu.prov.recorder import Recorder
from inzitu.prov.store import digest

type Read = Callable[[OutsideFile], bytes]
"""Returns what was read of an outside file, as it is now; raises `OSError` if it cannot."""


class ElsewhereError(OSError):
    """The outside file is where this reader cannot look."""


class State(StrEnum):
    """What became of a link of the chain."""

    INTACT = "intact"
    MISSING = "missing"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    UNRECORDED = "unrecorded"
    DESTROYED = "destroyed"
    UNCHECKED = "unchecked"


FAILURES = frozenset({State.MISSING, State.CHANGED, State.UNREADABLE, State.UNRECORDED})


@dataclass(frozen=True, slots=True)
class Link:
    """One artefact or outside file of a lineage.

    Parameters
    ----------
    id
        Identifier of the artefact, or uri of the outside file.
    name
        What a reader knows it by.
    state
        What became of it.
    message
        One sentence about it.
    """

    id: str
    name: str
    state: State
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All links of a lineage, from its origins on."""

    links: tuple[Link, ...]

    @property
    def failure(self) -> Link | None:
        """The first link that fails, or None."""
        return next((link for link in self.links if link.state in FAILURES), None)

    @property
    def holds(self) -> bool:
        """Whether no link fails. What was destroyed by retention, or not looked at, is no failure."""
        return self.failure is None

    def __str__(self) -> str:
        counts = ", ".join(f"{self.count(state)} {state}" for state in State if self.count(state))
        if self.failure is None:
            return f"The chain holds: {counts}."
        return f"The chain is broken: {self.failure.message} ({counts})"

    def count(self, state: State) -> int:
        """Return how many links are in a state."""
        return sum(link.state == state for link in self.links)


def verify(
    recorder: Recorder, id: str, *, read: Read | None = None, progress: Callable[[int], None] | None = None
) -> Verdict:
    """Hash again all that an artefact came from, and itself.

    Parameters
    ----------
    id
        Of an artefact, an activity or a job.
    read
        Reads outside files; without it they are left unchecked. See `read_local`.
    progress
        Called with the number of links looked at so far.
    """
    try:
        chain = lineage(recorder, id)
    except UnrecordedError as error:
        return Verdict((Link(id, id, State.UNRECORDED, str(error)),))
    links: list[Link] = []
    seen: set[tuple[str, str]] = set()
    for link in (link for artefact in _in_order(chain) for link in _links(recorder, chain, artefact, read, seen)):
        links.append(link)
        if progress is not None:
            progress(len(links))
    return Verdict(tuple(links))


def read_local(file: OutsideFile) -> bytes:
    """Read what was read of a file of this machine, by its path or its file: URL; raises `OSError` if it cannot.

    Files behind http are `ElsewhereError`, which leaves them unchecked.
    """
    parts = urlsplit(file.uri)
    if parts.scheme not in ("", "file"):
        raise ElsewhereError(f"{file.uri} is not on this machine")
    return content_of(file, Path(unquote(parts.path) if parts.scheme else file.uri))


def _in_order(chain: Lineage) -> list[str]:
    """Return the artefacts of a lineage so that each comes after what it was made of."""
    order: dict[str, None] = {}
    for activity in chain.activities:
        order |= dict.fromkeys(item.artefact for item in activity.used)
        order |= dict.fromkeys(item.artefact for item in activity.made)
    return [id for id in order if id in chain.artefacts] + [id for id in chain.artefacts if id not in order]


def _links(
    recorder: Recorder, chain: Lineage, id: str, read: Read | None, seen: set[tuple[str, str]]
) -> Iterator[Link]:
    artefact = chain.artefacts[id]
    link = _artefact_link(recorder, chain, id)
    yield link
    if artefact.kind != READING or link.state != State.INTACT:
        return
    try:
        files = read_reading(recorder.store.path(id))
    except ValueError as error:
        yield Link(id, artefact.name, State.UNREADABLE, str(error))
        return
    for file in files:
        if (file.uri, file.sha256) not in seen:
            seen.add((file.uri, file.sha256))
            yield _outside_link(file, read)


def _artefact_link(recorder: Recorder, chain: Lineage, id: str) -> Link:
    artefact = chain.artefacts[id]
    name = artefact.name

    def link(state: State, message: str) -> Link:
        return Link(id, name, state, message)

    if not recorder.store.contains(id):
        if id in chain.destroyed:
            return link(
                State.DESTROYED, f"{name} was destroyed by retention at {chain.destroyed[id]:%Y-%m-%dT%H:%M:%SZ}."
            )
        return link(State.MISSING, f"{name} is recorded, but its content is not in the store.")
    try:
        found = digest(recorder.store.path(id))
    except (OSError, ValueError) as error:
        return link(State.UNREADABLE, f"{name} cannot be read: {error}")
    if found != id:
        return link(State.CHANGED, f"{name} has changed: it was {id} and is {found}.")
    if id not in chain.attributions and not _was_made(id, chain.activities):
        return link(State.UNRECORDED, f"{name} is there, but the record does not say who brought it or what made it.")
    return link(State.INTACT, f"{name} is what it was.")


def _was_made(id: str, activities: tuple[Activity, ...]) -> bool:
    return any(made.artefact == id for activity in activities for made in activity.made)


def _outside_link(file: OutsideFile, read: Read | None) -> Link:
    def link(state: State, message: str) -> Link:
        return Link(file.uri, file.uri, state, message)

    if not file.sha256:
        return link(State.UNCHECKED, f"{file.uri} was read without a digest.")
    if read is None:
        return link(State.UNCHECKED, f"{file.uri} was not looked at.")
    try:
        found = hashlib.sha256(read(file)).hexdigest()
    except FileNotFoundError:
        return link(State.MISSING, f"{file.uri} was read then, and is no longer there.")
    except ElsewhereError as error:
        return link(State.UNCHECKED, f"{error}.")
    except OSError as error:
        return link(State.UNREADABLE, f"{file.uri} cannot be read: {error}")
    if found != file.sha256:
        return link(State.CHANGED, f"{file.uri} has changed since it was read: it was {file.sha256} and is {found}.")
    return link(State.INTACT, f"{file.uri} is what it was.")
