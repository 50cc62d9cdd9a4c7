"""Pairs of rows on their way to a file: found band by band, written in the order of the first list's rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inzitu.archive.spool import Spool
from inzitu.sky import Pairs
from inzitu.sky.crossmatch import order_of
from inzitu.sky.zones import bands

SCHEMA = pa.schema(
    [
        pa.field("row_a", pa.int64(), metadata={"description": "Row of the first list, from 0."}),
        pa.field("row_b", pa.int64(), metadata={"description": "Row of the second list, from 0."}),
        pa.field("separation", pa.float64(), metadata={"unit": "arcsec", "ucd": "pos.angDistance"}),
    ]
)
ENCODING = {"row_a": "DELTA_BINARY_PACKED", "row_b": "DELTA_BINARY_PACKED", "separation": "PLAIN"}
"""Sorted rows pack to a byte or two, better than a compressor does and in a fraction of the time."""
BLOCK = 1 << 19
"""Rows of the first list whose pairs are put aside together, and most pairs that are sorted at a time."""


class PairSpool:
    """Pairs put aside by blocks of the first list's rows.

    Parameters
    ----------
    folder
        Where what does not fit in memory goes.
    rows
        Rows of the first list.
    limit
        Most that is kept in memory [byte].
    """

    def __init__(self, folder: Path, *, rows: int, limit: int) -> None:
        self._blocks = -(-rows // BLOCK)
        self._folder = folder
        self._spool = _spool(folder, self._blocks, limit)
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.__exit__(kind, error, trace)

    def __len__(self) -> int:
        return int(self._spool.counts.sum())

    @property
    def spilled(self) -> int:
        """How much went to disk [byte]."""
        return self._spool.spilled

    def append(self, pairs: Pairs) -> None:
        """Put some pairs aside; any thread may."""
        order = np.argsort(pairs.first)
        first = pairs.first[order]
        starts = np.searchsorted(first, np.arange(self._blocks + 1) * BLOCK)
        columns = first, pairs.second[order], pairs.separation[order]
        with self._lock:
            self._spool.append(starts, *columns)

    def write(self, out: Path) -> None:
        """Write all pairs, sorted by the first row and then by the second; the file appears when it is whole."""
        part = out.with_name(f".{out.name}.{os.getpid()}.part")
        try:
            with pq.ParquetWriter(
                part, SCHEMA, compression="none", use_dictionary=False, column_encoding=ENCODING
            ) as writer:
                for first, second, separation in chain.from_iterable(map(self._pieces, range(self._blocks))):
                    order = order_of(first, second)
                    writer.write_table(pa.table([first[order], second[order], separation[order]], schema=SCHEMA))
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)

    def _pieces(self, block: int) -> Iterator[list[np.ndarray]]:
        """Yield the pairs of a block, few enough rows at a time that their pairs can be sorted in memory."""
        if self._spool.counts[block] <= BLOCK:
            yield self._spool.between(block, block + 1)
            return
        counts = np.zeros(BLOCK, dtype=np.int64)
        for first, _, _ in self._spool.parts(block, block + 1):
            rows, times = np.unique(first - block * BLOCK, return_counts=True)
            counts[rows] += times
        edges = block * BLOCK + np.array([0, *(high for _, high in bands(counts, BLOCK))])
        with _spool(self._folder, len(edges) - 1, 0) as finer:
            for part in self._spool.parts(block, block + 1):
                finer.append(np.searchsorted(part[0], edges), *part)
            for piece in range(len(edges) - 1):
                yield finer.between(piece, piece + 1)


def _spool(folder: Path, buckets: int, limit: int) -> Spool:
    return Spool(folder, buckets=buckets, types=(np.int64, np.int64, np.float64), limit=limit)
