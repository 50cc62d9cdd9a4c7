"""A HiPS behind http(s): pooled connections, ranges where the server has them, bounded retries, a cache on disk.

A server that hangs, refuses, closes half-way or sends something else is an error that names the address, after at most
`DEADLINE` seconds a file; one from which nothing comes at all is given up after `LOST` seconds. That a file does not
exist (404, 410) is no error.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field, replace

import httpx

from inzitu.hips.cache import Cache
from inzitu.hips.tiles import WHOLE, Handle, TileError

CONNECT, SILENCE, DEADLINE = 5.0, 10.0, 30.0
"""Seconds for a connection, between two pieces of an answer, and for a file with all attempts."""
LOST = 1200.0
"""Seconds of waiting, that of files fetched side by side added up, in which none came: the server is given up."""
ATTEMPTS = 4
PAUSE = 0.25
"""Before the second attempt [s]; doubled before each further one."""
PARALLEL = 8
"""Files fetched at a time."""
LARGEST = 1 << 30
"""Bytes of the largest file taken."""
ABSENT = frozenset((404, 410))
TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server sent: the bytes, of how many, and which version of the file."""

    content: bytes
    size: int
    version: str


@dataclass(slots=True)
class Waited:
    """How long a server was waited for in vain since it last sent anything."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Remote:
    """The files of a HiPS behind http(s)."""

    uri: str
    client: httpx.Client = field(repr=False)
    cache: Cache | None = None
    parallel: int = PARALLEL
    waited: Waited = field(default_factory=Waited, repr=False, compare=False)

    @classmethod
    def at(cls, url: str, *, cache: Cache | None) -> Remote:
        """Return the files under a base."""
        client = httpx.Client(
            timeout=httpx.Timeout(SILENCE, connect=CONNECT),
            limits=httpx.Limits(max_connections=PARALLEL),
            follow_redirects=True,
            headers={"accept-encoding": "identity", "user-agent": "inzitu"},  # ranges of a compressed answer are no use
        )
        return cls(url.rstrip("/"), client, cache)

    def edition(self, name: str) -> Remote:
        """Return the same files, whose cached copies are valid for this edition of the HiPS only."""
        return replace(self, cache=replace(self.cache, edition=name)) if self.cache else self

    def open(self, path: str, *, whole: bool = False) -> Handle | None:
        """Open a file of the HiPS; None if there is none of that name."""
        url = f"{self.uri}/{path}"
        if self.cache and (content := self.cache.get(url)) is not None:
            return RemoteHandle(self, url, Answer(content, len(content), ""))
        answer = self.fetch(url, None if whole else (0, WHOLE))
        if answer is None:
            return None
        self.keep(url, answer)
        return RemoteHandle(self, url, answer)

    def keep(self, url: str, answer: Answer) -> None:
        """Cache a tile of which all is here."""
        if self.cache and len(answer.content) == answer.size and url.endswith(".fits"):
            self.cache.put(url, answer.content)

    def size(self, path: str) -> int | None:
        """Return the bytes of a file; None if there is none of that name."""
        handle = self.open(path)
        return None if handle is None else handle.size

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def fetch(self, url: str, span: tuple[int, int] | None) -> Answer | None:
        """Return a file, or bytes of it from the first of `span` to before the second; None if there is no such file.

        Raises
        ------
        TileError
            All attempts failed, or so many before it that the server is given up.
        """
        if self.waited.seconds > LOST:
            raise TileError(url, f"not asked for: after {LOST:g} s of waiting in vain the server is given up")
        began = time.monotonic()
        try:
            answer = self._insisted(url, span, began + DEADLINE)
        except TileError:
            self.waited.seconds += time.monotonic() - began
            raise
        self.waited.seconds = 0.0
        return answer

    def _insisted(self, url: str, span: tuple[int, int] | None, deadline: float) -> Answer | None:
        """Ask until an answer comes, within the attempts and the time allowed."""
        reason = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                pause = PAUSE * 2 ** (attempt - 1)
                if time.monotonic() + pause >= deadline:
                    break
                time.sleep(pause)
            try:
                return self._attempt(url, span, deadline)
            except _Transient as error:
                reason = str(error)
            except (httpx.TimeoutException, httpx.NetworkError, httpx.ProtocolError) as error:
                reason = _words(error)
            except httpx.HTTPError as error:
                raise TileError(url, _words(error)) from error
        raise TileError(url, f"{reason}, after {attempt + 1} attempts")

    def _attempt(self, url: str, span: tuple[int, int] | None, deadline: float) -> Answer | None:
        headers = {"range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
        with self.client.stream("GET", url, headers=headers) as response:
            if response.status_code in ABSENT:
                return None
            if response.status_code in TRANSIENT:
                raise _Transient(f"the server answered {response.status_code} {response.reason_phrase}")
            if response.status_code not in (200, 206):
                raise TileError(url, f"the server answered {response.status_code} {response.reason_phrase}")
            if "html" in response.headers.get("content-type", ""):
                raise TileError(url, "the server sent an HTML page instead of the file")
            content = _body(response, url, deadline)
            version = response.headers.get("etag", response.headers.get("last-modified", ""))
            size = len(content)
            if response.status_code == 206:
                if (
                    span is None
                    or not (stated := _range(response.headers.get("content-range", "")))
                    or stated[0] != span[0]
                ):
                    raise TileError(url, "the server sent another range than was asked for")
                size = stated[1]
            return Answer(content, size, version)


class _Transient(Exception):
    """A failure that may be gone at the next attempt."""


@dataclass(slots=True)
class RemoteHandle:
    """A remote file of which some bytes are here."""

    remote: Remote
    url: str
    answer: Answer

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.answer.size

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop`, fewer where the file ends before."""
        stop = min(stop, self.size)
        if stop > len(self.answer.content) and start < stop:
            held = len(self.answer.content) if start <= len(self.answer.content) else start
            more = self.remote.fetch(self.url, (held, stop))
            if more is None or more.size != self.size or more.version != self.answer.version:
                raise TileError(self.url, "replaced while it was read")
            if len(more.content) == more.size:  # the server took no notice of the range
                self.answer = more
            elif held == start > len(self.answer.content):
                return more.content
            else:
                self.answer = replace(self.answer, content=self.answer.content + more.content)
            self.remote.keep(self.url, self.answer)
        return self.answer.content[start:stop]

    def close(self) -> None:
        """Nothing is held open: connections belong to the pool."""


def _body(response: httpx.Response, url: str, deadline: float) -> bytes:
    """Return the body of an answer, unless it is too large or drips in too slowly."""
    content = bytearray()
    for piece in response.iter_raw():
        content += piece
        if len(content) > LARGEST:
            raise TileError(url, f"more than {LARGEST >> 20} MB")
        if time.monotonic() > deadline:
            raise TileError(url, f"not complete after {DEADLINE:g} s")
    return bytes(content)


def _range(header: str) -> tuple[int, int] | None:
    """Return the first byte and the file's size of a Content-Range."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", header)
    return (int(found[1]), int(found[2])) if found else None


def _words(error: httpx.HTTPError) -> str:
    match error:
        case httpx.ConnectTimeout():
            return f"no connection within {CONNECT:g} s"
        case httpx.TimeoutException():
            return f"the server was silent for {SILENCE:g} s"
        case httpx.RemoteProtocolError():
            return f"the server closed the connection half-way ({error})"
        case _:
            return f"the server cannot be reached ({error})"
