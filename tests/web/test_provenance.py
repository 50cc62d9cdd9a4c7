from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prov.model import ProvActivity, ProvAgent, ProvDocument, ProvMembership

from inzitu.errors import ParameterFault
from inzitu.prov.formats import FORMATS, format_of, read
from inzitu.prov.lineage import MOST
from inzitu.prov.verification import State
from inzitu.vo.dali import Parameters
from inzitu.web import provenance as module
from inzitu.web.provenance import read_question
from record.service import Service, small_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with small_service(tmp_path_factory.mktemp("service")) as service:
        yield service


def steps(document: ProvDocument) -> set[str]:
    return {str(record.label) for record in document.get_records(ProvActivity)}


def test_every_format_says_the_same(service: Service) -> None:
    documents = []
    for name in ("PROV-JSON", "PROV-N", "PROV-XML", "turtle"):
        response = service.http.get("/provenance", params={"ID": service.road["scores"].id, "RESPONSEFORMAT": name})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == f"{format_of(name).media_type}; charset=utf-8"
        documents.append(read(response.content, format_of(name)))
    assert all(document == documents[0] for document in documents)
    assert steps(documents[0]) == {"select", "cut", "train", "predict", "evaluate"}


def ask(service: Service, **parameters: Any) -> ProvDocument:
    response = service.http.get("/provenance", params=parameters)
    assert response.status_code == 200, response.text
    return read(response.content, format_of("PROV-JSON"))


def test_names_are_case_insensitive_and_identifiers_repeat(service: Service) -> None:
    document = ask(service, id=[service.road["model"].id, service.road["log"].id], depth=1, Direction="back")
    assert steps(document) == {"train", "select"}


def test_forth_and_jobs(service: Service) -> None:
    assert steps(ask(service, ID=service.road["model"].id, DIRECTION="FORTH")) == {"predict", "evaluate"}
    assert steps(ask(service, ID="job-2")) == {"train"}


def test_what_is_not_wanted_is_left_out(service: Service) -> None:
    id = service.road["scores"].id
    assert list(ask(service, ID=id).get_records(ProvAgent))
    assert not list(ask(service, ID=id, AGENTS="false").get_records(ProvAgent))
    assert not list(ask(service, ID=id).get_records(ProvMembership))
    assert len(list(ask(service, ID=id, MEMBERS=1).get_records(ProvMembership))) == 3
    assert "voprov" not in str(ask(service, ID=id, MODEL="W3C").get_provn())
    assert "Parameter" not in str(ask(service, ID=id, CONFIGURATION="no").get_provn())
    assert "ActivityDescription" not in str(ask(service, ID=id, DESCRIPTIONS="0").get_provn())


def test_names_in_a_document_lead_back_to_it(service: Service) -> None:
    id = service.road["scores"].id
    document = ask(service, ID=id, DEPTH=0)
    entity = next(e for e in document.get_records() if id in str(e.identifier))
    assert entity.identifier is not None
    assert entity.identifier.uri.startswith(f"{service.http.base_url}/artefacts/")
    assert ask(service, ID=entity.identifier.uri, DEPTH=0) == document
    assert ask(service, ID=str(entity.identifier), DEPTH=0) == document
    assert service.http.get(entity.identifier.uri).content == b"scores of evaluate"


def test_the_header_accept_chooses_a_format_too(service: Service) -> None:
    for accept, media_type in (("text/turtle", "text/turtle"), ("text/html, */*", "application/json")):
        headers = {"accept": accept}
        response = service.http.get("/provenance", params={"ID": service.road["log"].id}, headers=headers)
        assert response.headers["content-type"].startswith(media_type)


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_drawings_are_plain_unless_asked(service: Service) -> None:
    asked = {"ID": service.road["scores"].id, "RESPONSEFORMAT": "PROV-SVG"}
    plain = service.http.get("/provenance", params=asked)
    assert plain.headers["content-type"].startswith("image/svg+xml")
    assert b"radius" not in plain.content
    assert b"radius" in service.http.get("/provenance", params=asked | {"CONFIGURATION": "true"}).content


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("", 400, "UsageError: ID is missing"),
        ("ID=", 400, "ID is missing"),
        ("ID=nobody", 404, "NotFound: The record has no artefact, activity or job nobody"),
        (f"ID={'0' * 64}", 404, "NotFound: The record has no artefact"),
        ("ID=x&DEPTH=-1", 400, "least value, 0"),
        ("ID=x&DEPTH=deep", 400, "no whole number"),
        ("ID=x&DEPTH=1&DEPTH=2", 400, "give it once"),
        ("ID=x&DIRECTION=UP", 400, "BACK or FORTH"),
        ("ID=x&MODEL=OPM", 400, "IVOA or W3C"),
        ("ID=x&AGENTS=maybe", 400, "true or false"),
        ("ID=x&RESPONSEFORMAT=YAML", 400, "PROV-JSON, PROV-N"),
        ("&".join(f"ID={n}" for n in range(101)), 400, "at most 100"),
    ],
)
def test_faults_say_what_to_do(service: Service, query: str, status: int, words: str) -> None:
    response = service.http.get(f"/provenance?{query}")
    assert response.status_code == status
    assert response.headers["content-type"].startswith("text/plain")
    assert words in response.text


def test_too_many_members_are_refused(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_MEMBERS", 2)
    response = service.http.get("/provenance", params={"ID": service.road["scores"].id, "MEMBERS": "true"})
    assert response.status_code == 413
    assert "more than 2 files" in response.text


pairs = st.lists(
    st.tuples(st.sampled_from(["ID", "depth", "MODEL", "AGENTS", "RESPONSEFORMAT", "X"]), st.text(max_size=9)),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_pairs=pairs)
def test_every_question_is_read_or_refused(given_pairs: list[tuple[str, str]]) -> None:
    try:
        question = read_question(Parameters(given_pairs))
    except ParameterFault:
        return
    assert question.ids
    assert question.format in FORMATS


def test_the_reference_names_every_parameter_format_and_state() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "provenance.md").read_text(encoding="utf-8")
    for name in (*module.PARAMETERS, *(format.name for format in FORMATS), *(format.media_type for format in FORMATS)):
        assert f"`{name}`" in page
    for state in State:
        assert f"\n| {state} |" in page
    assert f"{MOST:,} activities" in page
    assert f"{module.MOST_MEMBERS:,} members" in page
