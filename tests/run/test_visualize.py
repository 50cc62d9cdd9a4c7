"""The pipeline visualize-predictions: what the record knows of predictions is enough to draw them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from inzitu.errors import NotFoundFault
from inzitu.pipelines import check
from inzitu.pipelines.parameters import PredictParameters, TrainParameters
from inzitu.prov.facts import Activity, ActivityKind, Agent, AgentKind, Artefact, Product, Used
from inzitu.prov.recorder import Recorder
from inzitu.prov.verification import read_local, verify
from inzitu.run.runner import Runner
from inzitu.run.work import Work
from run.stampset import write_stamps
from run.test_compare import fake_predict, fake_train

SOMEBODY = Agent("somebody", "Somebody", AgentKind.PERSON)


def predicted(recorder: Recorder, work: Work, folder: Path, *, used: bool = True) -> Artefact:
    """Record predictions, as a job that has made them does."""
    inputs = write_stamps(folder, training=40, targets=0)
    inputs |= fake_train(TrainParameters(network="own"), inputs, work).made
    identities = {**work.identities, "model": "m" * 64}
    path = fake_predict(PredictParameters(), inputs, replace(work, identities=identities)).made["predictions"]
    media_type = "application/vnd.apache.parquet"
    selection = recorder.admit(
        inputs["selection"], kind="selection", media_type=media_type, name="selection", agent=SOMEBODY
    )
    now = datetime.now(UTC)
    activity = Activity(
        step="predict",
        kind=ActivityKind.ANALYSIS,
        started=now,
        ended=now,
        agent=SOMEBODY,
        used=(Used("selection", selection.id),) if used else (),
        key="predicted",
        code="code",
    )
    product = Product(path, "predictions", media_type, "predictions.parquet")
    return recorder.record(activity, {"predictions": product}, job="an earlier one")["predictions"]


def test_predictions_are_drawn_with_the_redshifts_that_their_job_had(
    runner_of: Callable[[str], Runner], work: Work, tmp_path: Path
) -> None:
    runner = runner_of("one")
    there = predicted(runner.recorder, work, tmp_path / "stamps")
    asked = [("PIPELINE", "visualize-predictions"), ("PREDICTIONS", there.id), ("EXAMPLES", "3")]
    made = runner.run(check(asked, []), {})
    for picture in ("pdfs", "redshifts", "pit"):
        assert runner.recorder.store.path(made[picture].id).read_bytes().startswith(b"\x89PNG")
    assert verify(runner.recorder, made["pit"].id, read=read_local).holds
    [drawn] = runner.recorder.of_job("one")
    assert {used.role for used in drawn.used} == {"predictions", "selection"}


def test_predictions_of_unknown_sources_are_not_drawn(
    runner_of: Callable[[str], Runner], work: Work, tmp_path: Path
) -> None:
    runner = runner_of("one")
    there = predicted(runner.recorder, work, tmp_path / "stamps", used=False)
    with pytest.raises(NotFoundFault, match=f"which sources the predictions {there.id} are of"):
        runner.run(check([("PIPELINE", "visualize-predictions"), ("PREDICTIONS", there.id)], []), {})
