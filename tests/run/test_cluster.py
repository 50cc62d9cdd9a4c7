"""The steps select and cut over a cluster of processes, whose scheduler the manifest names."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster

from inzitu.errors import ServiceFault
from inzitu.manifest import Engine as Section
from inzitu.pipelines.parameters import SelectParameters
from inzitu.run import cut as module
from inzitu.run.engine import Engine
from inzitu.run.select import select
from inzitu.run.work import Outcome, Work
from run.conftest import Told
from run.test_cut import done, pixels, selection
from story.stage import Stage

__all__ = ["selection"]  # a fixture


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit=0
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


class Killer:
    """Kills one worker when a step first tells how far it is."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._scheduler = cluster.scheduler_address
        self.killed: list[int] = []

    def __call__(self, _done: float, _total: float, /, **_: object) -> None:
        if not self.killed:
            with Client(self._scheduler, set_as_default=False) as client:
                self.killed.extend(client.run(os.getpid).values())
            os.kill(self.killed[0], signal.SIGKILL)


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
    killer = Killer(cluster)
    same(done(replace(far, progress=killer), selection, tmp_path / "distant"), near)
    assert killer.killed


@pytest.fixture(scope="module")
def stars(few: Stage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue in files of many row groups: 1.6 million stars all over the sky, and the quasars among them."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("stars")
    quasars = pq.read_table(few.folder / "catalogue.parquet")
    count = 800_000
    for number in range(2):
        ra, dec = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
        columns = {name: pa.array(np.zeros(count)) for name in quasars.column_names}
        columns |= {"objID": pa.array(np.arange(count) + number * count), "ra": pa.array(ra), "dec": pa.array(dec)}
        table = pa.table({name: columns[name] for name in quasars.column_names}).cast(quasars.schema)
        half = quasars.slice(6 * number, 6)
        pq.write_table(pa.concat_tables([table, half]), folder / f"{number}.parquet", row_group_size=50_000)
    return folder


def over(work: Work, stars: Path, **engine: int) -> Work:
    """Let a step work with the large catalogue."""
    archive = work.manifest.archive
    archive = archive.model_copy(update={"catalogue": archive.catalogue.model_copy(update={"path": str(stars)})})
    section = work.manifest.engine.model_copy(update=engine)
    return replace(work, manifest=work.manifest.model_copy(update={"archive": archive, "engine": section}))


def selected(work: Work, few: Stage, folder: Path) -> pa.Table:
    folder.mkdir()
    path = folder / "targets.parquet"
    pq.write_table(pa.table({"ra": list(few.quasars["ra"]), "dec": list(few.quasars["dec"])}), path)
    return pq.read_table(select(SelectParameters(), {"targets": path}, replace(work, folder=folder)).made["selection"])


def test_a_cluster_selects_the_same_rows_also_when_a_worker_dies_midway(
    work: Work,
    far: Work,
    few: Stage,
    stars: Path,
    tmp_path: Path,
    cluster: LocalCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("inzitu.archive.partitions.ROWS", 50_000)
    killer = Killer(cluster)
    sent = zip(few.quasars["ra"], few.quasars["dec"], strict=True)
    near = selected(over(work, stars), few, tmp_path / "near")
    assert near["status"].to_pylist() == ["ok"] * 12
    quasars = pq.read_table(few.folder / "catalogue.parquet").to_pydict()
    nearest = [int(np.argmin(np.hypot(ra - quasars["ra"], dec - quasars["dec"]))) for ra, dec in sent]
    assert near["match_id"].to_pylist() == [str(quasars["objID"][row]) for row in nearest]
    assert selected(over(far, stars), few, tmp_path / "distant").equals(near)
    assert selected(over(replace(far, progress=killer), stars), few, tmp_path / "survived").equals(near)
    assert killer.killed


def test_what_a_worker_of_a_cluster_holds_of_the_catalogue_follows_the_setting(
    far: Work, few: Stage, stars: Path, tmp_path: Path, cluster: LocalCluster
) -> None:
    peaks = []
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)  # one may have been killed a moment ago
        for megabytes in (1, 32, 4096):  # the first for the libraries' own memory
            selected(over(far, stars, memory_mb=megabytes, workers=2), few, tmp_path / str(megabytes))
            peaks.append(max(client.run(peak).values()))
    assert peaks[1] - peaks[0] < 32e6
    assert peaks[2] - peaks[0] > 64e6  # a file, which is a partition, searched in one piece


def peak() -> int:
    """Return the most memory that this process has had [byte]."""
    status = Path("/proc/self/status").read_text()  # getrusage would count what its parent had before it began
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_work_that_kills_every_worker_is_given_up_in_words(cluster: LocalCluster) -> None:
    cluster.scheduler.allowed_failures = 0
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)  # as above
    with (
        Engine(Section(scheduler=cluster.scheduler_address)) as engine,
        pytest.raises(ServiceFault, match="most likely for want of memory"),
    ):
        list(engine.map(lambda _: os._exit(1), range(4)))
