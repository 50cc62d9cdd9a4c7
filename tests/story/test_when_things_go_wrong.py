"""The road, broken in every way: rubbish lists, corrupt tiles, killed processes, aborted jobs, full disks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest

from inzitu.client import JobState, Service
from inzitu.demo.service import RunningService
from inzitu.errors import Fault
from story.stage import COUNT, KNOWN, QUICK, Stage, lists, make_stage, tap

LONG = QUICK | {"EPOCHS": "2000"}


def ended(service: Service, job: JobState) -> JobState:
    *_, last = service.follow(job.url)
    return last


def wait_for(service: Service, job: JobState, *, step: str, at_least: float = 0.0, seconds: float = 120) -> JobState:
    """Return the job's state once it is that far."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = service.job(job.url)
        if state.step == step and state.fraction >= at_least and (step != "train" or "loss" in state.info):
            return state
        assert not state.ended, state
        time.sleep(0.1)
    raise AssertionError(f"the job did not come to {step} within {seconds} s")


def children_of(worker: psutil.Process) -> list[psutil.Process]:
    return [child for child in worker.children(recursive=True) if child.is_running()]


# Lists


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ra": None}, r"ra"),
        ({"dec": None}, r"dec"),
        ({"z": None}, r"training list has no redshift column"),
    ],
)
def test_a_list_without_what_it_needs_is_refused_before_the_job_queues(
    stage: Stage, service: Service, changes: dict[str, Any], message: str
) -> None:
    sent = lists(stage) | {"training": stage.list("lacking", rows=slice(0, KNOWN), **changes)}
    before = len(service.jobs())
    with pytest.raises(Fault, match=message):
        service.submit("train-predict", sent, QUICK)
    assert len(service.jobs()) == before


def test_an_empty_list_is_refused_before_the_job_queues(stage: Stage, service: Service) -> None:
    sent = lists(stage) | {"targets": stage.list("empty", rows=slice(0, 0), redshifts=False)}
    with pytest.raises(Fault, match="no rows"):
        service.submit("train-predict", sent, QUICK)


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02 no table", b"<VOTABLE><unclosed>", b"SIMPLE  =   truncated"])
def test_a_file_that_is_no_table_is_refused_before_the_job_queues(
    stage: Stage, service: Service, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "rubbish"
    path.write_bytes(content)
    with pytest.raises(Fault, match="training"):
        service.submit("train-predict", lists(stage) | {"training": path}, QUICK)


def test_a_list_nowhere_in_the_footprint_ends_in_an_error_that_names_a_row(stage: Stage, service: Service) -> None:
    far = np.full(COUNT - KNOWN, -75.0)
    sent = lists(stage) | {"targets": stage.list("far", rows=slice(KNOWN, COUNT), redshifts=False, dec=far)}
    job = ended(service, service.submit("train-predict", sent, QUICK))
    assert job.phase == "ERROR"
    assert "16 outside" in job.message
    assert "dec -75.0" in job.message
    assert "u, g, r, i, z" in job.message


def test_bad_rows_are_rows_with_a_status_and_the_others_are_predicted(stage: Stage, service: Service) -> None:
    quasars = stage.quasars[KNOWN:]
    ra, dec = np.array(quasars["ra"]), np.array(quasars["dec"])
    ra[0], dec[1], dec[2], ra[3] = np.nan, 95.0, -75.0, np.inf
    ra[5], dec[5] = ra[4], dec[4] + 1.0 / 3600
    training = stage.quasars[:KNOWN]
    z = np.array(training["z"])
    z[0], z[1] = -0.5, np.nan
    sent = {
        "training": stage.list("marred", rows=slice(0, KNOWN), z=z),
        "targets": stage.list("blemished", rows=slice(KNOWN, COUNT), redshifts=False, ra=ra, dec=dec),
    }
    job = ended(service, service.submit("train-predict", sent, QUICK | {"TABLE": "blemished"}))
    assert job.phase == "COMPLETED", job.message
    with tap(service.url) as tables:
        rows = tables.run_sync("SELECT * FROM predictions.blemished").to_table()
    status = dict(zip(map(str, rows["source_id"]), map(str, rows["status"]), strict=True))
    names = [str(name) for name in quasars["source_id"]]
    bad = ["invalid-position", "invalid-position", "outside", "invalid-position", "ok", "duplicate"]
    assert [status[name] for name in names] == bad + ["ok"] * (len(names) - 6)
    predicted = ~np.ma.getmaskarray(np.ma.asarray(rows["z_median"])) & np.isfinite(
        np.ma.filled(rows["z_median"], np.nan)
    )
    assert all(predicted == (np.asarray(rows["status"]) == "ok"))
    log = service.request("GET", job.results["log"]).text
    assert "2 invalid-label" in log


# Requests


@pytest.mark.parametrize(
    ("pipeline", "parameters", "message"),
    [
        ("train-predit", {}, "did you mean train-predict"),
        ("train-predict", {"NETWROK": "dcmdn-a"}, "did you mean NETWORK"),
        ("train-predict", {"EPOCHS": "-3"}, "EPOCHS=-3"),
        ("train-predict", {"HEAD": "mixture(0)"}, "k from 1 to 64"),
        ("train-predict", {"TABLE": "drop table"}, "cannot name a table"),
        ("predict-pretrained", {"MODEL": "0" * 64}, "takes no upload named training"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words_before_the_job_queues(
    stage: Stage, service: Service, pipeline: str, parameters: dict[str, str], message: str
) -> None:
    with pytest.raises(Fault, match=message):
        service.submit(pipeline, lists(stage), parameters)


# Tiles


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[tuple[Stage, Service, RunningService]]:
    """A deployment of its own whose tiles a test may damage before it sends a job."""
    stage = make_stage(tmp_path)
    with RunningService(stage.manifest, tmp_path / "logs") as running, Service(running.url) as service:
        yield stage, service, running


def tiles_of(stage: Stage, band: str, row: int) -> list[Path]:
    """Return the tiles that the stamp of a quasar touches."""
    from inzitu.hips import Survey, cutouts

    source = stage.quasars[row]
    reads = cutouts([Survey.open(stage.folder / "hips" / band)], [source["ra"]], [source["dec"]], size=28, scale=0.396)
    return [Path(urlsplit(tile.uri).path) for tile in reads.tiles]


def test_damaged_and_missing_tiles_cost_their_rows_and_no_others(
    damaged: tuple[Stage, Service, RunningService],
) -> None:
    stage, service, _ = damaged
    truncated, corrupted, missing = (tiles_of(stage, "r", KNOWN + row) for row in (0, 1, 2))
    for tile in truncated:
        tile.write_bytes(tile.read_bytes()[:3000])
    for tile in corrupted:
        tile.write_bytes(b"<html>503</html>" + tile.read_bytes()[16:])
    for tile in missing:
        tile.unlink()
    job = ended(service, service.submit("train-predict", lists(stage), QUICK | {"TABLE": "damaged"}))
    assert job.phase == "COMPLETED", job.message
    with tap(service.url) as tables:
        rows = tables.run_sync("SELECT source_id, status, z_median FROM predictions.damaged").to_table()
    status = {str(row["source_id"]): str(row["status"]) for row in rows}
    names = [str(name) for name in stage.quasars["source_id"][KNOWN:]]
    assert [status[name] for name in names[:3]] == ["error", "error", "blank"]
    assert {status[name] for name in names[3:]} == {"ok"}
    log = service.request("GET", job.results["log"]).text
    assert truncated[0].name in log


def test_verify_names_the_first_link_that_fails(damaged: tuple[Stage, Service, RunningService]) -> None:
    stage, service, _ = damaged
    job = ended(service, service.submit("train-predict", lists(stage), QUICK))
    tile = tiles_of(stage, "g", 0)[0]
    content = bytearray(tile.read_bytes())
    content[-4000] ^= 1
    tile.write_bytes(content)
    command = [sys.executable, "-m", "inzitu.cli", "verify", job.id, "--manifest", str(stage.manifest)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert f"{tile.name} has changed" in said.stderr.replace("\n", "")


# Processes


def test_an_aborted_job_stops_soon_and_says_aborted(stage: Stage, running: RunningService) -> None:
    with Service(running.url) as service:
        job = service.submit("train-predict", lists(stage), LONG)
        wait_for(service, job, step="train")
        worker = running.process("work")
        assert children_of(worker)
        began = time.monotonic()
        service.request("POST", f"{job.url}/phase", data={"PHASE": "ABORT"})
        while children_of(worker) and time.monotonic() < began + 20:
            time.sleep(0.02)
        assert not children_of(worker)
        assert service.job(job.url).phase == "ABORTED"
        with pytest.raises(Fault, match="ABORTED"):
            service.request("POST", f"{job.url}/phase", data={"PHASE": "RUN"})


def test_a_killed_workers_job_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    stage = make_stage(tmp_path)
    with RunningService(stage.manifest, tmp_path / "logs") as running, Service(running.url) as service:
        job = service.submit("train-predict", lists(stage), QUICK | {"EPOCHS": "150", "TABLE": "survivor"})
        before = wait_for(service, job, step="train", at_least=0.2)
        worker = running.process("work")
        orphans = children_of(worker)
        os.kill(worker.pid, signal.SIGKILL)
        psutil.wait_procs(orphans, timeout=5)
        assert not any(orphan.is_running() for orphan in orphans)
        running.start("work")
        state = wait_for(service, job, step="train", at_least=0.01)
        assert state.fraction >= 0.5 * before.fraction
        last = ended(service, job)
        assert last.phase == "COMPLETED", last.message
        rows = service.query("SELECT COUNT(z_median) AS n FROM predictions.survivor")
        assert rows.decode().split()[-1] == str(COUNT - KNOWN)
        command = [sys.executable, "-m", "inzitu.cli", "verify", job.id, "--manifest", str(stage.manifest)]
        assert subprocess.run(command, check=False).returncode == 0


def test_jobs_results_and_tables_outlive_a_killed_server(stage: Stage, tmp_path: Path) -> None:
    with RunningService(stage.manifest, tmp_path / "first") as running:
        with Service(running.url) as service:
            job = ended(service, service.submit("train-predict", lists(stage), QUICK | {"TABLE": "durable"}))
            scores = service.json(job.results["scores"])
        os.kill(running.process("serve").pid, signal.SIGKILL)
    with RunningService(stage.manifest, tmp_path / "second") as running, Service(running.url) as service:
        again = service.job(f"{running.url}/jobs/{job.id}")
        assert again.phase == "COMPLETED"
        assert service.json(again.results["scores"]) == scores
        rows = service.query("SELECT COUNT(*) AS n FROM predictions.durable")
        assert rows.decode().split()[-1] == str(COUNT - KNOWN)


# Room


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB: room for the database and the cutouts, not for a model."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("mounting a small file system takes a right that this user has not")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_an_error_in_words_and_loses_nothing(stage: Stage, small_disk: Path, tmp_path: Path) -> None:
    text = stage.manifest.read_text().replace("state: state", f"state: {small_disk / 'state'}")
    manifest = stage.folder / "small.yaml"
    manifest.write_text(text)
    with RunningService(manifest, tmp_path / "logs") as running, Service(running.url) as service:
        job = ended(service, service.submit("train-predict", lists(stage), QUICK))
        assert job.phase == "ERROR"
        assert "No space left" in job.message
        assert "free some space" in job.message
        record = service.request("GET", "/provenance", params={"ID": job.id}).text
        assert "select" in record
        command = [sys.executable, "-m", "inzitu.cli", "verify", job.id, "--manifest", str(manifest)]
        assert subprocess.run(command, check=False).returncode == 0
