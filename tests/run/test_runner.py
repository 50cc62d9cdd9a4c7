from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from pydantic import Field

from inzitu.pipelines import Kind, Parameters, Pipeline, Port, Request, Step
from inzitu.prov.facts import ActivityKind
from inzitu.prov.verification import read_local, verify
from inzitu.run.runner import Runner, made_before
from inzitu.run.work import Outcome, Work

CALLS: list[int] = []


class CountParameters(Parameters):
    """What a data centre's own step may ask."""

    factor: int = Field(1, description="What lengths are multiplied with.")


def count(parameters: CountParameters, inputs: Mapping[str, Path], work: Work) -> Outcome:
    """Write the length of the list."""
    CALLS.append(parameters.factor)
    if parameters.factor < 0:
        (work.folder / "half.txt").write_text("half")
        raise ValueError(f"factor is {parameters.factor}; it must not be negative")
    (work.folder / "count.txt").write_text(str(parameters.factor * len(inputs["training"].read_bytes())))
    return Outcome(made={"counted": work.folder / "count.txt"}, account={"counted": 1})


COUNT = Step(
    name="count",
    title="Count bytes",
    parameters=CountParameters,
    takes=(Port("training", Kind.LIST),),
    makes=(Port("counted", Kind.SCORES),),
    activity=ActivityKind.ANALYSIS,
    function=f"{__name__}:count",
)
PIPELINE = Pipeline(name="counting", title="", steps=(COUNT,), uploads=(Port("training", Kind.LIST),))


def request(factor: int) -> Request:
    return Request(pipeline=PIPELINE, parameters={"count": CountParameters(factor=factor)})


@pytest.fixture
def upload(tmp_path: Path) -> dict[str, Path]:
    CALLS.clear()
    (tmp_path / "list").write_text("ra,dec,z\n1,2,3\n")
    return {"training": tmp_path / "list"}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the runner find this module by name, as it finds an installed package."""
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())


def _this_module() -> object:
    import types

    module = types.ModuleType(__name__)
    module.__dict__.update(count=count)
    return module


def test_what_a_step_makes_is_recorded_with_its_parameters_and_can_be_verified(
    runner_of: Callable[[str], Runner], upload: dict[str, Path]
) -> None:
    runner = runner_of("one")
    made = runner.run(request(2), upload)["counted"]
    assert runner.recorder.store.path(made.id).read_text() == "30"
    [activity] = runner.recorder.of_job("one")
    assert {p.name: p.value for p in activity.parameters}["factor"] == 2
    assert activity.code.startswith("0.1.0+sha256.")
    assert verify(runner.recorder, made.id, read=read_local).holds
    assert upload["training"].exists()


def test_equal_inputs_parameters_and_code_find_what_is_there(
    runner_of: Callable[[str], Runner], upload: dict[str, Path]
) -> None:
    first = runner_of("one").run(request(2), upload)["counted"]
    again = runner_of("two").run(request(2), upload)["counted"]
    other = runner_of("three").run(request(3), upload)["counted"]
    assert CALLS == [2, 3]
    assert first == again != other


def test_what_would_be_found_is_known_before_anything_runs(
    runner_of: Callable[[str], Runner], upload: dict[str, Path]
) -> None:
    runner = runner_of("one")
    assert made_before(request(2), upload, runner.manifest, runner.recorder) == ()
    runner.run(request(2), upload)
    assert made_before(request(2), upload, runner.manifest, runner.recorder) == ("count",)
    assert made_before(request(3), upload, runner.manifest, runner.recorder) == ()
    upload["training"].write_text("ra,dec,z\n1,2,4\n")
    assert made_before(request(2), upload, runner.manifest, runner.recorder) == ()
    assert CALLS == [2]


def test_another_state_of_the_archive_finds_nothing(
    runner_of: Callable[[str], Runner], upload: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner_of("one").run(request(2), upload)
    monkeypatch.setattr("inzitu.run.runner.archive_state", lambda _: "another")
    runner_of("two").run(request(2), upload)
    assert CALLS == [2, 2]


def test_a_step_that_fails_leaves_no_artefact_and_what_was_there_stays(
    runner_of: Callable[[str], Runner], upload: dict[str, Path]
) -> None:
    made = runner_of("one").run(request(2), upload)["counted"]
    runner = runner_of("two")
    with pytest.raises(ValueError, match="factor is -1"):
        runner.run(request(-1), upload)
    assert runner.recorder.of_job("two") == []
    assert verify(runner.recorder, made.id, read=read_local).holds


def test_the_list_of_a_job_that_failed_at_once_goes_with_the_job(
    runner_of: Callable[[str], Runner], upload: dict[str, Path]
) -> None:
    runner = runner_of("one")
    with pytest.raises(ValueError, match="factor is -1"):
        runner.run(request(-1), upload)
    [gone] = runner.recorder.release("one")
    assert runner.recorder.sweep(grace=-1) == [gone]
