"""A list fetched from SDSS, a network trained and tested on it, and tested again on a user's own list."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import yaml

from archive.sdss_server import SdssServer
from archive.tap_server import running
from inzitu.client import JobState, Service
from inzitu.demo.service import RunningService
from inzitu.errors import Fault
from story.stage import COUNT, QUICK, Stage


@pytest.fixture(scope="module")
def client(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that may fetch lists from SDSS, here on the loopback."""
    folder, server = tmp_path_factory.mktemp("download"), SdssServer()
    server.hold(*(np.asarray(stage.quasars[name]) for name in ("ra", "dec", "z")))
    manifest = yaml.safe_load(stage.manifest.read_text())
    for survey in manifest["archive"]["surveys"]:
        survey["hips"] = str(stage.folder / survey["hips"])
    catalogue = manifest["archive"]["catalogue"]
    catalogue["path"] = str(stage.folder / catalogue["path"])
    manifest |= {"state": str(folder / "state"), "sources": {"sdss": {"kind": "sdss", "server": server.url}}}
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    service = RunningService(folder / "manifest.yaml", folder / "logs")
    with running(server), service, Service(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def trained(client: Service) -> JobState:
    job = client.submit("download-train-evaluate", {}, QUICK | {"SPECTRAL_CLASS": "qso", "TOP": "50"})
    *_, last = client.follow(job.url)
    assert last.phase == "COMPLETED", last.message
    return last


def result(client: Service, job: JobState, name: str) -> bytes:
    return client.request("GET", f"{job.url}/results/{name}").content


def test_a_downloaded_list_is_trained_on_and_a_fifth_is_tested(client: Service, trained: JobState) -> None:
    scores = json.loads(result(client, trained, "scores"))
    assert 5 <= scores["targets"]["rows"] <= 15
    assert scores["targets"]["scores"][0]["scores"]["crps"]["value"] > 0
    assert {"training", "selection", "cutouts", "split", "model", "predictions", "provenance"} <= set(trained.results)
    assert b"PAR1" in result(client, trained, "training")[:4]


def test_its_model_is_tested_on_a_list_with_redshifts_and_on_no_other(
    client: Service, trained: JobState, stage: Stage
) -> None:
    model = json.loads(client.request("GET", "/models").content)[0]["id"]
    labelled = stage.list("labelled", rows=slice(COUNT - 10, COUNT))
    asked = {"MODEL": model, "SIZE": QUICK["SIZE"]}
    *_, last = client.follow(client.submit("test-pretrained", {"targets": labelled}, asked).url)
    assert last.phase == "COMPLETED", last.message
    assert json.loads(result(client, last, "scores"))["targets"]["rows"] == 10
    unlabelled = stage.list("unlabelled", rows=slice(COUNT - 10, COUNT), redshifts=False)
    with pytest.raises(Fault, match="targets list has no redshift; test-pretrained compares"):
        client.submit("test-pretrained", {"targets": unlabelled}, asked)


def test_a_source_that_the_manifest_does_not_name_is_refused_before_the_job_queues(client: Service) -> None:
    with pytest.raises(Fault, match="SOURCE=gaia is no source of this service; it has sdss"):
        client.submit("download-sdss", {}, {"SOURCE": "gaia"})
    with pytest.raises(Fault, match="one SELECT that writes nothing"):
        client.submit("download-sdss", {}, {"QUERY": "DROP TABLE SpecObj"})
