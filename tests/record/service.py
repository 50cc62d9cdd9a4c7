"""A small record behind HTTP: the routes of provenance and artefacts alone, without jobs or tables."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import httpx
import sqlalchemy as sa
import uvicorn
from fastapi import FastAPI

from inzitu.prov.facts import Product
from inzitu.prov.recorder import Recorder, metadata
from inzitu.prov.store import ArtefactStore
from inzitu.web import artefacts, faults, provenance
from inzitu.web.app import include
from record.sample import NOON, Road, activity, record_road

BUNDLE = {"model.json": '{"network": "dcmdn-a"}', "model.safetensors": "0123456789" * 10, "sub/card é.md": "# A model"}


@dataclass
class Service:
    """The service, its record, and the bytes that it counted for each job."""

    http: httpx.Client
    recorder: Recorder
    road: Road
    bundle: str
    sent: dict[str, int]


@contextmanager
def small_service(folder: Path) -> Iterator[Service]:
    """Serve the small record, with the bundle of a model in it, over the loopback."""
    engine = sa.create_engine(f"sqlite:///{folder / 'record.db'}", connect_args={"check_same_thread": False})
    sa.event.listen(engine, "connect", lambda connection, record: connection.execute("PRAGMA synchronous = OFF"))
    metadata.create_all(engine)
    recorder = Recorder(engine, ArtefactStore(folder / "artefacts"), clock=lambda: NOON)
    road = record_road(recorder, folder / "scratch")
    for name, text in BUNDLE.items():
        path = folder / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    product = Product(folder / "bundle", "model", "inode/directory", "bundle")
    bundle = recorder.record(activity("train", hour=9), {"model": product}, job="job-2")["model"].id
    counted: dict[str, int] = defaultdict(int)

    def sent(job: str, size: int) -> None:
        counted[job] += size

    jobs = SimpleNamespace(store=SimpleNamespace(sent=sent))
    app = FastAPI()
    app.state.deployment = SimpleNamespace(engine=engine, store=recorder.store, recorder=recorder, jobs=jobs)
    for router in (provenance.router, artefacts.router):
        include(app, router)
    faults.install(app)
    with served(app) as url, httpx.Client(base_url=url) as client:
        yield Service(client, recorder, road, bundle, counted)
    engine.dispose()


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an app over the loopback and tell its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
