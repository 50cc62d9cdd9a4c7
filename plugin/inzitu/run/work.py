"""What a step is given to work with, and what it gives back.

A step's function computes and nothing else: `function(parameters, inputs, work) -> Outcome`. It writes what it makes
into `work.folder`; naming it by its content, storing it and recording it is the runner's (`inzitu.run.runner`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inzitu.manifest import Manifest
    from inzitu.run.engine import Engine


class Progress(Protocol):
    """How a step says how far it is; raises when the job is to stop."""

    def __call__(self, done: float, total: float, /, *, seconds_left: float | None = None, **info: Any) -> None:
        """Say that `done` of `total` is done; `info` is shown beside it: losses, counts."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Where a step works.

    Attributes
    ----------
    manifest
        The deployment: its archive and its limits.
    folder
        Empty folder for what the step makes.
    checkpoints
        Folder that outlives a killed worker: a step that finds its own traces there goes on from them.
    identities
        The content hash of each input, by role.
    engine
        Runs what is parallel.
    progress
        Called now and then.
    log
        Writes a line to the job's log.
    """

    manifest: Manifest
    folder: Path
    checkpoints: Path
    identities: Mapping[str, str]
    engine: Engine
    progress: Progress
    log: Log


class Log(Protocol):
    """Writes a line to the job's log."""

    def __call__(self, line: str, /) -> None:
        """Append one line, stamped with the time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a step made.

    Attributes
    ----------
    made
        Path below the step's folder of each artefact, by role.
    readings
        Parquet lists (uri, sha256, bytes) of files outside the artefact store that the step read, by role.
    account
        Numbers for the job's account: bytes_read, rows, tiles.
    certain
        Whether the same inputs would make the same again; if not, no later job is given what was made.
    """

    made: Mapping[str, Path]
    readings: Mapping[str, Path] = field(default_factory=dict)
    account: Mapping[str, float] = field(default_factory=dict)
    certain: bool = True
