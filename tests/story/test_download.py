"""A list fetched from SDSS, a network trained and tested on it, and tested again on a user's own list."""

from __future__ import annotations

import json
import re

import pytest

from inzitu.client import JobState, Service
from inzitu.demo.service import RunningService
from inzitu.errors import Fault
from run.stampset import NETWORK
from story.stage import COUNT, QUICK, Stage


@pytest.fixture(scope="module")
def trained(running: RunningService, tmp_path_factory: pytest.TempPathFactory) -> JobState:
    """A user's own small network, trained on the downloaded list."""
    own = tmp_path_factory.mktemp("own") / "network.yaml"
    own.write_text(NETWORK)
    asked = QUICK | {"SPECTRAL_CLASS": "qso", "TOP": "50", "TABLE": "downloaded"}
    with Service(running.url) as service:
        *_, last = service.follow(service.submit("download-train-evaluate", {"network": own}, asked).url)
    assert last.phase == "COMPLETED", last.message
    return last


def model_of(service: Service) -> str:
    return service.query("SELECT TOP 1 model_id FROM predictions.downloaded").decode().split()[1]


def result(service: Service, job: JobState, name: str) -> bytes:
    return service.request("GET", f"{job.url}/results/{name}").content


def test_a_downloaded_list_is_trained_on_and_a_fifth_is_tested(service: Service, trained: JobState) -> None:
    scores = json.loads(result(service, trained, "scores"))
    assert 5 <= scores["targets"]["rows"] <= 15
    assert scores["targets"]["scores"][0]["scores"]["crps"]["value"] > 0
    assert {"training", "selection", "cutouts", "split", "model", "predictions", "provenance"} <= set(trained.results)
    assert b"PAR1" in result(service, trained, "training")[:4]


def test_its_model_is_tested_on_a_list_with_redshifts_and_on_no_other(
    service: Service, trained: JobState, stage: Stage
) -> None:
    model = model_of(service)
    labelled = stage.list("labelled", rows=slice(COUNT - 10, COUNT))
    asked = {"MODEL": model, "SIZE": QUICK["SIZE"]}
    *_, last = service.follow(service.submit("test-pretrained", {"targets": labelled}, asked).url)
    assert last.phase == "COMPLETED", last.message
    assert json.loads(result(service, last, "scores"))["targets"]["rows"] == 10
    unlabelled = stage.list("unlabelled", rows=slice(COUNT - 10, COUNT), redshifts=False)
    with pytest.raises(Fault, match="targets list has no redshift; test-pretrained compares"):
        service.submit("test-pretrained", {"targets": unlabelled}, asked)


def test_predictions_that_are_there_are_drawn_again_and_not_published_again(
    service: Service, trained: JobState
) -> None:
    tables = service.query("SELECT table_name FROM TAP_SCHEMA.tables")
    answer = service.request("GET", f"{trained.url}/results/predictions")
    [id] = re.findall(r"ID=([0-9a-f]{64})", answer.headers["link"])
    *_, last = service.follow(service.submit("visualize-predictions", {}, {"PREDICTIONS": id, "EXAMPLES": "3"}).url)
    assert last.phase == "COMPLETED", last.message
    assert {"pdfs", "redshifts", "pit"} <= set(last.results)
    assert result(service, last, "pdfs").startswith(b"\x89PNG")
    assert service.query("SELECT table_name FROM TAP_SCHEMA.tables") == tables
    with pytest.raises(Fault, match="There is no predictions 00"):
        service.submit("visualize-predictions", {}, {"PREDICTIONS": "0" * 64})
    model = model_of(service)
    with pytest.raises(Fault, match=f"PREDICTIONS={model} is of the kind model"):
        service.submit("visualize-predictions", {}, {"PREDICTIONS": model})


def test_a_source_that_the_manifest_does_not_name_is_refused_before_the_job_queues(service: Service) -> None:
    with pytest.raises(Fault, match="SOURCE=gaia is no source of this service; it has sdss"):
        service.submit("download-sdss", {}, {"SOURCE": "gaia"})
    with pytest.raises(Fault, match="one SELECT that writes nothing"):
        service.submit("download-sdss", {}, {"QUERY": "DROP TABLE SpecObj"})
