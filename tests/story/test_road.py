"""The whole road on sixty quasars, by clients that know nothing of the service from inside."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from prov.model import ProvDocument
from scipy.special import ndtr
from typer.testing import CliRunner

from inzitu.cli import app
from inzitu.client import JobState, Service
from inzitu.demo.service import RunningService
from inzitu.errors import Fault
from inzitu.hips import Survey, cutouts
from inzitu.learn import bundles
from story.stage import COUNT, KNOWN, QUICK, Stage, lists, tap


@dataclass(frozen=True)
class Played:
    """The end of one train-predict, and the states that a user saw on the way."""

    job: JobState
    seen: list[JobState]
    rows: Table


# A radius and a size that no other story asks for: what is selected, cut and trained here is not found.
OWN = QUICK | {"RADIUS": "1.4", "SIZE": "30"}


@pytest.fixture(scope="module")
def played(stage: Stage, running: RunningService) -> Played:
    with Service(running.url) as service:
        seen = list(service.follow(service.submit("train-predict", lists(stage), OWN | {"TABLE": "story"}).url))
    assert seen[-1].phase == "COMPLETED", seen[-1].message
    with tap(running.url) as tables:
        rows = tables.run_sync("SELECT * FROM predictions.story ORDER BY source_id").to_table()
    return Played(seen[-1], seen, rows)


def test_the_job_shows_its_steps_losses_and_time_left(played: Played) -> None:
    steps = {state.step for state in played.seen}
    assert "train" in steps
    losses = [state for state in played.seen if state.step == "train" and "loss" in state.info]
    assert losses
    assert all(np.isfinite(float(state.info["loss"])) for state in losses)
    assert any(state.seconds_left is not None for state in losses)


def test_every_target_has_a_row_with_an_honest_mixture(played: Played, stage: Stage) -> None:
    rows = played.rows
    assert sorted(rows["source_id"]) == sorted(stage.quasars["source_id"][KNOWN:])
    assert set(rows["status"]) == {"ok"}
    weights, means, sigmas = (np.stack(rows[name]).astype(float) for name in ("weights", "means", "sigmas"))
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    # Two epochs learn little, but the range of the labels; magnitudes of a band called z once took their place.
    assert np.all((np.asarray(rows["z_median"]) > 2) & (np.asarray(rows["z_median"]) < 6))
    for name, level in (("z_q025", 0.025), ("z_q16", 0.16), ("z_median", 0.5), ("z_q84", 0.84), ("z_q975", 0.975)):
        at = np.asarray(rows[name], float)[:, None]
        np.testing.assert_allclose((weights * ndtr((at - means) / sigmas)).sum(axis=1), level, atol=2e-4)


def test_columns_have_units_and_ucds(played: Played) -> None:
    assert str(played.rows["ra"].unit) == "deg"
    assert played.rows["z_median"].meta["ucd"].startswith("src.redshift.phot")


def test_the_table_stands_in_tap_schema_and_answers_async(played: Played, running: RunningService) -> None:
    probable = "SELECT source_id, pz_prob(weights, means, sigmas, 0, 9) AS whole FROM predictions.story"
    with tap(running.url) as tables:
        columns = tables.run_sync("SELECT column_name FROM TAP_SCHEMA.columns WHERE table_name = 'predictions.story'")
        answer = tables.run_async(probable).to_table()
    assert {"source_id", "weights", "means", "sigmas", "model_id"} <= set(columns.to_table()["column_name"])
    assert len(answer) == COUNT - KNOWN
    np.testing.assert_allclose(answer["whole"], 1, atol=1e-5)


def test_the_bundle_loaded_anew_gives_the_served_predictions(
    played: Played, service: Service, stage: Stage, tmp_path: Path
) -> None:
    model = str(played.rows["model_id"][0])
    zipfile.ZipFile(io.BytesIO(service.request("GET", f"/models/{model}").content)).extractall(tmp_path)
    surveys = [Survey.open(stage.folder / "hips" / band) for band in "ugriz"]
    stamps = cutouts(surveys, played.rows["ra"], played.rows["dec"], size=int(OWN["SIZE"]), scale=0.396)
    mixture = bundles.load(tmp_path).predict(stamps.pixels)
    for name in ("weights", "means", "sigmas"):
        np.testing.assert_allclose(np.asarray(getattr(mixture, name)), np.stack(played.rows[name]), atol=1e-5)


def test_the_prov_library_reads_both_formats_and_gives_them_back_equal(played: Played, service: Service) -> None:
    documents = {}
    for name, library in (("PROV-JSON", "json"), ("PROV-N", "provn")):
        text = service.request("GET", "/provenance", params={"ID": played.job.id, "RESPONSEFORMAT": name}).text
        documents[name] = ProvDocument.deserialize(content=text, format=library)
        again = ProvDocument.deserialize(content=documents[name].serialize(format=library), format=library)
        assert documents[name] == again
    assert documents["PROV-JSON"] == documents["PROV-N"]


def test_the_record_names_the_tiles_with_their_digests(played: Played, service: Service, stage: Stage) -> None:
    asked = {"ID": played.job.id, "RESPONSEFORMAT": "PROV-JSON", "MEMBERS": "true"}
    text = service.request("GET", "/provenance", params=asked).text
    tile = next((stage.folder / "hips" / "r" / "Norder13").rglob("*.fits"))
    assert tile.name in text
    assert hashlib.sha256(tile.read_bytes()).hexdigest() in text


def test_scores_log_and_pictures_come_with_the_job(played: Played, service: Service) -> None:
    assert {"predictions", "model", "scores", "split", "provenance", "log", "pdfs"} <= set(played.job.results)
    scores = service.json(played.job.results["scores"])
    assert scores["validation"]["rows"] > 0
    assert "train: done" in service.request("GET", played.job.results["log"]).text
    assert service.request("GET", played.job.results["pdfs"]).content.startswith(b"\x89PNG")


def test_bytes_read_and_sent_are_in_the_job(played: Played, service: Service, stage: Stage) -> None:
    info = service.job(played.job.url).info
    tiles = sum(path.stat().st_size for path in (stage.folder / "hips").rglob("Npix*.fits"))
    # A stamp of 30 pixels leaves the outer tiles of the 64 pixels that the archive holds of a quasar.
    assert 0.3 * tiles < float(info["bytes_read"]) < 1.1 * tiles
    assert float(info["bytes_sent"]) > 0
    # Nobody asked before it ran, and what it was expected to take stands beside what it took.
    ratios = service.estimate(played.job.url)["ratios"]
    assert [ratios[name] for name in ("rows", "usable", "tiles", "bytes_read", "predicted")] == [1, 1, 1, 1, 1]


def test_the_same_request_again_finds_what_is_there_and_trains_nothing(
    played: Played, service: Service, stage: Stage
) -> None:
    *_, last = service.follow(service.submit("train-predict", lists(stage), OWN).url)
    assert last.phase == "COMPLETED"
    assert "train: found" in service.request("GET", last.results["log"]).text
    rows = service.query(f"SELECT COUNT(*) AS n FROM predictions.p_{last.id}")
    assert rows.decode().split()[-1] == str(COUNT - KNOWN)


def test_a_model_predicts_other_sources_later(played: Played, service: Service, stage: Stage) -> None:
    model = str(played.rows["model_id"][0])
    targets = stage.list("later", rows=slice(0, 5), redshifts=True)
    *_, last = service.follow(
        service.submit("predict-pretrained", {"targets": targets}, {"MODEL": model, "SIZE": OWN["SIZE"]}).url
    )
    assert last.phase == "COMPLETED", last.message
    assert service.json(last.results["scores"])["targets"]["rows"] == 5


def test_a_name_that_is_taken_is_refused_before_the_job_queues(played: Played, service: Service, stage: Stage) -> None:
    with pytest.raises(Fault, match=r"predictions\.story exists; choose another name"):
        service.submit("train-predict", lists(stage), QUICK | {"TABLE": "story"})


def test_inzitu_prov_and_verify_read_the_same_record(played: Played, stage: Stage) -> None:
    run = CliRunner()
    shown = run.invoke(app, ["prov", played.job.id, "--manifest", str(stage.manifest), "--format", "PROV-N"])
    assert shown.exit_code == 0
    assert ProvDocument.deserialize(content=shown.stdout, format="provn").get_records()
    verified = run.invoke(app, ["verify", played.job.id, "--manifest", str(stage.manifest)])
    assert verified.exit_code == 0, verified.output
