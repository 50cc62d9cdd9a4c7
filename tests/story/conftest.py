"""The service of the story, as the separate processes that it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from archive.sdss_server import SdssServer
from archive.tap_server import running as running_server
from inzitu.client import Service
from inzitu.demo.service import RunningService
from story.stage import Stage, make_stage


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """An archive that tests share and leave as it is; its service may fetch lists from an SDSS on the loopback."""
    stage, sdss = make_stage(tmp_path_factory.mktemp("stage")), SdssServer()
    sdss.hold(*(np.asarray(stage.quasars[name]) for name in ("ra", "dec", "z")))
    manifest = yaml.safe_load(stage.manifest.read_text())
    manifest["sources"] = {"sdss": {"kind": "sdss", "server": sdss.url}}
    stage.manifest.write_text(yaml.safe_dump(manifest))
    with running_server(sdss):
        yield stage


@pytest.fixture
def own_stage(tmp_path: Path) -> Stage:
    """An archive that a test may break."""
    return make_stage(tmp_path)


@pytest.fixture(scope="session")
def running(stage: Stage) -> Iterator[RunningService]:
    """The service of the shared archive."""
    with RunningService(stage.manifest, stage.folder / "logs") as service:
        yield service


@pytest.fixture
def service(running: RunningService) -> Iterator[Service]:
    """A client of the running service."""
    with Service(running.url) as client:
        yield client
