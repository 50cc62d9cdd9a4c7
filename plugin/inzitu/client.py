"""What a user's programme does: sends a job, follows it, fetches what it made. Plain HTTP, UWS 1.1 and TAP 1.1.

Nothing here knows the service from inside; any UWS client does the same. Every byte received is counted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from xml.etree.ElementTree import Element  # for the type alone; parsing is defusedxml's

import httpx
from defusedxml import ElementTree

from inzitu.errors import Fault, NotFoundFault, ServiceFault, UserFault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_UWS = "{http://www.ivoa.net/xml/UWS/v1.0}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_ENDED = frozenset({"COMPLETED", "ERROR", "ABORTED", "ARCHIVED"})
_WAIT_SECONDS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """A job as its document shows it.

    Attributes
    ----------
    url, id, phase, created, pipeline
        As in the document.
    message
        Why it failed, if it did.
    step, fraction, seconds_left, info
        How far it is: the step, the part of it that is done, an estimate [s], losses and counts.
    results
        The address of each result, by name.
    """

    url: str
    id: str
    phase: str
    created: str = ""
    pipeline: str = ""
    message: str = ""
    step: str = ""
    fraction: float = 0.0
    seconds_left: float | None = None
    info: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)

    @property
    def page(self) -> str:
        """Address of its page, for a browser."""
        service, _, own = self.url.rpartition("/jobs/")
        return f"{service}/job/{own}"

    @property
    def ended(self) -> bool:
        """Whether the job will do nothing more."""
        return self.phase in _ENDED

    @property
    def summary(self) -> str:
        """One line about how far the job is."""
        if self.ended:
            return self.phase.lower()
        left = "" if self.seconds_left is None else f", {self.seconds_left:.0f} s left"
        losses = "".join(f", {name} {value}" for name, value in self.info.items() if name in ("loss", "crps"))
        return f"{self.step or self.phase.lower()}{losses}{left}"


class Service:
    """A service by its base URL.

    Parameters
    ----------
    url
        Base URL, such as ``http://127.0.0.1:8000``.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.bytes_received = 0
        self._http = httpx.Client(timeout=90.0, follow_redirects=True, event_hooks={"response": [self._count]})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _count(self, response: httpx.Response) -> None:
        response.read()
        self.bytes_received += len(response.content)

    def request(self, method: str, url: str, **content: Any) -> httpx.Response:
        """Send a request; a relative address is of the service.

        Raises
        ------
        Fault
            The service cannot be reached, or it answered with an error, which is the message.
        """
        address = url if "://" in url else self.url + url
        try:
            response = self._http.request(method, address, **content)
        except httpx.HTTPError as error:
            raise ServiceFault(
                f"{address} cannot be reached: {str(error).rstrip('.')}. Is the service up, and --server right?"
            ) from error
        if response.is_success:
            return response
        text = _said(response)
        kinds: dict[bool, type[Fault]] = {True: UserFault, False: ServiceFault}
        raise (NotFoundFault if response.status_code == 404 else kinds[response.status_code < 500])(text)

    def json(self, url: str) -> Any:
        """Return a JSON document."""
        return self.request("GET", url).json()

    def submit(
        self, pipeline: str, uploads: Mapping[str, Path], parameters: Mapping[str, str], *, run: bool = True
    ) -> JobState:
        """Send a job, and have it run.

        Parameters
        ----------
        pipeline
            Name of the pipeline.
        uploads
            Tables by role.
        parameters
            Further parameters.
        run
            Queue it; otherwise it waits, and can be asked what it will take (`estimate`).
        """
        fields: dict[str, Any] = {"PIPELINE": pipeline, **parameters} | ({"PHASE": "RUN"} if run else {})
        fields["UPLOAD"] = [f"{role},param:{role}_file" for role in uploads]
        files = {f"{role}_file": (path.name, path.read_bytes()) for role, path in uploads.items()}
        response = self.request("POST", "/jobs", data=fields, files=files or None)
        return self.job(str(response.url))

    def job(self, url: str, *, wait: int | None = None, phase: str | None = None) -> JobState:
        """Return a job; with `wait` [s], when it leaves `phase` or the time is over."""
        asked = {} if wait is None else {"WAIT": str(wait)} | ({"PHASE": phase} if phase else {})
        return _job(url, ElementTree.fromstring(self.request("GET", url, params=asked or None).content))

    def estimate(self, url: str) -> Any:
        """Return what a job will find and take, beside what it took."""
        return self.json(f"{url}/estimate")

    def pipelines(self) -> dict[str, Any]:
        """Return what can be asked for: each pipeline's files and parameters, by name."""
        return {offer["name"]: offer for offer in self.json("/pipelines")}

    def follow(self, url: str) -> Iterator[JobState]:
        """Yield a job's state about every second until it has ended."""
        while True:
            began = time.monotonic()
            state = self.job(url)
            yield state
            if state.ended:
                return
            self.job(url, wait=_WAIT_SECONDS, phase=state.phase)
            time.sleep(max(0.0, 0.2 - (time.monotonic() - began)))

    def jobs(self, *, last: int | None = None) -> list[JobState]:
        """Return the service's jobs, or so many of them, the latest first."""
        asked = None if last is None else {"LAST": str(last)}
        root = ElementTree.fromstring(self.request("GET", "/jobs", params=asked).content)
        return [self.job(reference.get(_HREF, "")) for reference in root.iter(f"{_UWS}jobref")]

    def query(self, adql: str, output: str = "csv") -> bytes:
        """Return the answer to an ADQL query."""
        asked = {"LANG": "ADQL", "QUERY": adql, "RESPONSEFORMAT": output}
        return self.request("POST", "/tap/sync", data=asked).content


def _text(parent: Element, name: str) -> str:
    found = parent.find(f"{_UWS}{name}")
    return (found.text or "").strip() if found is not None else ""


def _job(url: str, root: Element) -> JobState:
    """Return the state that a job's document tells."""
    info = root.find(f"{_UWS}jobInfo")
    told = {} if info is None else {child.tag: (child.text or "").strip() for child in info if child.tag != "info"}
    numbers = [] if info is None else info.findall("info")
    failure = root.find(f"{_UWS}errorSummary")
    asked = {item.get("id", "").upper(): (item.text or "").strip() for item in root.iter(f"{_UWS}parameter")}
    return JobState(
        url=url.partition("?")[0],
        id=_text(root, "jobId"),
        phase=_text(root, "phase"),
        created=_text(root, "creationTime"),
        pipeline=asked.get("PIPELINE", ""),
        message="" if failure is None else _text(failure, "message"),
        step=told.get("step", ""),
        fraction=float(told.get("progress") or 0) / 100,
        seconds_left=float(told["secondsLeft"]) if told.get("secondsLeft") else None,
        info={item.get("name", ""): "".join(item.itertext()).strip() for item in numbers},
        results={result.get("id", ""): result.get(_HREF, "") for result in root.iter(f"{_UWS}result")},
    )


def _said(response: httpx.Response) -> str:
    """Return the message of an error document: plain text, or a VOTable with QUERY_STATUS=ERROR."""
    if "xml" in response.headers.get("content-type", ""):
        for element in ElementTree.fromstring(response.content).iter():
            if element.tag.endswith("INFO") and element.get("value") == "ERROR":
                return (element.text or "").strip()
    return response.text.strip() or f"{response.status_code} {response.reason_phrase}"
