from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inzitu.errors import ManifestFault, ParameterFault
from inzitu.pipelines import Kind, Parameters, Pipeline, Port, Step, check, offer, pipelines, steps
from inzitu.pipelines.declaration import as_sent
from inzitu.pipelines.parameters import CutParameters, TrainParameters
from inzitu.prov.facts import ActivityKind

BOTH = ("training", "targets")


def test_names_are_read_in_any_case_and_each_step_gets_its_own() -> None:
    request = check([("Pipeline", "train-predict"), ("seed", "7"), ("SiZe", "40"), ("TABLE", "mine")], BOTH)
    assert request.table == "mine"
    train, cut = request.parameters["train"], request.parameters["cut"]
    assert isinstance(train, TrainParameters)
    assert isinstance(cut, CutParameters)
    assert (train.seed, cut.size) == (7, 40)


def test_a_parameter_that_two_steps_have_reaches_both() -> None:
    request = check([("PIPELINE", "train-predict"), ("SEED", "3")], BOTH)
    assert request.parameters["train"].model_dump()["seed"] == request.parameters["evaluate"].model_dump()["seed"] == 3


def test_a_pipelines_own_defaults_hold_until_the_user_says_otherwise() -> None:
    own = check([("PIPELINE", "train-test-single")], ["training"]).parameters["train"].model_dump()
    said = check([("PIPELINE", "train-test-single"), ("TEST_FRACTION", "0.4")], ["training"]).parameters["train"]
    assert own["test_fraction"] == 0.2
    assert said.model_dump()["test_fraction"] == 0.4


def test_the_record_says_that_the_network_is_the_users_own() -> None:
    request = check([("PIPELINE", "train-predict")], (*BOTH, "network"))
    assert request.parameters["train"].model_dump()["network"] == "own"


def test_an_empty_value_leaves_a_parameter_at_its_default() -> None:
    assert check([("PIPELINE", "train-predict"), ("SEED", "")], BOTH).parameters["train"].model_dump()["seed"] == 0


@pytest.mark.parametrize("pipeline", pipelines().values(), ids=lambda pipeline: pipeline.name)
def test_every_default_that_is_shown_can_be_sent_as_it_stands(pipeline: Pipeline) -> None:
    ids = [(name, "0" * 64) for name in offer(pipeline)["ids"]]
    uploads = [upload["role"] for upload in offer(pipeline)["uploads"] if not upload["optional"]]
    shown = [(each["name"], as_sent(each["default"])) for each in offer(pipeline)["parameters"]]
    left_out = check([("PIPELINE", pipeline.name), *ids], uploads)
    assert check([("PIPELINE", pipeline.name), *ids, *shown], uploads) == left_out


@pytest.mark.parametrize(
    ("pipeline", "name", "value", "said"),
    [
        ("search-predict", "GRID", "foo=1/2", "GRID=foo=1/2: 'foo' cannot be tried; there are batch_size, "),
        (
            "search-predict",
            "GRID",
            "epochs=0/2",
            "GRID=epochs=0/2: EPOCHS=0: Input should be greater than or equal to 1.",
        ),
        ("search-predict", "HEAD", "gauss", "HEAD=gauss: write mixture(k) or "),
        ("train-predict", "RA_UNIT", "training:h", "RA_UNIT=training:h: training:h is no unit of right ascensions: "),
        ("train-predict", "PRIORITY", "sdss", "PRIORITY ranks surveys: "),
        (
            "train-test-single",
            "VALIDATION_FRACTION",
            "0.5",
            "VALIDATION_FRACTION and TEST_FRACTION hold 0.9 of the rows; ",
        ),
        ("train-test-compare", "AGAINST", "vgg", "AGAINST names vgg: NETWORK=vgg: Input should be 'dcmdn-a', "),
        ("train-predict", "SIZE", "7", "SIZE=7: Input should be greater than or equal to 8."),
    ],
)
def test_a_wrong_value_is_refused_in_the_words_of_its_check_alone(
    pipeline: str, name: str, value: str, said: str
) -> None:
    asked = [("PIPELINE", pipeline), (name, value)]
    if name == "VALIDATION_FRACTION":
        asked.append(("TEST_FRACTION", "0.4"))
    with pytest.raises(ParameterFault) as refused:
        check(asked, BOTH if pipeline in ("train-predict", "search-predict") else ["training"])
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    ("parameters", "uploads", "message"),
    [
        ([], BOTH, "PIPELINE is missing"),
        ([("PIPELINE", "train-predict"), ("PIPELINE", "other")], BOTH, "given twice"),
        ([("PIPELINE", "train-predict")], ("training",), "needs the table targets"),
        ([("PIPELINE", "train-predict")], (*BOTH, "more"), "no upload named more"),
        ([("PIPELINE", "train-predict"), ("MODEL", "0" * 64)], BOTH, "takes no MODEL"),
        ([("PIPELINE", "predict-pretrained")], ("targets",), "needs MODEL"),
        ([("PIPELINE", "train-predict"), ("NETWORK", "own")], BOTH, "NETWORK=own needs the network"),
        ([("PIPELINE", "train-predict"), ("NETWORK", "pasquet")], (*BOTH, "network"), "give one of them"),
        ([("PIPELINE", "predict-pretrained"), ("MODEL", "../../etc")], ("targets",), "is no id"),
        ([("PIPELINE", "visualize-predictions")], (), "needs PREDICTIONS, the id of predictions"),
        ([("PIPELINE", "visualize-predictions"), ("PREDICTIONS", "p_1")], (), "PREDICTIONS=p_1 is no id"),
        ([("PIPELINE", "train-predict"), ("PREDICTIONS", "a" * 64)], BOTH, "makes its own predictions"),
        ([("PIPELINE", "visualize-predictions"), ("PREDICTIONS", "a" * 64)], ("selection",), "it takes none"),
        ([("PIPELINE", "download-sdss"), ("QUERY", "SELECT 1"), ("Z_MIN", "1")], (), "leave out Z_MIN"),
        ([("PIPELINE", "download-sdss"), ("CIRCLE", "here")], (), "CIRCLE=here"),
        ([("PIPELINE", "train-predict"), ("SIZE", "1000000")], BOTH, "SIZE=1000000"),
        ([("PIPELINE", "train-predict"), ("TABLE", "p_mine")], BOTH, "begin with p_"),
        ([("PIPELINE", "train-predict"), ("NETWORK", "nonsense")], BOTH, "NETWORK=nonsense"),
        (
            [("PIPELINE", "train-predict"), ("TEST_FRACTION", "0.5"), ("VALIDATION_FRACTION", "0.5")],
            BOTH,
            "hold 1 of the rows",
        ),
        ([("PIPELINE", "train-predict"), ("LEARNING_RATE", "nan")], BOTH, "LEARNING_RATE=nan"),
    ],
)
def test_what_is_wrong_is_named(parameters: list[tuple[str, str]], uploads: tuple[str, ...], message: str) -> None:
    with pytest.raises(ParameterFault, match=message):
        check(parameters, uploads)


@given(
    st.lists(st.tuples(st.text(max_size=12), st.text(max_size=30)), max_size=4),
    st.lists(st.text(max_size=9), max_size=3),
)
def test_whatever_is_sent_is_a_request_or_a_fault(parameters: list[tuple[str, str]], uploads: list[str]) -> None:
    with contextlib.suppress(ParameterFault):
        check([("PIPELINE", "train-predict"), *parameters], uploads)


def test_a_chain_of_the_manifest_takes_what_its_steps_lack() -> None:
    chained = pipelines({"just-cut": ("select", "cut")})["just-cut"]
    assert {port.role for port in chained.uploads} == {"training", "targets"}
    with pytest.raises(ManifestFault, match="weigh"):
        pipelines({"odd": ("select", "weigh")})


def test_a_chain_that_cannot_work_is_refused_when_it_is_made() -> None:
    step = Step(
        name="lonely",
        title="",
        parameters=Parameters,
        takes=(Port("model", Kind.MODEL),),
        makes=(),
        activity=ActivityKind.ANALYSIS,
        function="nowhere:f",
    )
    with pytest.raises(ValueError, match="takes model"):
        Pipeline(name="odd", title="", steps=(step,), uploads=())


def test_every_parameter_has_a_description_and_every_default_is_valid() -> None:
    for step in steps().values():
        step.parameters()
        for name, field in step.parameters.model_fields.items():
            assert field.description, f"{step.name}.{name}"
