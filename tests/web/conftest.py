"""A deployment with an archive of one empty survey and two sources, and clients of it."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from inzitu.manifest import Manifest
from inzitu.web.app import create_app

MANIFEST = """
name: test
title: A test deployment
publisher: The observatory
state: state
archive:
  surveys: [{band: r, hips: hips/r}]
  catalogue: {path: catalogue.parquet}
limits: {upload_bytes: 100000, wait_seconds: 2, execution_seconds: 600, destruction_days: 2}
"""


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
def client(manifest: Manifest) -> Iterator[TestClient]:
    with TestClient(create_app(manifest), follow_redirects=False) as client:
        yield client
