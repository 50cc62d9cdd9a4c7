from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine

from inzitu.jobs.store import JobStore
from inzitu.manifest import Manifest
from inzitu.pipelines import Request, check
from inzitu.prov.facts import Agent, AgentKind, Artefact
from inzitu.run.child import _JobRun
from inzitu.tables.published import metadata as table_tables

ASKED = [("PIPELINE", "train-test-single"), ("TABLE", "quasars")]


@pytest.fixture
def run(manifest: Manifest, database: Engine) -> _JobRun:
    """A job that has been claimed and done all its steps."""
    store = JobStore(database)
    store.create_tables()
    table_tables.create_all(database)
    job = store.run(store.create(parameters=ASKED, destruction=store.now(), execution_seconds=60).id)
    claim = store.claim("a worker")
    assert claim is not None
    return _JobRun(manifest, job.id, claim.attempt)


def predictions(run: _JobRun, path: Path) -> dict[str, Artefact]:
    pq.write_table(pa.table({"source_id": ["a"]}), path)
    agent = Agent("a", "a", AgentKind.PERSON)
    made = run.recorder.admit(path, kind="predictions", media_type="x/y", name="p", agent=agent)
    return {"predictions": made}


def request() -> Request:
    return check(ASKED, ["training"])


def test_the_table_is_called_as_asked(run: _JobRun, tmp_path: Path) -> None:
    run._finish(request(), predictions(run, tmp_path / "p"))
    assert [table.name for table in run.published.tables()] == ["quasars"]
    run.jobs._engine.dispose()


def test_a_name_that_is_taken_by_the_end_costs_no_results(run: _JobRun, database: Engine, tmp_path: Path) -> None:
    made = predictions(run, tmp_path / "p")
    with database.begin() as connection:
        run.published.publish(connection, name="quasars", artefact="0" * 64, job=None, description="another's")
    run._finish(request(), made)
    tables = {table.name: table.artefact for table in run.published.tables()}
    assert tables == {"quasars": "0" * 64, f"p_{run.id}": made["predictions"].id}
    job = run.jobs.get(run.id)
    assert job.phase == "COMPLETED"
    assert any(f"predictions.p_{run.id} instead" in line.line for line in run.jobs.lines(run.id))
    run.jobs._engine.dispose()
