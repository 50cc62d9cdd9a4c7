"""Rows put aside in the order of their buckets: in memory up to a limit, beyond it in a file without a name.

Rows come in runs, each sorted by bucket; what is read back are all rows of some neighbouring buckets, from every run.
So a list is read once, and then any part of it costs what that part holds.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np


class Spool:
    """Columns of rows, sorted into buckets within each run.

    Parameters
    ----------
    folder
        Where the file goes when memory does not do. It has no name there, so it is gone with the process.
    buckets
        Number of buckets.
    types
        Type of each column.
    limit
        Most that is kept in memory [byte].
    """

    def __init__(self, folder: Path, *, buckets: int, types: Sequence[type[np.generic]], limit: int) -> None:
        self._folder = folder
        self._types = [np.dtype(kind) for kind in types]
        self._limit = limit
        self._held = 0
        self._written = 0
        self._file: IO[bytes] | None = None
        self._runs: list[tuple[np.ndarray, list[np.ndarray] | int]] = []
        self.counts = np.zeros(buckets, dtype=np.int64)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runs.clear()
        if self._file is not None:
            self._file.close()

    @property
    def spilled(self) -> int:
        """How much went to the file [byte]."""
        return self._written

    def append(self, starts: np.ndarray, *columns: np.ndarray) -> None:
        """Add a run; bucket `k` of it holds the rows from `starts[k]` to `starts[k + 1]`."""
        self.counts += np.diff(starts)
        size = sum(column.nbytes for column in columns)
        if self._held + size <= self._limit:
            self._held += size
            self._runs.append((starts, list(columns)))
        else:
            self._runs.append((starts, self._write(columns)))

    def between(self, low: int, high: int) -> list[np.ndarray]:
        """Return the columns of all rows in the buckets from `low` to before `high`, run after run."""
        parts = list(self.parts(low, high))
        return [
            np.concatenate([part[k] for part in parts] or [np.empty(0, kind)]) for k, kind in enumerate(self._types)
        ]

    def parts(self, low: int, high: int) -> Iterator[list[np.ndarray]]:
        """Yield the columns of the rows in the buckets from `low` to before `high`, for each run that has any."""
        low, high = max(low, 0), min(high, len(self.counts))
        for starts, run in self._runs:
            if starts[low] < starts[high]:
                yield self._part(run, int(starts[low]), int(starts[high]), int(starts[-1]))

    def _write(self, columns: Sequence[np.ndarray]) -> int:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - open as long as the spool is
        start = self._written
        for column, kind in zip(columns, self._types, strict=True):
            rest = memoryview(np.ascontiguousarray(column, dtype=kind)).cast("B")
            while rest:
                count = os.pwrite(self._file.fileno(), rest, self._written)
                rest, self._written = rest[count:], self._written + count
        return start

    def _part(self, run: list[np.ndarray] | int, first: int, last: int, rows: int) -> list[np.ndarray]:
        if isinstance(run, list):
            return [column[first:last] for column in run]
        if self._file is None:
            raise ValueError("The spool has been closed.")
        columns, offset = [], run
        for kind in self._types:
            content = os.pread(self._file.fileno(), (last - first) * kind.itemsize, offset + first * kind.itemsize)
            columns.append(np.frombuffer(content, dtype=kind))
            offset += rows * kind.itemsize
        return columns
