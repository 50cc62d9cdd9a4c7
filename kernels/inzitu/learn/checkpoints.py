"""Checkpoints of a training: written whole or not at all, the last two kept.

Orbax writes each into a temporary folder and renames it, so a checkpoint that has its final name is complete. Should
the last one be damaged all the same, the one before is taken and the damaged one is deleted. One process at a time has
the folder: a second one, as a worker that takes over from one that still breathes, waits until the first is gone.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import jax
import numpy as np
import orbax.checkpoint as ocp

_log = logging.getLogger(__name__)
KEPT = 2
# A worker that was taken over from learns of it within a dispatch, and ends [s].
PATIENCE = 60.0


class CheckpointError(ValueError):
    """The checkpoints in the folder belong to another training, or another process has them."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one training in one folder.

    Attributes
    ----------
    manager
        Orbax's.
    identity
        Digest of recipe and data; only a training of the same identity may go on from these checkpoints.
    """

    manager: ocp.CheckpointManager
    identity: str
    _lock: IO[str]

    @classmethod
    def open(cls, folder: Path, *, identity: str, patience: float = PATIENCE) -> Checkpoints:
        """Open a folder, which is made if it is not there.

        Parameters
        ----------
        folder
            Where the checkpoints are; nobody else has it until it is closed, or this process ends.
        identity
            Digest of recipe and data.
        patience
            How long to wait for another process that has it [s].

        Raises
        ------
        CheckpointError
            Another process still has it.
        """
        lock = _locked(folder, patience)
        # Synchronous: a training state is small, and a checkpoint that is reported must be on disk.
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, enable_async_checkpointing=False)
        return cls(ocp.CheckpointManager(folder.resolve(), options=options), identity, lock)

    def save(self, step: int, state: Any, history: Sequence[Mapping[str, float]]) -> None:
        """Write the state of a training after so many steps."""
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
        parts = ocp.args.Composite(
            state=ocp.args.StandardSave(leaves),
            notes=ocp.args.JsonSave({"identity": self.identity, "history": list(history)}),
        )
        self.manager.save(step, args=parts, force=True)

    def restore(self, state: Any) -> tuple[Any, list[Mapping[str, float]]] | None:
        """Give the last whole checkpoint in the form of `state`, with its history; None if there is none.

        Raises
        ------
        CheckpointError
            The checkpoint is of another training.
        """
        for step in sorted(self.manager.all_steps(), reverse=True):
            try:
                # The identity first: a checkpoint of another training has another form, but is not damaged.
                notes = self.manager.restore(step, args=ocp.args.Composite(notes=ocp.args.JsonRestore()))["notes"]
                self._check(step, notes["identity"])
                leaves = self._leaves(step, state)
            except CheckpointError:
                raise
            # Orbax and tensorstore raise many types for a file that is cut, empty or gone.
            except Exception as fault:
                _log.warning(
                    "checkpoint %s is damaged, or of another version of its network, and is passed over: %s",
                    step,
                    str(fault).partition("\n")[0],
                )
                self.manager.delete(step)
                continue
            return jax.tree.unflatten(jax.tree.structure(state), leaves), notes["history"]
        return None

    def _check(self, step: int, identity: str) -> None:
        if identity != self.identity:
            raise CheckpointError(
                f"the checkpoint of step {step} belongs to another recipe or other data: "
                "give this training a folder of its own"
            )

    def _leaves(self, step: int, state: Any) -> list[Any]:
        like = [np.empty(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)]
        parts = ocp.args.Composite(state=ocp.args.StandardRestore(like))
        leaves: list[Any] = self.manager.restore(step, args=parts)["state"]
        return leaves

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the folder."""
        self.manager.close()
        self._lock.close()


def _locked(folder: Path, patience: float) -> IO[str]:
    """Give the folder's lock, which the kernel takes back from a process that dies."""
    folder.mkdir(parents=True, exist_ok=True)
    lock, end = (folder / "lock").open("w", encoding="ascii"), time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < end:
                time.sleep(0.1)
                continue
            lock.close()
            raise CheckpointError(
                f"another process trains from the checkpoints in {folder} and did not end within {patience:g} s: "
                "stop it, or give this training a folder of its own"
            ) from None
        return lock
