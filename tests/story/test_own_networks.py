"""A user's own network over HTTP: checked before it queues, trained like any other, in the record and in the bundle."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inzitu.client import Service
from inzitu.demo.service import RunningService
from inzitu.errors import Fault
from inzitu.hips import Survey, cutouts
from inzitu.learn import bundles
from inzitu.learn.ship import ship
from story.stage import COUNT, KNOWN, QUICK, Stage, lists, tap

DECLARED = """
name: colours and a little shape
layers:
  - conv: {channels: 8, size: 3, stride: 2}
  - activation: gelu
  - global_pool: average
  - dense: 16
  - activation: tanh
"""


def initial(key: jax.Array) -> Any:
    return {"matrix": 0.1 * jax.random.normal(key, (5, 6)), "bias": jnp.zeros(6)}


def forward(parameters: Any, images: jax.Array) -> jax.Array:
    outputs: jax.Array = images[:, 10:18, 10:18].mean(axis=(1, 2)) @ parameters["matrix"] + parameters["bias"]
    return outputs


def endless(parameters: Any, images: jax.Array) -> jax.Array:
    raw = forward(parameters, images)
    waited = jax.lax.while_loop(lambda x: x[0, 0] < jnp.inf, lambda x: x * 0.5, raw)
    return raw + jax.lax.stop_gradient(waited)


def shipped(function: Any, path: Path) -> Path:
    return ship(function, initial, input_shape=(28, 28, 5)).write(path)


def asked(service: Service, stage: Stage, network: Path, **parameters: str) -> Any:
    return service.submit("train-predict", lists(stage) | {"network": network}, QUICK | parameters)


def test_a_declared_and_a_shipped_network_train_and_predict(
    stage: Stage, running: RunningService, tmp_path: Path
) -> None:
    (tmp_path / "own.yaml").write_text(DECLARED)
    sent = {
        "declared": (tmp_path / "own.yaml", "mixture(3)"),
        "shipped": (shipped(forward, tmp_path / "own.json"), "mixture(2)"),
    }
    surveys = [Survey.open(stage.folder / "hips" / band) for band in "ugriz"]
    with Service(running.url) as service:
        jobs = {
            name: asked(service, stage, path, HEAD=head, TABLE=f"own_{name}") for name, (path, head) in sent.items()
        }
        for name, job in jobs.items():
            *_, last = service.follow(job.url)
            assert last.phase == "COMPLETED", last.message
            with tap(running.url) as tables:
                rows = tables.run_sync(f"SELECT * FROM predictions.own_{name}").to_table()
            assert len(rows) == COUNT - KNOWN
            whole = service.request("GET", last.results["model"], params={"FORMAT": "zip"}).content
            zipfile.ZipFile(io.BytesIO(whole)).extractall(tmp_path / name)
            stamps = cutouts(surveys, rows["ra"], rows["dec"], size=28, scale=0.396)
            again = bundles.load(next((tmp_path / name).rglob("model.json")).parent).predict(stamps.pixels)
            np.testing.assert_allclose(again.mean(), rows["z_mean"], atol=1e-4)
            record = service.request("GET", last.results["provenance"]).text
            assert hashlib.sha256(sent[name][0].read_bytes()).hexdigest() in record


def test_a_network_that_could_do_harm_is_refused_before_the_job_queues(
    stage: Stage, service: Service, tmp_path: Path
) -> None:
    (tmp_path / "loop.yaml").write_text("layers: &a [residual: *a]")
    half = shipped(forward, tmp_path / "half.json")
    half.write_bytes(half.read_bytes()[:-200])
    bad = {
        tmp_path / "loop.yaml": "aliases are not allowed",
        half: "no whole JSON",
        shipped(endless, tmp_path / "endless.json"): "a while loop whose end cannot be seen",
    }
    before = len(service.jobs())
    for path, message in bad.items():
        began = time.monotonic()
        with pytest.raises(Fault, match=message):
            asked(service, stage, path, HEAD="mixture(2)")
        assert time.monotonic() - began < 60
    assert len(service.jobs()) == before
