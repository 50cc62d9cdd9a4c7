"""A list fetched from SDSS, networks trained, compared on a part of it, and tested again on a user's own list."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import numpy as np
import pytest
import yaml

from archive.sdss_server import SdssServer
from archive.tap_server import running
from inzitu.client import JobState, Service
from inzitu.demo.service import RunningService
from inzitu.errors import Fault
from run.stampset import NETWORK
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
    chain = ["download", "select", "cut", "train", "predict", "evaluate", "draw", "compare"]
    manifest["pipelines"] = {"download-compare": chain}
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    service = RunningService(folder / "manifest.yaml", folder / "logs")
    with running(server), service, Service(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def trained(client: Service, stage: Stage) -> JobState:
    """A user's own small network, and dcmdn-a, trained on the downloaded list and compared."""
    own = stage.folder / "network.yaml"
    own.write_text(NETWORK)
    asked = QUICK | {"SPECTRAL_CLASS": "qso", "TOP": "50", "TEST_FRACTION": "0.2", "AGAINST": "dcmdn-a"}
    job = client.submit("download-compare", {"network": own}, asked)
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


def test_the_networks_are_compared_on_that_fifth(client: Service, trained: JobState) -> None:
    table = json.loads(result(client, trained, "comparison"))
    first, other = table["networks"]
    assert (first["network"], other["network"]) == ("own", "dcmdn-a")
    assert table["rows"] == json.loads(result(client, trained, "scores"))["targets"]["rows"]
    crps = [row["scores"]["crps"]["value"] for row in (first, other)]
    assert other["crps_difference"]["value"] == pytest.approx(crps[1] - crps[0], abs=1e-6)
    models = {model["id"] for model in json.loads(client.request("GET", "/models").content)}
    assert {first["model"], other["model"]} == models
    assert result(client, trained, "comparison-picture").startswith(b"\x89PNG")


def test_its_model_is_tested_on_a_list_with_redshifts_and_on_no_other(
    client: Service, trained: JobState, stage: Stage
) -> None:
    model = json.loads(result(client, trained, "comparison"))["networks"][1]["model"]
    labelled = stage.list("labelled", rows=slice(COUNT - 10, COUNT))
    asked = {"MODEL": model, "SIZE": QUICK["SIZE"]}
    *_, last = client.follow(client.submit("test-pretrained", {"targets": labelled}, asked).url)
    assert last.phase == "COMPLETED", last.message
    assert json.loads(result(client, last, "scores"))["targets"]["rows"] == 10
    unlabelled = stage.list("unlabelled", rows=slice(COUNT - 10, COUNT), redshifts=False)
    with pytest.raises(Fault, match="targets list has no redshift; test-pretrained compares"):
        client.submit("test-pretrained", {"targets": unlabelled}, asked)


def test_predictions_that_are_there_are_drawn_again_and_not_published_again(client: Service, trained: JobState) -> None:
    tables = client.query("SELECT table_name FROM TAP_SCHEMA.tables")
    answer = client.request("GET", f"{trained.url}/results/predictions-dcmdn-a")
    [id] = re.findall(r"ID=([0-9a-f]{64})", answer.headers["link"])
    *_, last = client.follow(client.submit("visualize-predictions", {}, {"PREDICTIONS": id, "EXAMPLES": "3"}).url)
    assert last.phase == "COMPLETED", last.message
    assert {"pdfs", "redshifts", "pit"} <= set(last.results)
    assert result(client, last, "pdfs").startswith(b"\x89PNG")
    assert client.query("SELECT table_name FROM TAP_SCHEMA.tables") == tables
    with pytest.raises(Fault, match="There is no predictions 00"):
        client.submit("visualize-predictions", {}, {"PREDICTIONS": "0" * 64})
    model = json.loads(result(client, trained, "comparison"))["networks"][0]["model"]
    with pytest.raises(Fault, match=f"PREDICTIONS={model} is of the kind model"):
        client.submit("visualize-predictions", {}, {"PREDICTIONS": model})


def test_a_source_that_the_manifest_does_not_name_is_refused_before_the_job_queues(client: Service) -> None:
    with pytest.raises(Fault, match="SOURCE=gaia is no source of this service; it has sdss"):
        client.submit("download-sdss", {}, {"SOURCE": "gaia"})
    with pytest.raises(Fault, match="one SELECT that writes nothing"):
        client.submit("download-sdss", {}, {"QUERY": "DROP TABLE SpecObj"})
