"""Requests to services of others: in bounded time and memory, repeated while it makes sense.

An adapter of ``requests`` that pyvo's and astroquery's sessions are given, so that one place decides how long a service
may be silent, what is tried again and what counts as an answer. Tiles are read by `inzitu.hips`, not by this.
"""

from __future__ import annotations

import hashlib
import io
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from inzitu.errors import ArchiveFault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses after which the same request may succeed."""
_HTML = re.compile(rb"\s*(<!doctype\s+html|<html\b)", re.IGNORECASE)
_PIECE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a service is waited for, and how often it is asked.

    Attributes
    ----------
    silence
        Between two pieces of an answer [s].
    answer
        For one answer, with all attempts [s].
    job
        For an asynchronous job to end [s].
    attempts
        How often one request is sent.
    pause
        Before the second attempt [s]; doubled before each further one. A Retry-After of the service counts instead.
    parts
        How often a part of a long answer is asked for: each request may be answered, and the answer broken.
    largest
        Largest answer taken [byte].
    """

    silence: float = 60.0
    answer: float = 600.0
    job: float = 3600.0
    attempts: int = 5
    pause: float = 1.0
    parts: int = 3
    largest: int = 512 << 20


def insist[R](ask: Callable[[], R], patience: Patience) -> R:
    """Call what asks for a part of an answer until that comes in one piece.

    Raises
    ------
    ArchiveFault
        It did not, the last time.
    """
    for attempt in range(1, patience.parts):
        try:
            return ask()
        except ArchiveFault:
            time.sleep(patience.pause * 2**attempt)
    return ask()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service sent, as the record of what was read names it."""

    uri: str
    sha256: str
    bytes: int


class PatientAdapter(HTTPAdapter):
    """Sends requests with a limit to everything; `last` is the answer that came last."""

    def __init__(self, patience: Patience) -> None:
        super().__init__()
        self.patience = patience
        self.last: Answer | None = None

    def send(self, request: requests.PreparedRequest, *_: Any, **options: Any) -> requests.Response:
        """Send a request until it is answered; the answer is complete, and in memory.

        Raises
        ------
        requests.ConnectionError
            All attempts failed, the answer is too large, or is a page for people.
        """
        options |= {"stream": True, "timeout": (min(10.0, self.patience.silence), self.patience.silence)}
        deadline = time.monotonic() + self.patience.answer
        reason = ""
        for attempt in range(1, self.patience.attempts + 1):
            pause = self.patience.pause * 2 ** (attempt - 1)
            try:
                response = super().send(request, **options)
                with response.raw:
                    content = self._drained(response, deadline)
                if response.status_code not in TRANSIENT:
                    return self._complete(request, response, content)
                reason = f"it answers {response.status_code} {response.reason}: {_title(content)}"
                pause = _retry_after(response.headers) or pause
            except _Refused:
                raise
            except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
                reason = _words(error)
            if attempt < self.patience.attempts and time.monotonic() + pause < deadline:
                time.sleep(pause)
            else:
                break
        raise _failure(request, f"{reason}, after {attempt} attempt{'s' * (attempt > 1)}")

    def _drained(self, response: requests.Response, deadline: float) -> bytes:
        """Return the whole body; a trickle ends at the deadline."""
        pieces, size = [], 0
        while piece := response.raw.read1(_PIECE, decode_content=True):
            pieces.append(piece)
            size += len(piece)
            if size > self.patience.largest:
                raise _failure(response.request, f"it sends more than {self.patience.largest:,} bytes; ask for less")
            if time.monotonic() > deadline:
                raise _failure(response.request, f"its answer is not complete after {self.patience.answer:g} s")
        return b"".join(pieces)

    def _complete(
        self, request: requests.PreparedRequest, response: requests.Response, content: bytes
    ) -> requests.Response:
        if response.ok and _HTML.match(content):
            raise _failure(request, f"it sends a page for people, not data: {_title(content)}")
        self.last = Answer(request.url or "", hashlib.sha256(content).hexdigest(), len(content))
        headers = {name: value for name, value in response.headers.items() if name.lower() != "content-encoding"}
        # pyvo reads the raw stream, astroquery the content: both find the bytes that are here already.
        response.raw = HTTPResponse(io.BytesIO(content), headers, response.status_code, preload_content=False)
        response._content = content
        return response


class _Refused(requests.ConnectionError):
    """Sending the request again would change nothing."""


def patient_session(patience: Patience) -> tuple[requests.Session, PatientAdapter]:
    """Return a session all whose requests go through one adapter, and the adapter."""
    session, adapter = requests.Session(), PatientAdapter(patience)
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session, adapter


class PatientService:
    """A service asked through one session, for the length of a block.

    Parameters
    ----------
    patience
        How long it is waited for.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._session, self._adapter = patient_session(patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    @property
    def _answer(self) -> Answer:
        """What came last."""
        assert self._adapter.last is not None
        return self._adapter.last


def in_a_line(text: str, most: int = 300) -> str:
    """Return the beginning of what a service says, as an error quotes it."""
    return " ".join(text.split())[:most]


def _failure(request: requests.PreparedRequest, reason: str) -> requests.ConnectionError:
    return _Refused(f"{(request.url or '').partition('?')[0]}: {reason}", request=request)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a service asks to be left alone (RFC 9110, section 10.2.3)."""
    said = headers.get("Retry-After", "")
    if said.isdecimal():
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None


def _words(error: Exception) -> str:
    """Return what went wrong in words; the libraries wrap the cause several times."""
    inner: object = error
    while isinstance(inner, Exception) and inner.args and isinstance(inner.args[-1], Exception):
        inner = inner.args[-1]
    reason = getattr(inner, "reason", None)
    return str(reason if isinstance(reason, Exception) else inner).rpartition(": ")[2].rstrip(".")


def _title(page: bytes) -> str:
    """Return the beginning of a page's text."""
    text = re.sub(r"<[^>]*>", " ", page[:4000].decode("utf-8", "replace"))
    return repr(in_a_line(text, 120))
