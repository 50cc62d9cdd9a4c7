"""The documents against the schema's order, written down here a second time, and against pyvo's reader."""

import io
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyvo.io.uws import parse_job, parse_job_list
from vo_models.uws.types import ErrorType, ExecutionPhase

from inzitu.vo import uws
from inzitu.vo.uws import xml
from vo.schemas import complaints

NOW = datetime(2026, 11, 21, 3, 15, 0, 123000, tzinfo=UTC)
UWS = "{http://www.ivoa.net/xml/UWS/v1.0}"
XLINK = "{http://www.w3.org/1999/xlink}"
# UWS-v1.1.xsd, type JobSummary: the sequence, and whether an element must be there.
SEQUENCE = {
    "jobId": True,
    "runId": False,
    "ownerId": True,
    "phase": True,
    "quote": False,
    "creationTime": False,
    "startTime": True,
    "endTime": True,
    "executionDuration": True,
    "destruction": True,
    "parameters": False,
    "results": True,
    "errorSummary": False,
    "jobInfo": False,
}

bare = uws.JobDocument(
    job_id="a1", phase=ExecutionPhase.PENDING, creation_time=NOW, execution_duration=60, destruction=NOW
)
full = uws.JobDocument(
    job_id="a1",
    run_id="<mine> & yours",
    owner_id="me",
    phase=ExecutionPhase.ERROR,
    quote=NOW,
    creation_time=NOW,
    start_time=NOW,
    end_time=NOW + timedelta(seconds=1),
    execution_duration=60,
    destruction=NOW + timedelta(days=1),
    parameters=uws.parameter_list([("UPLOAD", "a,param:a"), ("upload", "b,param:b"), ("EMPTY", "")]),
    results=uws.Results(
        results=[uws.ResultReference(id="r", href="http://host/jobs/a1/results/r", size=3, mime_type="text/csv")]
    ),
    error_summary=uws.ErrorSummary(message="UsageError: no ra", type=ErrorType.FATAL, has_detail=True),
    job_info=uws.JobInfo(
        progress=[25], step=["train"], seconds_left=[3.5], queued=[0], info=[uws.Info(name="loss", value="0.25")]
    ),
)


@pytest.mark.parametrize("document", [bare, full], ids=["bare", "full"])
def test_a_job_keeps_the_schemas_order_and_leaves_out_nothing_required(document: uws.JobDocument) -> None:
    root = ET.fromstring(xml(document))
    assert root.tag == f"{UWS}job"
    assert root.get("version") == "1.1"
    names = [child.tag.removeprefix(UWS) for child in root]
    assert names == [name for name in SEQUENCE if name in names]
    assert {name for name, required in SEQUENCE.items() if required} <= set(names)


def test_moments_are_utc_with_z_and_what_is_unknown_is_nil() -> None:
    root = ET.fromstring(xml(bare))
    assert root.findtext(f"{UWS}creationTime") == "2026-11-21T03:15:00.123Z"
    start = root.find(f"{UWS}startTime")
    assert start is not None
    assert start.get("{http://www.w3.org/2001/XMLSchema-instance}nil") == "true"


def test_progress_stands_in_jobinfo_without_a_namespace() -> None:
    info = ET.fromstring(xml(full)).find(f"{UWS}jobInfo")
    assert info is not None
    assert (info.findtext("progress"), info.findtext("step"), info.findtext("secondsLeft")) == ("25", "train", "3.5")
    assert [(item.get("name"), item.text) for item in info.findall("info")] == [("loss", "0.25")]
    assert ET.fromstring(xml(bare)).find(f"{UWS}jobInfo") is None


def test_pyvo_reads_back_what_was_said() -> None:
    job = parse_job(io.BytesIO(xml(full)))
    assert (job.jobid, job.runid, job.ownerid, job.phase) == ("a1", "<mine> & yours", "me", "ERROR")
    assert [(p.id_, p.content) for p in job.parameters] == [
        ("UPLOAD", "a,param:a"),
        ("upload", "b,param:b"),
        ("EMPTY", ""),
    ]
    assert [(r.id_, r.href, r.size, r.mimetype) for r in job.results] == [
        ("r", "http://host/jobs/a1/results/r", 3, "text/csv")
    ]
    assert job.errorsummary.message.content == "UsageError: no ra"
    assert job.creationtime.isot == "2026-11-21T03:15:00.123"


def test_pyvo_reads_the_list() -> None:
    entry = uws.ShortJobDescription(
        job_id="a1", href="http://host/jobs/a1", phase=ExecutionPhase.QUEUED, creation_time=NOW
    )
    (read,) = parse_job_list(io.BytesIO(xml(uws.Jobs(jobref=[entry]))))
    assert (read.jobid, read.phase, read.creationtime.isot) == ("a1", "QUEUED", "2026-11-21T03:15:00.123")


@given(
    st.lists(
        st.tuples(st.from_regex(r"[A-Z]+", fullmatch=True), st.text(st.characters(codec="utf-8", min_codepoint=32)))
    )
)
def test_any_parameters_survive_in_their_order(pairs: list[tuple[str, str]]) -> None:
    pairs = [(name, value) for name, value in pairs if not {"\ufffe", "\uffff"} & set(value)]
    root = ET.fromstring(xml(uws.parameter_list(pairs)))
    assert root.tag == f"{UWS}parameters"
    assert [(child.get("id"), child.text or "") for child in root] == pairs


@pytest.mark.parametrize(
    "document",
    [bare, full, full.results, full.parameters, uws.Jobs(jobref=[])],
    ids=["bare", "full", "results", "parameters", "jobs"],
)
def test_the_schema_of_the_ivoa_finds_no_fault(document: uws.JobDocument) -> None:
    assert complaints(xml(document)) == []


def test_the_schema_does_find_faults() -> None:
    """vo-models leaves out required elements where it is told to skip empty ones."""
    assert complaints(bare.to_xml(skip_empty=True))  # type: ignore[arg-type]  # it is bytes
