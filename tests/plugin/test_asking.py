from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from inzitu.asking import job_table, sorted_out
from inzitu.client import JobState, Service
from inzitu.errors import ParameterFault, ServiceFault
from inzitu.terminal import progress_bar

OFFER: dict[str, Any] = {
    "name": "train-weighed",
    "uploads": [
        {"role": role, "kind": "list", "optional": role != "training"} for role in ("training", "network", "weights")
    ],
    "ids": [],
    "parameters": [{"name": "NETWORK"}, {"name": "SEED"}],
}


def test_what_a_pipeline_declares_as_a_file_is_one_and_the_rest_are_parameters(tmp_path: Path) -> None:
    for name in ("a", "w", "n"):
        (tmp_path / name).touch()
    pairs = [f"training={tmp_path / 'a'}", f"weights={tmp_path / 'w'}", "SEED=1", "network=dcmdn-a"]
    assert sorted_out(pairs, OFFER) == (
        {"training": tmp_path / "a", "weights": tmp_path / "w"},
        {"SEED": "1", "network": "dcmdn-a"},
    )
    own = sorted_out([f"network={tmp_path / 'n'}", f"training={tmp_path / 'a'}"], OFFER)
    assert own == ({"network": tmp_path / "n", "training": tmp_path / "a"}, {})


def test_what_is_needed_and_not_given_is_said_in_the_words_of_the_command(tmp_path: Path) -> None:
    with pytest.raises(
        ParameterFault, match="train-weighed needs training=FILE, a list; `inzitu pipelines train-weighed` shows"
    ):
        sorted_out(["SEED=1"], OFFER)
    with pytest.raises(ParameterFault, match="needs MODEL=ID, that of a model"):
        sorted_out([], OFFER | {"uploads": [], "ids": ["MODEL"]})
    assert sorted_out(["model=1"], OFFER | {"uploads": [], "ids": ["MODEL"]}) == ({}, {"model": "1"})


def test_jobs_are_listed_with_what_they_are_and_why_they_failed() -> None:
    created = (datetime.now(UTC) - timedelta(minutes=61)).isoformat()
    state = JobState(
        url="u",
        id="a1",
        phase="ERROR",
        created=created,
        pipeline="train-predict",
        message="UsageError: no. Send others.",
    )
    console = Console(width=120, file=io.StringIO())
    console.print(job_table([state, replace(state, id="b2", info={"rows": "1234"}, message="")]))
    shown = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]  # it is a StringIO
    assert shown == [
        ["job", "pipeline", "phase", "rows", "age", "reason"],
        ["a1", "train-predict", "ERROR", "1", "h", "1", "min", "UsageError:", "no"],
        ["b2", "train-predict", "ERROR", "1,234", "1", "h", "1", "min"],
    ]


def test_a_job_that_is_complete_says_so_whichever_step_spoke_last() -> None:
    running = JobState(url="u", id="a1", phase="EXECUTING", step="predict", fraction=0.94)
    assert running.summary == "predict"
    assert replace(running, phase="COMPLETED").summary == "completed"


def test_a_file_that_is_not_there_and_a_word_alone_are_refused() -> None:
    with pytest.raises(ParameterFault, match=r"training=nowhere.vot: there is no such file"):
        sorted_out(["training=nowhere.vot"], OFFER)
    with pytest.raises(ParameterFault, match="'verbose' is no key=value"):
        sorted_out(["verbose"], OFFER)


def test_a_bar_without_an_end_in_sight_tells_no_share() -> None:
    bar = progress_bar()
    bar.add_task("hashed 12", total=None)
    console = Console(width=120, file=io.StringIO())
    console.print(bar.make_tasks_table(bar.tasks))
    assert "hashed 12" in console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
    assert "%" not in console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO


def test_an_address_without_its_protocol_is_told_in_one_sentence() -> None:
    with pytest.raises(ServiceFault, match=r"localhost:8000/jobs cannot be reached: .*protocol\. Is the service up"):
        Service("localhost:8000").jobs()
