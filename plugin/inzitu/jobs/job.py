"""A job as the store returns it: frozen, complete, and without a rule in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from inzitu.jobs.phases import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A table that the user sent, or the address of one.

    Attributes
    ----------
    name
        What the job calls it: ``training`` in ``UPLOAD=training,param:a``.
    path
        Where it lies, from the deployment's state folder; empty for a table that stays at its address.
    uri
        What the user wrote: ``param:a`` or an http(s) address.
    media_type
        As the user's client declared it; the content decides.
    size
        Length [byte].
    """

    name: str
    path: str
    uri: str
    media_type: str = "application/octet-stream"
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Something that a job made.

    Attributes
    ----------
    id
        Its name in the job: ``predictions``, ``result``.
    reference
        The id of an artefact; or, with a leading slash, a path of this server (``/provenance?ID=...``); or, with a
        slash elsewhere, a file below the deployment's state folder (``results/<job>/result.vot``).
    media_type
        Of what a client gets there.
    size
        Length [byte], if it is known.
    """

    id: str
    reference: str
    media_type: str = "application/octet-stream"
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is.

    Attributes
    ----------
    step
        What it is doing: ``cut``, ``train``.
    done, total
        In the step's own unit.
    seconds_left
        Estimate for the step [s].
    info
        What else is worth seeing: losses, counts.
    """

    step: str
    done: float = 0
    total: float = 0
    seconds_left: float | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fraction(self) -> float:
        """The part that is done, 0 to 1."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job ended in ERROR: the fault's code and its message."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a job's log; numbers grow, so that a reader can ask for what is new."""

    number: int
    at: datetime
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job, as it was at one moment."""

    id: str
    service: str
    owner: str | None
    run_id: str | None
    phase: Phase
    created: datetime
    queued: datetime | None
    started: datetime | None
    ended: datetime | None
    destruction: datetime
    execution_seconds: int
    quote: datetime | None
    estimate: Mapping[str, Any] | None
    attempt: int
    parameters: tuple[tuple[str, str], ...]
    uploads: tuple[Upload, ...]
    results: tuple[Result, ...]
    progress: Progress | None
    failure: Failure | None
    accounts: Mapping[str, float]

    def parameter(self, name: str) -> str | None:
        """Return the first value of a parameter, whatever its case, or None."""
        return next((value for key, value in self.parameters if key.upper() == name.upper()), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A job in a list."""

    id: str
    service: str
    owner: str | None
    run_id: str | None
    phase: Phase
    created: datetime
    started: datetime | None
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right of one worker to one job; a later claim of the same job has a higher attempt and ends this one."""

    job: Job
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which jobs a list shows; all conditions hold together (UWS 1.1, section 2.2.2.1).

    Attributes
    ----------
    service
        ``jobs`` or ``tap``; None for both.
    phases
        Any of these; empty for all but ARCHIVED.
    after
        Created after that moment.
    last
        At most so many, the latest ones.
    """

    service: str | None = None
    phases: frozenset[Phase] = frozenset()
    after: datetime | None = None
    last: int | None = None


ALL = Filters()
