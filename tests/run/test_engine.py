from __future__ import annotations

import threading
import time

import pytest

from inzitu.errors import ServiceFault
from inzitu.manifest import Engine as Section
from inzitu.run.engine import Engine


def section(**values: object) -> Section:
    return Section.model_validate(values)


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


def test_a_scheduler_of_its_own_gives_the_same() -> None:
    from distributed import LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp://"
        ) as own,
        Engine(section(scheduler=own.scheduler_address)) as engine,
    ):
        assert dict(engine.map(abs, [-1, -2])) == {0: 1, 1: 2}
