from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import LocalCluster

from inzitu.errors import ServiceFault
from inzitu.manifest import Engine as Section
from inzitu.run.engine import Engine


def section(**values: object) -> Section:
    return Section.model_validate(values)


def listening() -> set[str]:
    """Addresses, in the kernel's notation, on which this process takes connections."""
    mine = {str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in mine:
                found.add(fields[1].partition(":")[0])
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
def test_the_local_cluster_is_heard_on_the_loopback_interface_only() -> None:
    with Engine(section()) as engine:
        list(engine.map(abs, [1]))
        assert listening() == {"0100007F"}


def test_every_item_comes_back_with_its_index() -> None:
    with Engine(section(workers=2)) as engine:
        assert dict(engine.map(lambda x: x * x, range(20))) == {i: i * i for i in range(20)}


def test_only_a_few_items_are_under_way_at_once() -> None:
    taken = 0
    lock = threading.Lock()

    def items() -> object:
        nonlocal taken
        for i in range(40):
            with lock:
                taken += 1
            yield i

    ahead = []
    with Engine(section(workers=2)) as engine:
        for done, _ in enumerate(engine.map(lambda _: time.sleep(0.005), items()), 1):  # type: ignore[arg-type]  # a generator
            ahead.append(taken - done)
    assert max(ahead) <= 4


def test_what_a_task_raises_reaches_the_step() -> None:
    def fail(_: int) -> None:
        raise ValueError("row 7 is rubbish")

    with Engine(section()) as engine, pytest.raises(ValueError, match="row 7 is rubbish"):
        list(engine.map(fail, [1]))


def test_a_scheduler_that_does_not_answer_is_named() -> None:
    with (
        Engine(section(scheduler="tcp://127.0.0.1:1"), patience=1.0) as engine,
        pytest.raises(ServiceFault, match=r"tcp://127\.0\.0\.1:1 does not answer"),
    ):
        list(engine.map(abs, [1]))


def test_a_scheduler_that_is_lost_during_a_job_ends_it_in_words() -> None:
    own = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="tcp://")
    with Engine(section(scheduler=own.scheduler_address)) as engine:
        results = engine.map(lambda _: time.sleep(0.1), range(50))
        next(results)
        own.close()
        with pytest.raises(ServiceFault, match="was lost"):
            list(results)


def test_a_scheduler_of_its_own_gives_the_same() -> None:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="tcp://"
        ) as own,
        Engine(section(scheduler=own.scheduler_address)) as engine,
    ):
        assert dict(engine.map(abs, [-1, -2])) == {0: 1, 1: 2}


@contextmanager
def resting(cluster: LocalCluster) -> Iterator[None]:
    """Wait until every worker of a cluster has noticed that its memory is full."""
    for _ in range(1000):
        if all(worker.status.name == "paused" for worker in cluster.scheduler.workers.values()):
            break
        time.sleep(0.01)
    yield


def test_a_cluster_whose_workers_all_rest_is_given_up_in_words() -> None:
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            dashboard_address=":0",
            protocol="tcp://",
            memory_limit="1MB",  # less than this process holds
        ) as own,
        resting(own),
        Engine(section(scheduler=own.scheduler_address, without_workers_seconds=0.5)) as engine,
        pytest.raises(ServiceFault, match=r"no worker took work for 0.5 s \(1 paused\).*without_workers_seconds"),
    ):
        list(engine.map(abs, [1]))


def test_a_cluster_without_workers_is_given_up_in_words() -> None:
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0", protocol="tcp://") as own,
        Engine(section(scheduler=own.scheduler_address, without_workers_seconds=0.5)) as engine,
        pytest.raises(ServiceFault, match=r"took work for 0.5 s \(it has none\)"),
    ):
        list(engine.map(abs, [1]))


def test_work_that_takes_longer_than_the_patience_with_a_cluster_is_waited_for() -> None:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="tcp://"
        ) as own,
        Engine(section(scheduler=own.scheduler_address, without_workers_seconds=0.2)) as engine,
    ):
        assert list(engine.map(lambda _: time.sleep(1.5), [0])) == [(0, None)]
