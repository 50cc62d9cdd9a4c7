"""The pipeline download-sdss: a query in, images and labels out, and a record of where they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from archive.sdss_server import FIRST, SdssServer
from archive.tap_server import running
from inzitu.errors import LimitFault, ParameterFault, TableFault
from inzitu.hips import Survey, cutouts
from inzitu.manifest import SdssSource
from inzitu.pipelines import check
from inzitu.pipelines.download import DownloadParameters
from inzitu.prov.facts import Artefact
from inzitu.prov.readings import read_reading
from inzitu.prov.verification import State, read_local, verify
from inzitu.run.download import download
from inzitu.run.runner import Runner
from inzitu.run.work import Work
from story.stage import Stage


@pytest.fixture
def sdss(few: Stage) -> Iterator[SdssServer]:
    server = SdssServer()
    server.hold(*(np.asarray(few.quasars[name]) for name in ("ra", "dec", "z")))
    with running(server):
        yield server


def run(runner: Runner, server: SdssServer, **parameters: str) -> dict[str, Artefact]:
    manifest = runner.manifest.model_copy(update={"sources": {"sdss": SdssSource(server=server.url)}})
    asked = {"PIPELINE": "download-sdss", "SIZE": "16"} | parameters
    return replace(runner, manifest=manifest).run(check(asked.items(), []), {})


def test_images_and_labels_are_those_of_the_sources_that_the_archive_has(
    runner_of: Callable[[str], Runner], sdss: SdssServer, few: Stage
) -> None:
    runner = runner_of("one")
    made = run(runner, sdss, Z_MIN="2.8", TOP="8")
    store = runner.recorder.store
    images, labels = (np.load(store.path(made[name].id)) for name in ("images", "labels"))
    wanted = few.quasars[np.asarray(few.quasars["z"]) >= 2.8][:8]
    np.testing.assert_array_equal(labels, np.asarray(wanted["z"], np.float32))
    surveys = [Survey.open(entry.hips) for entry in runner.manifest.archive.surveys]
    cut = cutouts(surveys, wanted["ra"], wanted["dec"], size=16, scale=0.396)
    np.testing.assert_array_equal(images, cut.pixels)
    assert images.shape == (8, 16, 16, 5)
    listed = pq.read_table(store.path(made["training"].id))
    assert listed["specObjID"].to_pylist()[0] == str(FIRST + int(np.argmax(np.asarray(few.quasars["z"]) >= 2.8)))
    verdict = verify(runner.recorder, made["labels"].id, read=read_local)
    assert verdict.holds
    assert sum(link.id.startswith(sdss.url) and link.state is State.UNCHECKED for link in verdict.links) == 1


def test_the_record_holds_the_answer_and_the_same_list_is_not_cut_again(
    runner_of: Callable[[str], Runner], sdss: SdssServer
) -> None:
    runner = runner_of("one")
    first = run(runner, sdss)
    [fetched] = [activity for activity in runner.recorder.of_job("one") if activity.step == "download"]
    reading = next(used.artefact for used in fetched.used if used.role == "answers")
    answer, none = read_reading(runner.recorder.store.path(reading))
    assert "SELECT+TOP+1000" in answer.uri
    assert f"s.specObjID+%3E+{FIRST + 11}" in none.uri
    again = run(runner_of("two"), sdss)
    assert again == first
    assert len(sdss.queries) == 4  # it is asked again, as it may hold more by now
    assert [activity.step for activity in runner.recorder.of_job("two")].count("download") == 1


def test_a_worker_that_takes_over_asks_for_the_rest(work: Work, sdss: SdssServer) -> None:
    manifest = work.manifest.model_copy(update={"sources": {"sdss": SdssSource(server=sdss.url)}})
    asked, there = DownloadParameters(top=5), replace(work, manifest=manifest)
    download(asked, {}, there)
    assert len(sdss.queries) == 1
    outcome = download(asked, {}, there)
    assert len(sdss.queries) == 1
    assert outcome.account["downloaded"] == 5
    assert not outcome.certain


@pytest.mark.parametrize(
    ("parameters", "fault", "said"),
    [
        ({"z_min": 19}, TableFault, "has nothing that was asked for"),
        ({"top": 10**7}, LimitFault, "more than the 1,000,000 rows"),
        ({"source": "gaia"}, ParameterFault, "it has sdss"),
    ],
)
def test_what_brings_no_list_is_an_error(
    work: Work, sdss: SdssServer, parameters: Mapping[str, object], fault: type[Exception], said: str
) -> None:
    manifest = work.manifest.model_copy(update={"sources": {"sdss": SdssSource(server=sdss.url)}})
    with pytest.raises(fault, match=said):
        download(DownloadParameters.model_validate(parameters), {}, replace(work, manifest=manifest))
