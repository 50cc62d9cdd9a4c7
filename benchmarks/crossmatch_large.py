"""Crossmatch of 50 million with 50 million rows beside 5 million with 5 million: how time and memory grow.

The large lists are ten pairs of lists like those of `benchmarks.crossmatch`, one after the other. Lists of this size do
not fit in the memory allowed, so what is put aside goes to disk.
"""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.crossmatch import DATA, ROUNDS, Cost, cost_of, prepare, spectra_and_archive

SMALL = int(os.environ.get("BENCH_ROWS", "5000000"))
TIMES = 10


def prepare_large(folder: Path) -> None:
    """Write the large lists, a tenth at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "ready").exists():
        return
    writers: dict[str, pq.ParquetWriter] = {}
    for part in range(TIMES):
        for name, columns in zip("AB", spectra_and_archive(SMALL, seed=42 + part), strict=True):
            table = pa.table(columns)
            if name not in writers:
                writers[name] = pq.ParquetWriter(folder / f"{name}.parquet", table.schema)
            writers[name].write_table(table)
    for writer in writers.values():
        writer.close()
    (folder / "ready").touch()


def run() -> str:
    """Measure both sizes in turn and return the table."""
    folders = {SMALL: DATA / str(SMALL), SMALL * TIMES: DATA / str(SMALL * TIMES)}
    prepare(folders[SMALL], SMALL)
    prepare_large(folders[SMALL * TIMES])
    costs: dict[int, list[Cost]] = {rows: [] for rows in folders}
    for turn in range(ROUNDS + 1):
        for rows, folder in folders.items():
            cost = cost_of([sys.executable, "-m", "benchmarks.crossmatch", "inzitu", str(folder)])
            if turn:
                costs[rows].append(cost)
    lines = [
        f"{ROUNDS} rounds, medians.\n",
        "| rows | wall [s] | processor [s] | memory [GB] | pairs | wall / linear | processor / linear |",
        "|---|---|---|---|---|---|---|",
    ]
    small = [statistics.median(getattr(cost, what) for cost in costs[SMALL]) for what in ("wall", "processor")]
    for rows, found in costs.items():
        wall, used, memory = (
            statistics.median(getattr(cost, what) for cost in found) for what in ("wall", "processor", "memory")
        )
        pairs = pq.read_metadata(folders[rows] / "inzitu.pairs.parquet").num_rows
        linear = [value / (first * rows / SMALL) for value, first in zip((wall, used), small, strict=True)]
        lines.append(
            f"| {rows:,} | {wall:.1f} | {used:.1f} | {memory:.2f} | {pairs:,} | {linear[0]:.2f} | {linear[1]:.2f} |"
        )
    return "\n".join(lines)
