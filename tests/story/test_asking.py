"""A user asks first what a job will take, in the words of docs/use/asking.md, and then has it run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from inzitu.client import Service
from inzitu.demo.service import RunningService
from story.stage import COUNT, KNOWN, QUICK, Stage, lists

PAGE = Path(__file__).parents[2] / "docs" / "use" / "asking.md"


def said(command: str, folder: Path, server: str) -> str:
    program = [sys.executable, "-c", "from inzitu.cli import main; main()", *shlex.split(command)[1:]]
    environment = os.environ | {"INZITU_SERVER": server, "COLUMNS": "200"}
    answer = subprocess.run(program, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture
def sent(stage: Stage, tmp_path: Path) -> Path:
    """The lists of the page: one quasar twice among those with redshift, one of the others outside."""
    ra, dec, z = (np.array(stage.quasars[name][:KNOWN]) for name in ("ra", "dec", "z"))
    ra[1], dec[1], z[1] = ra[0], dec[0] + 0.5 / 3600, z[0]
    training = stage.list("asked", rows=slice(0, KNOWN), ra=ra, dec=dec, z=z)
    far = np.array(stage.quasars[KNOWN:]["dec"])
    far[3] = -80.0
    targets = stage.list("others", rows=slice(KNOWN, COUNT), redshifts=False, dec=far)
    training.rename(tmp_path / "training.vot")
    targets.rename(tmp_path / "targets.vot")
    return tmp_path


def test_the_dry_run_says_what_the_page_says_while_the_worker_is_busy_and_the_job_then_holds_it(
    stage: Stage, sent: Path, running: RunningService, service: Service
) -> None:
    busy = service.submit("train-predict", lists(stage), QUICK | {"EPOCHS": "3000", "SEED": "77", "SIZE": "26"})
    [(command, table)] = re.findall(r"(?s)```console\n\$ (.*?)\n(.*?)```", PAGE.read_text())
    began = time.monotonic()
    output = said(command, sent, running.url)
    assert time.monotonic() - began < 60, "seconds, on a machine that does nothing else"
    lines = [line.split() for line in output.splitlines()]
    for line in table.splitlines():
        assert line.split() in lines
    service.request("POST", f"{busy.url}/phase", data={"PHASE": "ABORT"})
    url = re.search(r"inzitu run (\S+)", output)
    assert url is not None
    assert service.job(url[1]).phase == "PENDING"
    page = re.search(r"In a browser: (\S+)", output)
    assert page is not None
    assert service.job(url[1]).id in service.request("GET", page[1]).text
    said(f"inzitu run {url[1]}", sent, running.url)
    told = service.estimate(url[1])
    assert told["phase"] == "COMPLETED"
    ratios = told["ratios"]
    exact = ("rows", "usable", "tiles", "bytes_read", "images_trained", "predicted")
    assert [ratios[name] for name in exact] == [1, 1, 1, 1, 1, 1]
    assert set(told["estimated"]["amounts"]) >= {f"seconds_{step}" for step in ("select", "cut", "train", "predict")}


def test_what_a_pipeline_takes_is_shown_by_the_service(stage: Stage, running: RunningService) -> None:
    text = said("inzitu pipelines train-predict", stage.folder, running.url)
    for word in ("training=FILE", "targets=FILE", "RADIUS", "PRIORITY", "EPOCHS"):
        assert word in text
    assert "predict-pretrained" in said("inzitu pipelines", stage.folder, running.url)
    assert "MODEL=ID" in said("inzitu pipelines predict-pretrained", stage.folder, running.url)
