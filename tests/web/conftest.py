"""A deployment whose archive is a catalogue of two sources, served over the loopback as a data centre would."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn

from inzitu.jobs.job import Claim, Job, Result
from inzitu.manifest import Manifest
from inzitu.web.app import create_app
from inzitu.web.deployment import Deployment
from inzitu.web.examiner import Examiner

MANIFEST = """
name: test
title: A test deployment
publisher: The observatory
state: state
archive:
  surveys: [{band: r, hips: hips/r}]
  catalogue: {path: catalogue.parquet}
limits: {upload_bytes: 100000, wait_seconds: 3, execution_seconds: 600, destruction_days: 2}
"""
LISTS = {
    "a": ("a.csv", b"id,ra,dec,z\nq1,10.0,1.0,2.9\nq2,11.0,2.0,3.1\n", "text/csv"),
    "b": ("b.csv", b"id,ra,dec\nq3,10.5,1.5\n", "text/csv"),
}
ESTIMATE = {
    "network": {"parameters": 1000, "flops": 2e6, "memory": 3000, "members": 1, "looks": 8},
    "lists": {
        "training": {
            "rows": 2,
            "status": {"ok": 1, "duplicate": 1},
            "flags": {"merged": 1},
            "footprint": {"bands": {"r": 2}, "all": 2},
            "matched": 1,
        },
        "targets": {
            "rows": 1,
            "status": {"ok": 1},
            "flags": {},
            "footprint": {"bands": {"r": 1}, "all": 1},
            "matched": None,
        },
    },
    "searched": 1.0,
    "redshifts": {"list": "training", "edges": [0.0, 1.0, 2.0], "sent": [1, 1], "usable": [0, 1]},
    "refused": None,
    "amounts": {"rows": 3, "bytes_read": 2000, "seconds_select": 5.0, "seconds_train": 90.0, "seconds": 100.0},
    "hints": [],
}
"""What the examination of a job finds here: the archive has no pixel, and JAX takes seconds to load."""
ASKED = {"PIPELINE": "train-predict", "UPLOAD": ["training,param:a", "targets,param:b"]}


@dataclass
class Server:
    """A running server: its address, its parts, and a client that follows no redirect."""

    url: str
    deployment: Deployment
    http: httpx.Client

    def create(self, **parameters: str) -> str:
        """Create a job with both lists and return its address."""
        response = self.http.post("/jobs", data=ASKED | parameters, files=LISTS)
        assert response.status_code == 303, response.text
        return str(response.headers["location"])

    def job(self, url: str) -> Job:
        return self.deployment.jobs.get(url.rsplit("/", 1)[1])

    def claim(self) -> Claim:
        """Take the next job, as a worker does."""
        claim = self.deployment.jobs.store.claim("a worker")
        assert claim is not None
        return claim

    def complete(self, *results: Result) -> None:
        """Do the next job, as a worker does."""
        claim = self.claim()
        self.deployment.jobs.store.finish(claim.job.id, claim.attempt, results)


@pytest.fixture
def manifest_path(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"objID": [1, 2], "ra": [10.0, 11.0], "dec": [1.0, 2.0]}), tmp_path / "catalogue.parquet")
    path = tmp_path / "manifest.yaml"
    path.write_text(MANIFEST)
    return path


@pytest.fixture
def manifest(manifest_path: Path) -> Manifest:
    return Manifest.load(manifest_path)


@pytest.fixture
def examined() -> list[tuple[str, ...]]:
    """What was asked of the examination, a job's id first."""
    return []


@pytest.fixture(autouse=True)
def examination(examined: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Examine jobs in no time, and take two rows for enough to train on."""
    monkeypatch.setattr("inzitu.web.checks.FEWEST_ROWS", 2)

    def asked(_: Examiner, job: Job, *only: str) -> dict[str, Any]:
        examined.append((job.id, *only))
        return {"network": ESTIMATE["network"]} if only else ESTIMATE

    monkeypatch.setattr(Examiner, "_asked", asked)


@pytest.fixture
def server(manifest: Manifest) -> Iterator[Server]:
    app = create_app(manifest)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    until(lambda: running.started)
    port = running.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=20) as http:
        yield Server(url, app.state.deployment, http)
    running.should_exit = True
    thread.join(timeout=10)
    assert not thread.is_alive()


def until(condition: Callable[[], object], *, seconds: float = 10) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
