"""An empty record, and the small one of `record.sample`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from inzitu.prov.recorder import Recorder, metadata
from inzitu.prov.store import ArtefactStore
from record import sample


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'record.db'}")
    # A test's database need not outlive a power cut.
    sa.event.listen(engine, "connect", lambda connection, record: connection.execute("PRAGMA synchronous = OFF"))
    metadata.create_all(engine)
    yield engine
    engine.dispose()


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
