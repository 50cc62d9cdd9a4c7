from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prov.model import ProvDocument, ProvEntity, ProvGeneration, ProvInvalidation, ProvMembership, ProvRecord, ProvUsage

import prov
from inzitu.prov.documents import Shown, document
from inzitu.prov.facts import Activity, ActivityKind, Agent, AgentKind, Artefact, Made, Parameter, Used
from inzitu.prov.formats import FORMATS, Format, format_of, read, write
from inzitu.prov.lineage import Lineage, lineage
from inzitu.prov.names import VOPROV, identifier_of, local_name
from inzitu.prov.readings import read_reading
from inzitu.prov.recorder import Recorder
from record.sample import NOON, Road

TEXT_FORMATS = [format for format in FORMATS if format.library]


@pytest.fixture(params=TEXT_FORMATS, ids=lambda format: format.name)
def format(request: pytest.FixtureRequest) -> Format:
    chosen: Format = request.param
    return chosen


@pytest.fixture
def whole(recorder: Recorder, road: Road) -> ProvDocument:
    """Return all that the small record holds, outside files included."""
    found = lineage(recorder, "job-1")
    return document(found, shown=Shown(members=True), members=lambda id: read_reading(recorder.store.path(id)))


def of_type(document: ProvDocument, type: str) -> list[ProvRecord]:
    return [e for e in document.get_records(ProvEntity) if VOPROV[type] in e.get_asserted_types()]


def test_a_document_comes_back_equal_from_every_format(whole: ProvDocument, format: Format) -> None:
    assert read(write(whole, format), format) == whole


def test_so_does_one_that_tells_less(recorder: Recorder, road: Road, format: Format) -> None:
    back = lineage(recorder, road["scores"].id)
    for less in (
        Shown(agents=False),
        Shown(descriptions=False),
        Shown(configuration=False),
        Shown(attributes=False),
    ):
        found = document(back, shown=less)
        assert read(write(found, format), format) == found


words = st.text(min_size=1, max_size=8)
ids = st.sampled_from([f"{n:064x}" for n in range(4)])
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-3))])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)
agents = st.builds(Agent, id=words, name=words, kind=st.sampled_from(AgentKind))


@st.composite
def activities(draw: st.DrawFn) -> Activity:
    started = draw(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=zones))
    names = draw(st.lists(words, max_size=3, unique=True))
    roles = draw(st.lists(words, max_size=2, unique=True))
    return Activity(
        step=draw(words),
        kind=draw(st.sampled_from(ActivityKind)),
        started=started,
        ended=started + draw(st.timedeltas(timedelta(0), timedelta(days=9))),
        agent=draw(agents),
        parameters=tuple(Parameter(name, draw(values), draw(words), draw(words)) for name in names),
        software=draw(st.dictionaries(words, words, max_size=2)),
        device=draw(words),
        code=draw(words),
        description=draw(words),
        used=tuple(draw(st.lists(st.builds(Used, role=words, artefact=ids), max_size=2, unique=True))),
        made=tuple(Made(role, draw(ids)) for role in roles),
    )


@st.composite
def lineages(draw: st.DrawFn) -> Lineage:
    artefacts = {
        id: Artefact(id, draw(words), draw(words), draw(st.integers(0, 2**50)), draw(words))
        for id in draw(st.lists(ids, unique=True))
    }
    return Lineage(
        roots=(),
        artefacts=artefacts,
        activities=tuple(draw(st.lists(activities(), max_size=2))),
        attributions={id: (draw(agents),) for id in artefacts if draw(st.booleans())},
        destroyed={id: NOON for id in artefacts if draw(st.booleans())},
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=lineages(), model=st.sampled_from(["IVOA", "W3C"]))
def test_whatever_the_record_holds_comes_back_equal(found: Lineage, format: Format, model: str) -> None:
    written = document(found, shown=Shown(model=model))  # type: ignore[arg-type]
    assert read(write(written, format), format) == written


def test_the_xml_is_valid_prov_xml(whole: ProvDocument) -> None:
    etree = pytest.importorskip("lxml.etree")
    schemas = Path(prov.__file__).parent / "tests" / "schemas"
    schema = etree.XMLSchema(etree.parse(schemas / "prov.xsd"))
    xml = etree.fromstring(write(whole, format_of("PROV-XML")))
    schema.assertValid(xml)


def test_the_words_are_those_of_provenance_dm(whole: ProvDocument) -> None:
    kinds = {str(next(iter(a.get_attribute("voprov:type")))) for a in whole.get_records(prov.model.ProvActivity)}
    assert kinds == {"Selection", "Reduction", "Reconstruction", "Analysis"}
    made = {
        next(iter(g.get_attribute("prov:role"))): next(iter(g.get_attribute("voprov:type")))
        for g in whole.get_records(ProvGeneration)
    }
    assert {role: kind for role, kind in made.items() if kind != "Main"} == {
        "scores": "Quality",
        "log": "Log",
        "pit": "Preview",
    }
    assert {next(iter(u.get_attribute("prov:role"))) for u in whole.get_records(ProvUsage)} >= {"training", "tiles"}
    radius = next(p for p in of_type(whole, "Parameter") if p.label == "radius")
    assert radius.value == {1.5} or 1.5 in radius.value
    assert radius.get_attribute("voprov:unit") == {"arcsec"}
    for description in ("ActivityDescription", "UsageDescription", "GenerationDescription", "DatasetDescription"):
        assert of_type(whole, description)


def test_an_activity_tells_versions_device_and_code(whole: ProvDocument) -> None:
    for run in whole.get_records(prov.model.ProvActivity):
        assert run.get_attribute("inzitu:software") == {"numpy 2.3.1", "jax 0.12.0"}
        assert run.get_attribute("inzitu:device") == {"cpu:2"}
        assert run.get_attribute("inzitu:code") == {"inzitu 0.1.0"}


def test_a_reading_is_a_collection_of_its_files(whole: ProvDocument, road: Road) -> None:
    assert len(list(whole.get_records(ProvMembership))) == len(road.outside)
    places = {str(p) for e in whole.get_records(ProvEntity) for p in e.get_attribute("prov:location")}
    assert {path.as_uri() for path in road.outside} <= places


def test_what_was_destroyed_is_invalidated(recorder: Recorder, road: Road) -> None:
    recorder.release("job-1")
    found = document(lineage(recorder, road["scores"].id))
    times = {r.args[2] for r in found.get_records(ProvInvalidation)}
    assert times == {NOON}


def test_w3c_has_no_words_of_the_ivoa(recorder: Recorder, road: Road) -> None:
    text = write(document(lineage(recorder, "job-1"), shown=Shown(model="W3C")), format_of("PROV-N")).decode()
    assert "voprov" not in text
    assert "wasGeneratedBy" in text


def test_without_attributes_identifiers_are_left(recorder: Recorder, road: Road) -> None:
    shown = Shown(attributes=False, descriptions=False, configuration=False)
    text = write(document(lineage(recorder, "job-1"), shown=shown), format_of("PROV-N")).decode()
    assert "radius" not in text
    assert "prov:label" not in text
    assert road["scores"].id in text


def test_a_document_is_the_same_each_time(recorder: Recorder, road: Road) -> None:
    for name in ("PROV-JSON", "PROV-N", "PROV-XML"):  # Turtle's nodes without a name come in any order
        first, second = (write(document(lineage(recorder, road["scores"].id)), format_of(name)) for _ in range(2))
        assert first == second


@pytest.mark.parametrize("id", ["a" * 64, "run-0a1b", "plain"])
def test_an_identifier_is_found_again_in_all_its_names(id: str) -> None:
    local = local_name(id)
    for name in (
        id,
        local,
        f"artefact:{local}",
        f"http://localhost:8000/artefacts/{local}",
        f"urn:inzitu:runs/{local}",
    ):
        assert identifier_of(name) == id


@given(text=st.text(max_size=30))
def test_every_local_name_is_an_xml_name(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", local_name(text))


@given(one=st.text(max_size=9), other=st.text(max_size=9))
def test_two_identifiers_have_two_local_names(one: str, other: str) -> None:
    assert (local_name(one) == local_name(other)) == (one == other)
