"""An empty record, and the small one of `record.sample`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from inzitu.prov.recorder import Recorder, metadata
from inzitu.prov.store import ArtefactStore
from record import sample

POSTGRESQL = os.environ.get("INZITU_TEST_POSTGRESQL")
"""Address of a database (postgresql+psycopg://...) on which the record is tried as well; its tables are dropped."""


@pytest.fixture(params=["sqlite", "postgresql"] if POSTGRESQL else ["sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    if request.param == "postgresql":
        engine = sa.create_engine(str(POSTGRESQL))
        metadata.drop_all(engine)
    else:
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'record.db'}")
        # A test's database need not outlive a power cut.
        sa.event.listen(engine, "connect", lambda connection, record: connection.execute("PRAGMA synchronous = OFF"))
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite(engine: sa.Engine) -> sa.Engine:
    """Return the engine where it is SQLite's."""
    if engine.dialect.name != "sqlite":
        pytest.skip("it is a matter of SQLite alone")
    return engine


@pytest.fixture
def recorder(engine: sa.Engine, tmp_path: Path) -> Recorder:
    return Recorder(engine, ArtefactStore(tmp_path / "artefacts"), clock=lambda: sample.NOON)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file of some text below the scratch folder, and return its path."""
    return partial(sample.write, tmp_path / "scratch")


@pytest.fixture
def road(recorder: Recorder, tmp_path: Path) -> sample.Road:
    return sample.record_road(recorder, tmp_path / "scratch")
