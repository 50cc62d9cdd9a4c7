"""An estimate against what the steps then make, and against sums done by hand."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine

from inzitu.errors import LimitFault, ParameterFault
from inzitu.jobs.costs import default_seconds
from inzitu.jobs.job import Upload
from inzitu.jobs.store import JobStore
from inzitu.manifest import Manifest
from inzitu.pipelines import Request, check
from inzitu.pipelines.parameters import CutParameters
from inzitu.run import examine
from inzitu.run.cut import cut
from inzitu.run.estimate import BASE_MEMORY, estimated
from inzitu.run.expectation import usable_rows
from inzitu.run.select import select
from inzitu.run.trainings import network_of, trainings_of
from inzitu.run.work import Work
from inzitu.web.examiner import AT_ONCE, WAITING
from story.stage import Stage

ARCSEC = 1 / 3600


@pytest.fixture(autouse=True)
def trained_on_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a handful of rows for enough to train on."""
    monkeypatch.setattr("inzitu.run.estimate.FEWEST_ROWS", 8)


@pytest.fixture
def files(few: Stage, tmp_path: Path) -> dict[str, Path]:
    """A training list with a duplicate, a bad position and a bad redshift, and targets with one outside."""
    ra, dec, z = (np.array(few.quasars[name]) for name in ("ra", "dec", "z"))
    training = {
        "ra": [*ra[:8], ra[0], np.nan, ra[1]],
        "dec": [*dec[:8], dec[0] + ARCSEC, 1.0, dec[1]],
        "z": [*z[:8], z[0], 1.0, -1.0],
    }
    targets = {"ra": [*ra[8:], 10.0, ra[8]], "dec": [*dec[8:], -80.0, dec[8] + 4 * ARCSEC]}
    paths = {name: tmp_path / f"{name}.parquet" for name in ("training", "targets")}
    for name, columns in (("training", training), ("targets", targets)):
        pq.write_table(pa.table(columns), paths[name])
    return paths


def asked(pipeline: str = "train-predict", **parameters: str) -> Request:
    return check([("PIPELINE", pipeline), *parameters.items()], ["training", "targets"])


def test_rows_are_those_of_the_selection_and_bytes_those_of_the_cutouts(
    files: dict[str, Path], manifest: Manifest, work: Work
) -> None:
    told = estimated(asked(SIZE="28"), files, manifest, paces={})
    selection = select(asked().parameters["select"], files, work)  # type: ignore[arg-type]  # they are
    rows = pq.read_table(selection.made["selection"]).to_pylist()
    for name in files:
        status = [row["status"] for row in rows if row["list"] == name]
        assert told["lists"][name]["rows"] == len(status)
        assert told["lists"][name]["status"] == {word: status.count(word) for word in status}
    assert told["lists"]["training"]["flags"] == {"kept": 1, "merged": 1}
    # Of the eleven one has no position; of the others one lies far away.
    for name, inside, matched in (("training", 10, 8), ("targets", 5, 4)):
        assert told["lists"][name]["footprint"] == {"bands": dict.fromkeys("ugriz", inside), "all": inside}
        assert told["lists"][name]["matched"] == matched
    made = cut(CutParameters(size=28), {"selection": selection.made["selection"]}, work)
    amounts = told["amounts"]
    assert amounts["usable"] == selection.account["usable"] == 12
    assert amounts["tiles"] == made.account["tiles"]
    read = selection.account["bytes_read"] + made.account["bytes_read"]
    assert amounts["bytes_read"] == read
    assert amounts["stamp_bytes"] == 12 * 28 * 28 * 5 * 4


def test_the_operators_page_names_the_memory_and_the_number_of_examinations() -> None:
    page = Path("docs/operate/service.md").read_text(encoding="utf-8")
    assert f"`engine.memory_mb` and {examine.MEMORY >> 30} GiB for what learns" in page
    assert (AT_ONCE, WAITING) == (2, 6)
    assert "two at once" in page
    assert "Six more\nmay wait" in page


def test_redshifts_are_counted_as_sent_and_as_usable(files: dict[str, Path], manifest: Manifest, few: Stage) -> None:
    histogram = estimated(asked(), files, manifest, paces={})["redshifts"]
    z = np.array(few.quasars["z"][:8])
    # Of the ten that are redshifts one lies below all others: that of the row without a position.
    edges = np.linspace(1.0, z.max(), 25)
    np.testing.assert_allclose(histogram["edges"], edges, atol=1e-6)
    assert histogram["list"] == "training"
    assert histogram["usable"] == np.histogram(z, edges)[0].tolist()
    assert (sum(histogram["sent"]), histogram["sent"][0]) == (10, 1)


def test_operations_are_those_of_the_images_that_pass(files: dict[str, Path], manifest: Manifest) -> None:
    told = estimated(asked(SIZE="28", EPOCHS="3", MEMBERS="2"), files, manifest, paces={"train": 2.0})
    network, amounts = told["network"], told["amounts"]
    assert network["parameters"] == pytest.approx(4.76e6, rel=1e-3)
    # SCIENCE: 0.0723 GFLOP without the folding of the first layer, which spares the differences of the bands.
    assert 0.04e9 < network["flops"] < 0.0723e9
    held = 1  # a tenth of eight
    assert amounts["images_trained"] == 2 * 3 * (8 - held)
    assert amounts["flops_train"] == pytest.approx(3 * network["flops"] * 2 * 3 * (8 - held))
    assert amounts["predicted"] == 4 + held
    assert amounts["flops_predict"] == pytest.approx(network["flops"] * 2 * 8 * (4 + held))
    assert amounts["seconds_train"] == pytest.approx(2 * default_seconds("train", amounts), rel=1e-3)
    assert amounts["seconds"] > amounts["seconds_train"]
    assert amounts["memory"] > network["memory"]


def test_too_few_training_rows_are_told_before_the_job_runs(
    files: dict[str, Path], manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inzitu.run.estimate.FEWEST_ROWS", 9)
    told = estimated(asked(), files, manifest, paces={})
    assert told["refused"].startswith("Only 8 training rows can be used")
    assert told["amounts"] == {}, "what cannot run takes nothing"


@pytest.mark.parametrize(("share", "expected"), [(1.0, 3), (0.5, 6), (0.3, 10), (0.1, 12), (0.0, 12)])
def test_what_matched_in_a_part_of_the_catalogue_is_extrapolated(share: float, expected: int) -> None:
    rows = pa.table({"status": ["ok"] * 3 + ["unmatched"] * 9 + ["outside"] * 5})
    assert usable_rows(SimpleNamespace(share=share), rows) == expected  # type: ignore[arg-type]  # all that it looks at


def test_a_search_that_is_not_cut_short_is_whole_and_one_behind_tap_is_none(
    files: dict[str, Path], manifest: Manifest
) -> None:
    told = estimated(asked(), files, manifest, paces={}, enough=lambda: True)
    assert told["searched"] == 1  # one partition, which was searched before anybody asked
    remote = manifest.archive.catalogue.model_copy(update={"path": "", "tap": "http://127.0.0.1:9/tap", "table": "t"})
    archive = manifest.archive.model_copy(update={"catalogue": remote})
    told = estimated(asked(), files, manifest.model_copy(update={"archive": archive}), paces={})
    assert (told["searched"], told["amounts"]["usable"]) == (0, 13)
    assert [rows["matched"] for rows in told["lists"].values()] == [None, None]
    assert "every row in the footprint is taken to match" in told["hints"][0]


def test_a_network_beyond_the_limits_is_refused(files: dict[str, Path], manifest: Manifest) -> None:
    limits = manifest.limits.model_copy(update={"parameters": 1_000_000})
    with pytest.raises(LimitFault, match="this service takes 1,000,000"):
        trainings_of(asked(), files, manifest.model_copy(update={"limits": limits}))
    with pytest.raises(ParameterFault, match="network"):
        trainings_of(asked(SIZE="8"), files, manifest)


def test_every_training_of_a_job_counts(files: dict[str, Path], manifest: Manifest) -> None:
    once = estimated(asked(SIZE="28", EPOCHS="3"), files, manifest, paces={})["amounts"]
    grid = "learning_rate=3e-4/1e-3; epochs=3/6"
    searched = estimated(asked("search-predict", SIZE="28", GRID=grid), files, manifest, paces={})["amounts"]
    assert searched["flops_train"] == pytest.approx(2 * (1 + 2) * once["flops_train"])
    assert searched["images_trained"] == 2 * (1 + 2) * once["images_trained"]
    assert searched["predicted"] == once["predicted"]
    alone = manifest.model_copy(update={"engine": manifest.engine.model_copy(update={"workers": 1})})
    single = estimated(asked("search-predict", SIZE="28", GRID=grid), files, alone, paces={})["amounts"]
    assert manifest.engine.workers == 2
    assert searched["memory"] - BASE_MEMORY == 2 * (single["memory"] - BASE_MEMORY)
    limits = manifest.limits.model_copy(update={"parameters": 30_000_000})
    grid = "network=dcmdn-a/dcmdn-b; head=mixture(3)/mixture(5)"
    with pytest.raises(LimitFault, match="39,0"):
        trainings_of(asked("search-predict", GRID=grid), files, manifest.model_copy(update={"limits": limits}))


def test_predicting_with_a_model_is_no_training_and_has_none_of_its_limits(
    files: dict[str, Path], manifest: Manifest, tmp_path: Path
) -> None:
    (model := tmp_path / "model").mkdir()
    about = {"network": "dcmdn-a", "members": 3, "bands": list("ugriz"), "scale": 0.396, "input_shape": [28, 28, 5]}
    (model / "model.json").write_text(json.dumps(about))
    limits = manifest.limits.model_copy(update={"training_memory_mb": 1, "parameters": 1000})
    request = check(
        [("PIPELINE", "predict-pretrained"), ("SIZE", "28"), ("SCALE", "0.396"), ("MODEL", "0" * 64)], ["targets"]
    )
    found = network_of(request, {"model": model}, manifest.model_copy(update={"limits": limits}), {})
    assert found is not None
    assert (found.memory, found.looks) == (0, 3 * 8)
    assert found.parameters == pytest.approx(4.76e6, rel=1e-3)


def test_a_network_of_ones_own_cannot_be_tried_unless_it_is_sent(files: dict[str, Path], manifest: Manifest) -> None:
    with pytest.raises(ParameterFault, match="own is none of the house: send it as UPLOAD=network"):
        trainings_of(asked("search-predict", GRID="network=own/dcmdn-a"), files, manifest)


def test_both_trainings_of_a_comparison_are_counted(few: Stage, files: dict[str, Path], manifest: Manifest) -> None:
    given = {"SIZE": "32", "EPOCHS": "3", "MEMBERS": "1", "AGAINST": "dcmdn-b,pasquet"}
    request = check([("PIPELINE", "train-test-compare"), *given.items()], ["training"])
    told = estimated(request, {"training": files["training"]}, manifest, paces={})
    amounts, learnt = told["amounts"], 8 - 1 - 2
    assert amounts["images_trained"] == 3 * learnt
    assert amounts["images_compared"] == 2 * 3 * learnt
    [[_], others] = trainings_of(request, files, manifest).values()
    each = [training.network.flops for training in others]
    assert each[0] != each[1]
    assert amounts["flops_compare"] == pytest.approx(3 * 3 * learnt * sum(each))
    assert amounts["seconds_compare"] == pytest.approx(default_seconds("compare", amounts), rel=1e-3)


def test_a_list_that_the_job_downloads_is_counted_as_long_as_it_may_be(
    few: Stage, files: dict[str, Path], manifest: Manifest
) -> None:
    asked = [
        ("PIPELINE", "download-train-predict"),
        ("TOP", "100"),
        ("SIZE", "28"),
        ("EPOCHS", "3"),
        ("BATCH_SIZE", "90"),
        ("MEMBERS", "1"),
    ]
    told = estimated(check(asked, ["targets"]), {"targets": files["targets"]}, manifest, paces={})
    amounts = told["amounts"]
    assert list(told["lists"]) == ["targets"]
    assert "At most: the job fetches a list of up to TOP=100 rows" in told["hints"][0]
    assert (amounts["rows"], amounts["usable"], amounts["images_trained"]) == (100 + 6, 100 + 4, 3 * 90)
    assert amounts["predicted"] == 4 + 10
    assert amounts["stamp_bytes"] == 104 * 28 * 28 * 5 * 4
    assert amounts["seconds"] > amounts["seconds_download"] > 0
    alone = estimated(check([("PIPELINE", "download-sdss"), *asked[1:3]], []), {}, manifest, paces={})["amounts"]
    assert (alone["rows"], alone["usable"], "seconds_dataset" in alone, "flops_train" in alone) == (
        100,
        100,
        True,
        False,
    )
    # All of a small archive may be read: places spread over it leave few tiles out. The targets' come besides.
    there = len(list((few.folder / "hips").rglob("Npix*.fits")))
    assert 0.5 * there <= alone["tiles"] <= there < there + amounts["tiles"] - alone["tiles"]


def test_what_was_made_before_takes_nothing(files: dict[str, Path], manifest: Manifest) -> None:
    given = asked(SIZE="28", EPOCHS="3")
    anew = estimated(given, files, manifest, paces={})
    told = estimated(given, files, manifest, paces={}, made=("select", "cut", "train"))
    assert told["made"] == ["select", "cut", "train"]
    nothing = ("catalogue_bytes", "bytes_read", "tiles", "images_trained", "flops_train")
    for name in (*nothing, *(f"seconds_{step}" for step in told["made"])):
        assert (told["amounts"][name], anew["amounts"][name] > 0) == (0, True), name
    for name in ("rows", "usable", "stamp_bytes", "predicted", "flops_predict", "seconds_predict"):
        assert told["amounts"][name] == anew["amounts"][name], name


# The process


@pytest.fixture
def examined(
    manifest: Manifest, database: Engine, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> Any:
    """Return what the process says of a job."""
    store = JobStore(database)
    store.create_tables()
    # The bound is for a process of its own, which this is not.
    monkeypatch.setattr(examine, "_bound_memory", lambda _: None)

    def ask(*only: str, **parameters: str) -> dict[str, Any]:
        uploads = [Upload(name=name, path=str(path), uri=f"param:{name}") for name, path in files.items()]
        given = {"PIPELINE": "train-predict"} | parameters
        job = store.create(
            parameters=list(given.items()), uploads=uploads, destruction=store.now(), execution_seconds=60
        )
        monkeypatch.setattr(sys, "stdin", io.StringIO(manifest.model_dump_json()))
        capsys.readouterr()
        assert examine.main(["-", job.id, *only]) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return ask


def test_it_answers_in_json(examined: Callable[..., dict[str, Any]]) -> None:
    told = examined()["estimate"]
    assert told["pipeline"] == "train-predict"
    assert told["amounts"]["rows"] == 17
    assert examined("network")["estimate"] == {"network": told["network"]}


def test_it_says_which_fault_it_met(examined: Callable[..., dict[str, Any]], few: Stage) -> None:
    fault = examined(SIZE="8")["fault"]
    assert fault["kind"] == "ParameterFault"
    assert "network" in fault["message"]
