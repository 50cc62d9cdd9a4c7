from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from inzitu.prov import lineage as module
from inzitu.prov.facts import Product, Used
from inzitu.prov.lineage import Lineage, lineage
from inzitu.prov.recorder import Recorder, UnrecordedError
from record.sample import USER, Road, activity

type Write = Callable[[str, str], Path]


def steps(found: Lineage) -> list[str]:
    return [activity.step for activity in found.activities]


def names(found: Lineage) -> set[str]:
    return {artefact.name for artefact in found.artefacts.values()}


@pytest.mark.parametrize(
    ("depth", "activities", "artefacts"),
    [
        (0, [], {"scores.txt"}),
        (1, ["evaluate"], {"scores.txt"}),
        (2, ["evaluate"], {"scores.txt", "selection.txt", "predictions.txt"}),
        (3, ["select", "predict", "evaluate"], {"scores.txt", "selection.txt", "predictions.txt"}),
    ],
)
def test_the_depth_counts_relations(
    recorder: Recorder, road: Road, depth: int, activities: list[str], artefacts: set[str]
) -> None:
    found = lineage(recorder, road["scores"].id, depth=depth)
    assert steps(found) == activities
    assert names(found) == artefacts


def test_all_of_it_reaches_the_uploads_and_who_brought_them(recorder: Recorder, road: Road) -> None:
    found = lineage(recorder, road["scores"].id)
    assert steps(found) == ["select", "cut", "train", "predict", "evaluate"]
    assert {"training.csv", "targets.csv", "tiles.parquet"} <= names(found)
    assert found.attributions[road["training"].id] == (USER,)
    assert names(found).isdisjoint({"log.txt", "split.txt", "pit.txt"})


def test_forth_is_what_became_of_it(recorder: Recorder, road: Road) -> None:
    found = lineage(recorder, road["model"].id, direction="FORTH")
    assert steps(found) == ["predict", "evaluate"]
    assert names(found) == {"model.txt", "predictions.txt", "scores.txt", "pit.txt"}


def test_a_job_stands_for_its_activities_and_all_they_made(recorder: Recorder, road: Road) -> None:
    found = lineage(recorder, "job-1", depth=0)
    assert len(found.activities) == 5
    assert {"log.txt", "split.txt", "pit.txt"} <= names(found)


def test_an_activity_is_a_root_too(recorder: Recorder, road: Road) -> None:
    id = recorder.makers(road["cutouts"].id)[0].id
    assert names(lineage(recorder, id, depth=1)) == {"selection.txt", "tiles.parquet"}


def test_back_and_forth_agree(recorder: Recorder, road: Road) -> None:
    artefacts = [*road.values()]
    for one in artefacts:
        ancestors = lineage(recorder, one.id).artefacts
        for other in artefacts:
            descendants = lineage(recorder, other.id, direction="FORTH").artefacts
            assert (other.id in ancestors) == (one.id in descendants)


def test_a_step_that_returns_its_input_makes_no_endless_chain(recorder: Recorder, write: Write) -> None:
    upload = recorder.admit(write("a", "same"), kind="list", media_type="text/csv", name="a", agent=USER)
    made = {"list": Product(write("b", "same"), "list", "text/csv", "b")}
    recorder.record(activity(used=(Used("list", upload.id),)), made)
    assert len(lineage(recorder, upload.id).activities) == 1


def test_unknown_roots_negative_depths_and_endless_records_are_refused(
    recorder: Recorder, road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    for unknown in ("0" * 64, "nobody", ""):
        with pytest.raises(UnrecordedError, match="no artefact"):
            lineage(recorder, unknown)
    with pytest.raises(ValueError, match="0 or more"):
        lineage(recorder, road["scores"].id, depth=-1)
    monkeypatch.setattr(module, "MOST", 3)
    with pytest.raises(ValueError, match="more than 3"):
        lineage(recorder, road["scores"].id)
