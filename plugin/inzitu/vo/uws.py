"""UWS 1.1 documents: a job, its parts, and the list of jobs.

The documents are those of vo-models, but for two things that it leaves open: parameters of any name in any number, and
elements inside `jobInfo`. What stands in them is plain data here; `inzitu.web.uws` takes it from a job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_xml import BaseXmlModel, attr, element
from vo_models.uws.models import (
    NSMAP,
    ErrorSummary,
    Jobs,
    JobSummary,
    Parameter,
    ResultReference,
    Results,
    ShortJobDescription,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ErrorSummary",
    "Info",
    "JobDocument",
    "JobInfo",
    "Jobs",
    "Parameter",
    "ParameterList",
    "ResultReference",
    "Results",
    "ShortJobDescription",
    "parameter_list",
    "xml",
]


_BARE = {**NSMAP, "": ""}


class ParameterList(BaseXmlModel, tag="parameters", ns="uws", nsmap=NSMAP):
    """Parameters in the order they came, names repeated where they were."""

    parameter: list[Parameter] = element(default_factory=list)


class Info(BaseXmlModel, tag="info", ns="", nsmap=_BARE):
    """A number or a word about a job: a loss, a count, bytes."""

    name: str = attr()
    value: str


class JobInfo(BaseXmlModel, tag="jobInfo", ns="uws", nsmap=_BARE):
    """What this service adds to a job's document, in elements of no namespace.

    Each stands once or not at all: a list, because a lone element that is None would be written empty.

    Attributes
    ----------
    progress
        The part of the present step that is done [%].
    step
        What the job is doing.
    seconds_left
        Estimate for the step [s].
    queued
        How many jobs run before this one.
    info
        Losses, counts, bytes.
    """

    progress: list[int] = element(tag="progress", ns="", default_factory=list)
    step: list[str] = element(tag="step", ns="", default_factory=list)
    seconds_left: list[float] = element(tag="secondsLeft", ns="", default_factory=list)
    queued: list[int] = element(tag="queued", ns="", default_factory=list)
    info: list[Info] = element(ns="", default_factory=list)


class JobDocument(JobSummary[ParameterList], tag="job"):
    """The whole of a job."""

    job_info: JobInfo | None = element(tag="jobInfo", default=None)  # type: ignore[assignment]  # there: bare strings


def parameter_list(pairs: Iterable[tuple[str, str]]) -> ParameterList:
    """Return the document of parameters."""
    return ParameterList(parameter=[Parameter(id=name, value=value) for name, value in pairs])


def xml(document: BaseXmlModel) -> bytes:
    """Write a document.

    Empty elements stay: without them the schema's required ones (`results`, `startTime`) would be missing.
    """
    content = document.to_xml(skip_empty=False, encoding="UTF-8", xml_declaration=True)
    return content if isinstance(content, bytes) else content.encode()
