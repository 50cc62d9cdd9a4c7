"""A deployment's tables: a catalogue and a table of predictions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from inzitu.manifest import Manifest
from inzitu.tables.published import PublishedTables, metadata
from inzitu.tables.query import QueryService
from tables.sample import ROWS, Ask, Files, positions, predictions


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Parquet files; row groups are small, so that cones skip most of them."""
    path = tmp_path_factory.mktemp("tables")
    pq.write_table(predictions(), path / "predictions.parquet", row_group_size=100)
    ra, dec = positions(1)
    catalogue = {"objID": np.arange(ROWS), "ra": ra, "dec": dec, "size": np.ones(ROWS, np.int16)}
    pq.write_table(pa.table(catalogue), path / "catalogue.parquet")
    (path / "secret.csv").write_text("password\nhunter2\n")
    return path


@pytest.fixture(scope="session")
def manifest(folder: Path) -> Manifest:
    archive = {"surveys": [{"band": "r", "hips": "hips"}], "catalogue": {"path": str(folder / "catalogue.parquet")}}
    return Manifest.model_validate({"archive": archive, "limits": {"query_seconds": 20}})


@pytest.fixture(scope="session")
def published(folder: Path) -> Iterator[PublishedTables]:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    metadata.create_all(engine)
    tables = PublishedTables(engine, Files())
    with engine.begin() as connection:
        artefact = str(folder / "predictions.parquet")
        tables.publish(connection, name="quasars", artefact=artefact, job="j1", description="Predicted quasars")
    yield tables
    engine.dispose()


@pytest.fixture(scope="session")
def service(manifest: Manifest, published: PublishedTables) -> QueryService:
    return QueryService(manifest, published)


@pytest.fixture(scope="session")
def ask(service: QueryService) -> Ask:
    """Ask a query and return its rows."""

    def rows(adql: str, **options: Any) -> list[dict[str, Any]]:
        return [row for batch in service.query(adql, **options) for row in batch.to_pylist()]

    return rows
