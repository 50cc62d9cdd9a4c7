"""The step search over a cluster of processes, whose scheduler the manifest names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

from inzitu.learn import bundles
from inzitu.manifest import Engine as Section
from inzitu.pipelines.parameters import SearchParameters
from inzitu.run.engine import Engine
from inzitu.run.search import search
from inzitu.run.train import Lesson
from inzitu.run.work import Work
from run.stampset import NETWORK, write_stamps


def test_trials_are_trained_by_the_processes_of_the_cluster(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_here(*_: Any, **__: Any) -> Any:
        raise AssertionError("trained in the job's own process")

    monkeypatch.setattr(Lesson, "learned", not_here)
    (tmp_path / "network").write_text(NETWORK)
    inputs = write_stamps(tmp_path / "stamps") | {"network": tmp_path / "network"}
    asked = SearchParameters(
        network="own", epochs=10, validation_fraction=0.3, grid="learning_rate=1e-5/1e-2; head=mixture(1)"
    )
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit=0
    ) as cluster:
        section = Section(scheduler=cluster.scheduler_address)
        with Engine(section) as engine:
            far = work.manifest.model_copy(update={"engine": section})
            made = search(asked, inputs, replace(work, manifest=far, engine=engine)).made
    best, worst = json.loads(made["trials"].read_text())
    assert best["parameters"] == {"learning_rate": 0.01, "head": "mixture(1)"}
    assert best["validation_crps"] < worst["validation_crps"]
    assert bundles.load(made["model"]).json["validation_crps"] == best["validation_crps"]
