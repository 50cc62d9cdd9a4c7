"""A deployment of a dozen real quasars, and what a step works with in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine as Database

from inzitu.jobs.database import open_engine
from inzitu.manifest import Manifest
from inzitu.prov.recorder import Recorder, metadata
from inzitu.prov.store import ArtefactStore
from inzitu.run.engine import Engine
from inzitu.run.runner import Runner
from inzitu.run.work import Work
from story.stage import Stage, make_stage


@dataclass
class Told:
    """What a step said while it ran."""

    lines: list[str] = field(default_factory=list)
    account: dict[str, float] = field(default_factory=dict)


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return make_stage(tmp_path_factory.mktemp("few"), count=12)


@pytest.fixture
def manifest(few: Stage, tmp_path: Path) -> Manifest:
    return Manifest.load(few.manifest).model_copy(update={"state": tmp_path / "state"})


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def work(manifest: Manifest, told: Told, tmp_path: Path) -> Iterator[Work]:
    for name in ("made", "checkpoints"):
        (tmp_path / name).mkdir()
    with Engine(manifest.engine) as engine:
        yield Work(
            manifest=manifest,
            folder=tmp_path / "made",
            checkpoints=tmp_path / "checkpoints",
            identities={},
            engine=engine,
            progress=lambda *_, **__: None,
            log=told.lines.append,
        )


@pytest.fixture
def database(manifest: Manifest) -> Iterator[Database]:
    engine = open_engine(manifest.database_url)
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def runner_of(manifest: Manifest, database: Database, told: Told, tmp_path: Path) -> Callable[[str], Runner]:
    """Make the runner of a job by its name."""
    recorder = Recorder(database, ArtefactStore(manifest.artefacts))

    def make(job: str) -> Runner:
        def progress(*_: Any) -> None:
            pass

        return Runner(
            manifest=manifest,
            recorder=recorder,
            engine=Engine(manifest.engine),
            job=job,
            scratch=tmp_path / "scratch" / job,
            progress=progress,
            log=told.lines.append,
            account=lambda amounts: told.account.update(amounts),
        )

    return make
