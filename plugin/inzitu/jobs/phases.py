"""The phases of a job and what leads from one to the next, as one table (UWS 1.1, section 2.1.3).

HELD, SUSPENDED and UNKNOWN are words of the protocol that clients may filter by; nothing here leads to them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from inzitu.errors import PhaseFault

if TYPE_CHECKING:
    from collections.abc import Mapping


class Phase(StrEnum):
    """Where a job stands."""

    PENDING = "PENDING"
    QUEUED = "QUEUED"
    EXECUTING = "EXECUTING"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"
    ABORTED = "ABORTED"
    HELD = "HELD"
    SUSPENDED = "SUSPENDED"
    ARCHIVED = "ARCHIVED"
    UNKNOWN = "UNKNOWN"

    @property
    def active(self) -> bool:
        """Whether the phase may still change by itself, so that waiting makes sense (UWS 1.1, section 2.2.1.2)."""
        return self in _ACTIVE

    @property
    def ended(self) -> bool:
        """Whether the job will do nothing more."""
        return self in _ENDED


class Event(StrEnum):
    """What happens to a job."""

    RUN = "run"
    CLAIM = "claim"
    RELEASE = "release"
    FINISH = "finish"
    FAIL = "fail"
    ABORT = "abort"
    ARCHIVE = "archive"


_ACTIVE = frozenset({Phase.PENDING, Phase.QUEUED, Phase.EXECUTING})
_ENDED = frozenset({Phase.COMPLETED, Phase.ERROR, Phase.ABORTED, Phase.ARCHIVED})

TRANSITIONS: Mapping[tuple[Phase, Event], Phase] = {
    (Phase.PENDING, Event.RUN): Phase.QUEUED,
    (Phase.QUEUED, Event.CLAIM): Phase.EXECUTING,
    # A worker that died leaves its job EXECUTING; the next one claims it from there.
    (Phase.EXECUTING, Event.CLAIM): Phase.EXECUTING,
    (Phase.EXECUTING, Event.RELEASE): Phase.QUEUED,
    (Phase.EXECUTING, Event.FINISH): Phase.COMPLETED,
    (Phase.EXECUTING, Event.FAIL): Phase.ERROR,
    # It was looked at before it queued, and nothing can come of it.
    (Phase.PENDING, Event.FAIL): Phase.ERROR,
    (Phase.PENDING, Event.ABORT): Phase.ABORTED,
    (Phase.QUEUED, Event.ABORT): Phase.ABORTED,
    (Phase.EXECUTING, Event.ABORT): Phase.ABORTED,
    # Asking twice changes nothing: the second click of an impatient user is no error.
    (Phase.ABORTED, Event.ABORT): Phase.ABORTED,
    (Phase.COMPLETED, Event.ARCHIVE): Phase.ARCHIVED,
    (Phase.ERROR, Event.ARCHIVE): Phase.ARCHIVED,
    (Phase.ABORTED, Event.ARCHIVE): Phase.ARCHIVED,
}

_REMEDIES: Mapping[Event, str] = {
    Event.RUN: "A job runs once: create a new one.",
    Event.CLAIM: "Only a QUEUED job can be claimed.",
    Event.RELEASE: "Only an EXECUTING job can be given back.",
    Event.FINISH: "Its results are discarded.",
    Event.FAIL: "Its error is discarded.",
    Event.ABORT: "It has ended; DELETE removes it.",
    Event.ARCHIVE: "Abort it first.",
}


def advance(phase: Phase, event: Event) -> Phase:
    """Return the phase that an event leads to.

    Raises
    ------
    PhaseFault
        The event cannot happen in that phase; the message says what can be done instead.
    """
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise PhaseFault(f"A job that is {phase} cannot {event}. {_REMEDIES[event]}") from None
