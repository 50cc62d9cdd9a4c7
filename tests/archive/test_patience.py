"""The one adapter of all requests to others: what it reads, repeats and refuses."""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from archive.tap_server import IMPATIENT, running
from inzitu.archive.patience import patient_session

BODY = b"a line of an answer\n" * 20_000


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, bytes]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append((self.path, b""))
        match self.path:
            case "/gzip":
                self.pieces(gzip.compress(BODY), {"Content-Encoding": "gzip"})
            case "/chunked":
                self.chunks(BODY, whole=True)
            case "/cut":
                self.chunks(BODY, whole=False)
            case "/later":
                self.busy({"Retry-After": formatdate(time.time() + 1, usegmt=True)})
            case "/never":
                self.busy({"Retry-After": "3600"})
            case _:
                self.pieces(b"", {"Location": "/gzip"}, status=302)

    def do_POST(self) -> None:
        self.server.asked.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.pieces(b"taken", {}, status=503 if len(self.server.asked) < 3 else 200)

    def busy(self, headers: dict[str, str]) -> None:
        first = len(self.server.asked) == 1
        self.pieces(b"<p>Come back  later</p>" if first else b"now", headers, status=503 if first else 200)

    def pieces(self, content: bytes, headers: dict[str, str], *, status: int = 200) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        for start in range(0, len(content), 700):
            self.wfile.write(content[start : start + 700])
            self.wfile.flush()

    def chunks(self, content: bytes, *, whole: bool) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(content) if whole else len(content) // 2, 9000):
            piece = content[start : start + 9000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if whole:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = not whole


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    with running(server):
        yield server


def answer(server: Server, path: str, **changes: float) -> requests.Response:
    session, _ = patient_session(replace(IMPATIENT, **changes))  # type: ignore[arg-type]  # all of them numbers
    with session:
        return session.get(f"http://127.0.0.1:{server.server_address[1]}{path}")


@pytest.mark.parametrize("path", ["/gzip", "/chunked", "/elsewhere"])
def test_whatever_way_it_is_sent_the_answer_is_whole(server: Server, path: str) -> None:
    response = answer(server, path)
    assert response.content == BODY
    assert response.raw.read() == BODY


def test_the_digest_is_of_the_answer_as_it_is_read(server: Server) -> None:
    session, adapter = patient_session(IMPATIENT)
    with session:
        session.get(f"http://127.0.0.1:{server.server_address[1]}/gzip")
    assert adapter.last is not None
    assert (adapter.last.sha256, adapter.last.bytes) == (hashlib.sha256(BODY).hexdigest(), len(BODY))


def test_an_answer_that_is_cut_is_no_answer(server: Server) -> None:
    with pytest.raises(requests.ConnectionError, match="after 2 attempts"):
        answer(server, "/cut", attempts=2)
    assert len(server.asked) == 2


def test_a_service_says_when_to_come_back(server: Server) -> None:
    assert answer(server, "/later").content == b"now"
    server.asked.clear()
    with pytest.raises(requests.ConnectionError, match="503 Service Unavailable: 'Come back later', after 1 attempt"):
        answer(server, "/never")  # in an hour is never: the deadline is nearer


def test_what_was_sent_is_sent_again_whole(server: Server) -> None:
    session, _ = patient_session(IMPATIENT)
    with session:
        url = f"http://127.0.0.1:{server.server_address[1]}/upload"
        assert session.post(url, files={"table": BODY}).content == b"taken"
    first, second, third = (body for _, body in server.asked)
    assert first == second == third
    assert BODY in first


def test_an_answer_without_end_is_given_up(server: Server) -> None:
    with pytest.raises(requests.ConnectionError, match="more than 1,000 bytes"):
        answer(server, "/chunked", largest=1000)
