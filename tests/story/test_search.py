"""Several trainings over HTTP: each is tried on the same split, and the best one predicts."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from inzitu.client import Service
from inzitu.errors import Fault
from story.stage import QUICK, Stage, lists
from story.test_own_networks import DECLARED


def test_a_grid_is_tried_the_best_predicts_and_scores_come_by_any_column(
    stage: Stage, service: Service, tmp_path: Path
) -> None:
    (tmp_path / "own.yaml").write_text(DECLARED)
    files = lists(stage) | {"network": tmp_path / "own.yaml"}
    asked = QUICK | {"GRID": "learning_rate=1e-5/1e-2", "VALIDATION_FRACTION": "0.4", "HEAD": "mixture(2)"}
    with pytest.raises(Fault, match=r"SLICES names psf, which is no column of a list .source_id, ra, dec"):
        service.submit("search-predict", files, asked | {"SLICES": "psf"})
    job = service.submit("search-predict", files, asked | {"SLICES": "z,dec"})
    *_, last = service.follow(job.url)
    assert last.phase == "COMPLETED", last.message
    best, worst = json.loads(service.request("GET", last.results["trials"]).text)
    assert {best["parameters"]["learning_rate"], worst["parameters"]["learning_rate"]} == {1e-5, 1e-2}
    assert best["validation_crps"] < worst["validation_crps"]
    whole = service.request("GET", last.results["model"], params={"FORMAT": "zip"}).content
    bundle = zipfile.ZipFile(io.BytesIO(whole))
    model = json.loads(bundle.read(next(name for name in bundle.namelist() if name.endswith("model.json"))))
    assert model["validation_crps"] == best["validation_crps"]
    assert model["recipe"]["learning_rate"] == best["parameters"]["learning_rate"]
    scores = json.loads(service.request("GET", last.results["scores"]).text)["validation"]["scores"]
    by_declination = [each for each in scores if each["column"] == "dec"]
    assert len(by_declination) == 3
    assert np.ptp([each["rows"] for each in by_declination]) <= 1
