"""The step cut over a cluster of processes, whose scheduler the manifest names."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster

from inzitu.errors import ServiceFault
from inzitu.manifest import Engine as Section
from inzitu.run import cut as module
from inzitu.run.engine import Engine
from inzitu.run.work import Outcome, Work
from run.conftest import Told
from run.test_cut import done, pixels, selection
from story.stage import Stage

__all__ = ["selection"]  # a fixture


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit="600MB"
    ) as started:
        yield started


@pytest.fixture
def far(work: Work, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    monkeypatch.setattr(module, "ROWS_A_GROUP", 2)
    with Engine(Section(scheduler=cluster.scheduler_address)) as engine:
        yield replace(work, engine=engine, checkpoints=work.checkpoints / "far")


def same(one: Outcome, other: Outcome) -> None:
    np.testing.assert_array_equal(pixels(one), pixels(other))
    for name in ("cutouts/rows.parquet", "tiles.parquet"):
        paths = [outcome.made["cutouts"].parent / name for outcome in (one, other)]
        assert pq.read_table(paths[0]).equals(pq.read_table(paths[1]))


def test_a_cluster_cuts_the_same_and_names_the_same_damaged_tile(
    work: Work, far: Work, selection: Path, tmp_path: Path, few: Stage, told: Told
) -> None:
    tile = next((few.folder / "hips/r").glob("Norder*/Dir*/Npix*.fits"))
    whole = tile.read_bytes()
    tile.write_bytes(whole[:4000])
    try:
        near = done(work, selection, tmp_path / "near")
        said, told.lines[:] = [line for line in told.lines if "cannot be used" in line], []
        same(done(far, selection, tmp_path / "distant"), near)
    finally:
        tile.write_bytes(whole)
    assert [line for line in told.lines if "cannot be used" in line] == said
    assert len(said) == 1
    assert not near.certain


def test_what_a_dead_worker_had_to_do_is_done_by_another(
    work: Work, far: Work, selection: Path, tmp_path: Path, cluster: LocalCluster
) -> None:
    near = done(work, selection, tmp_path / "near")
    killed: list[int] = []

    def kill_one(_done: float, _total: float, /, **_: object) -> None:
        if not killed:
            with Client(cluster.scheduler_address, set_as_default=False) as client:
                killed.extend(client.run(os.getpid).values())
            os.kill(killed[0], signal.SIGKILL)

    same(done(replace(far, progress=kill_one), selection, tmp_path / "distant"), near)
    assert killed


def test_work_that_kills_every_worker_is_given_up_in_words(cluster: LocalCluster) -> None:
    cluster.scheduler.allowed_failures = 0
    with (
        Engine(Section(scheduler=cluster.scheduler_address)) as engine,
        pytest.raises(ServiceFault, match="most likely for want of memory"),
    ):
        list(engine.map(lambda _: os._exit(1), [1]))
