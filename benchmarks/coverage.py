"""Coverage filter: 5 million positions, uniform on the sphere, against the MOC of a survey, beside plain mocpy.

The MOC is that of SDSS r where the shared data lie beside the project; otherwise one of 20,000 random cells of order 8.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy import units

from inzitu.sky import Coverage

ROWS = 5_000_000
ROUNDS = 5
SDSS = Path(__file__).parents[2] / "shared" / "data" / "mocs" / "P-SDSS9-r.fits"


def run() -> str:
    """Measure both in turn and return the table."""
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, ROWS), np.degrees(np.arcsin(rng.uniform(-1, 1, ROWS)))
    cells = rng.integers(0, 12 * 4**8, 20_000)
    coverage = Coverage.read(SDSS) if SDSS.exists() else Coverage.from_cells(8, cells)
    contenders: dict[str, Callable[[], np.ndarray]] = {
        "inzitu": lambda: coverage.contains(ra, dec),
        "mocpy": lambda: coverage.moc.contains_lonlat(ra * units.deg, dec * units.deg),
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for turn in range(ROUNDS + 1):
        answers = []
        for name, contender in contenders.items():
            began, used = time.perf_counter(), time.process_time()
            answers.append(contender())
            if turn:
                took[name].append((time.perf_counter() - began, time.process_time() - used))
        if not np.array_equal(answers[0], answers[1]):
            raise RuntimeError("The two disagree on what is inside.")
    of = SDSS.name if SDSS.exists() else "random cells"
    lines = [
        f"{ROWS:,} positions, {of}, {ROUNDS} rounds, medians; the answers are equal.\n",
        "| | wall [s] | processor [s] | million a second |",
        "|---|---|---|---|",
    ]
    for name, times in took.items():
        wall, used = (statistics.median(column) for column in zip(*times, strict=True))
        lines.append(f"| {name} | {wall:.2f} | {used:.2f} | {ROWS / wall / 1e6:.1f} |")
    return "\n".join(lines)
