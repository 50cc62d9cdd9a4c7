"""What steps cost, and what this deployment has learnt of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from inzitu.jobs.costs import amounts_of, compared, default_seconds, paces, written
from inzitu.jobs.job import Job
from inzitu.jobs.phases import Phase
from inzitu.jobs.store import JobStore
from jobs.conftest import Clock

NETWORK = {"parameters": 1, "flops": 1e6, "memory": 1, "members": 1, "looks": 8}


@pytest.fixture
def done(store: JobStore, create: Callable[..., Job]) -> Any:
    """Return what makes a job that has completed with an account."""

    def make(estimate: Mapping[str, Any] | None = None, **account: float) -> Job:
        job = create()
        if estimate is not None:
            store.change(job.id, estimate=estimate)
        store.run(job.id)
        claim = store.claim("worker")
        assert claim is not None
        store.account(job.id, claim.attempt, account)
        return store.finish(job.id, claim.attempt, [])

    return make


def test_the_pace_of_a_step_is_the_median_over_what_the_default_says_which_has_a_vote(done: Any) -> None:
    jobs = []
    for factor in (2.0, 3.0, 4.0, 50.0):
        amounts = {"usable": 1000.0, "bytes_read": 1e8}
        jobs.append(done(**amounts, seconds_cut=factor * default_seconds("cut", amounts), seconds_mine=factor))
    found = paces(jobs)
    assert found["cut"] == pytest.approx(3)
    assert found["mine"] == pytest.approx(3), "a step of the data centre's own is a second by default"
    assert set(found) == {"cut", "mine"}


def test_one_slow_job_does_not_decide_for_everybody(done: Any) -> None:
    slow = done(rows=1, catalogue_bytes=1, seconds_select=100 * default_seconds("select", {}))
    usual = [done(rows=1, catalogue_bytes=1, seconds_select=default_seconds("select", {})) for _ in range(2)]
    assert paces([slow])["select"] == pytest.approx(10, rel=1e-3), "half-way to it, in factors"
    assert paces([slow, usual[0]])["select"] == pytest.approx(1, rel=1e-3)
    assert paces([*usual, slow])["select"] == pytest.approx(1, rel=1e-3)


def test_a_step_whose_work_is_not_known_teaches_nothing(done: Any) -> None:
    assert paces([done(seconds_train=100.0, images_trained=5)]) == {}
    job = done({"network": NETWORK}, seconds_train=100.0, images_trained=60_000)
    assert amounts_of(job)["flops_train"] == 3 * 1e6 * 60_000
    ratio = 100 / (10 + 3 * 1e6 * 60_000 / 60e9)
    assert paces([job] * 2)["train"] == pytest.approx(ratio)
    foreseen = done({"network": NETWORK, "amounts": {"flops_train": 60e9}}, seconds_search=22.0)
    assert paces([foreseen] * 2)["search"] == pytest.approx(2), "what no account counts is taken as foreseen"


@pytest.mark.parametrize(
    ("name", "amount", "expected"),
    [
        ("bytes_read", 999, "999 B"),
        ("stamp_bytes", 999.6, "1.00 kB"),
        ("memory", 1_283_500_000, "1.28 GB"),
        ("catalogue_bytes", 9_994_900, "9.99 MB"),
        ("flops_train", 2.2e16, "22.0 PFLOP"),
        ("flops_train", 7e19, "70,000 PFLOP"),
        ("seconds", 0.04, "0.0 s"),
        ("seconds_cut", 9.96, "10 s"),
        ("seconds", 60, "1 min"),
        ("seconds", 7322, "2 h 2 min"),
        ("seconds", 86_400 * 2 + 59, "2 d"),
        ("rows", 1_234_567, "1,234,567"),
    ],
)
def test_an_amount_is_written_with_a_unit_that_is_read_at_a_glance(name: str, amount: float, expected: str) -> None:
    assert written(name, amount) == expected


def test_ratios_are_of_what_was_foreseen_and_done(done: Any, store: JobStore) -> None:
    job = done({"amounts": {"rows": 10, "tiles": 0, "seconds_cut": 2.0, "seconds": 4.0}}, rows=20, seconds_cut=1.0)
    told = compared(job)
    assert job.phase is Phase.COMPLETED
    assert told["ratios"]["rows"] == 2
    assert told["ratios"]["seconds_cut"] == 0.5
    assert "tiles" not in told["ratios"]


def test_a_job_that_waits_has_no_ratios_and_its_quote_is_a_moment_in_utc(
    store: JobStore, create: Callable[..., Job]
) -> None:
    quote = datetime(2026, 11, 21, 4, 30, tzinfo=UTC)
    told = compared(store.change(create().id, estimate={"amounts": {"rows": 1}}, quote=quote))
    assert (told["actual"], told["ratios"]) == (None, {})
    assert told["quote"] == "2026-11-21T04:30:00Z"


def test_only_the_last_completed_jobs_count(store: JobStore, done: Any, clock: Clock) -> None:
    made = []
    for number in range(3):
        made.append(done(rows=number).id)
        clock.move(1)
    assert [job.id for job in store.completed(last=2)] == [made[2], made[1]]
    assert store.completed("tap", last=2) == ()
