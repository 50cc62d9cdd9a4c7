"""How far off the estimate of a job is: jobs on the demo archive are asked first, then run, on a service that is new.

The first job is foreseen with the default costs, the next ones with the pace of those before. Rows, tiles, bytes and
operations depend on the archive and the lists alone; seconds on the machine and on what else it does.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
from astropy.table import Table

from inzitu.archive.stamps import build, demo_stamps
from inzitu.client import Service
from inzitu.demo.service import RunningService

DATA = Path("bench-data/estimate")
SMALL = {"EPOCHS": "10", "MEMBERS": "1", "SIZE": "28"}
JOBS = (
    ("400 rows", 300, 400, SMALL),
    ("812 rows", 650, 812, SMALL),
    ("812 rows, 3 x the epochs", 650, 812, SMALL | {"EPOCHS": "30", "SEED": "1"}),
    ("812 rows, larger stamps", 650, 812, SMALL | {"SIZE": "40", "SEED": "2"}),
)
"""Name, last training row, last row and parameters of each job."""


def run() -> str:
    """Return what the jobs took over what was estimated."""
    quasars = _archive()
    columns: list[dict[str, float]] = []
    with RunningService(DATA / "manifest.yaml", DATA / "logs") as running, Service(running.url) as service:
        for _, known, last, parameters in JOBS:
            columns.append(_ratios(service, quasars, known, last, parameters))
    heads = [name for name, *_ in JOBS]
    lines = [f"| actual over estimated | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for amount in columns[0]:
        cells = (f"{column[amount]:.3g}" if amount in column else "" for column in columns)
        lines.append(f"| {amount.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratios(service: Service, quasars: Table, known: int, last: int, parameters: dict[str, str]) -> dict[str, float]:
    files = {"training": quasars[:known], "targets": quasars[known:last]["source_id", "ra", "dec"]}
    paths = {name: DATA / f"{name}.vot" for name in files}
    for name, table in files.items():
        table.write(paths[name], format="votable", overwrite=True)
    job = service.submit("train-predict", paths, parameters, run=False)
    began = time.perf_counter()
    service.estimate(job.url)
    asked = time.perf_counter() - began
    service.request("POST", f"{job.url}/phase", data={"PHASE": "RUN"})
    *_, end = service.follow(job.url)
    assert end.phase == "COMPLETED", end.message
    ratios: dict[str, float] = service.estimate(job.url)["ratios"]
    return ratios | {"(the answer took, s)": asked}


def _archive() -> Table:
    """Return the quasars of the demo archive, which is built unless it is there; its service is new."""
    if not (DATA / "manifest.yaml").exists():
        build(demo_stamps(), DATA)
    shutil.rmtree(DATA / "state", ignore_errors=True)
    with np.load(demo_stamps()) as file:
        names = [str(name) for name in file["objID"]]
        return Table({"source_id": names, **{name: file[name] for name in ("ra", "dec", "z")}})
