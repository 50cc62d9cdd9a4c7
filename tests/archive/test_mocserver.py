"""The MOCServer, played by a local one that also fails, hangs and lies."""

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlparse

import pytest

from inzitu.archive.mocserver import coverage_by_id
from inzitu.errors import ArchiveFault, ParameterFault
from inzitu.sky import Coverage

ANSWERS = {
    "CDS/P/SDSS9/r": (200, "0/1 3/700-703"),
    "CDS/P/none": (200, "0/"),
    "CDS/P/html": (200, "<html><body>maintenance</body></html>"),
    "CDS/P/busy": (503, "busy"),
    "CDS/P/slow": (200, "0/1"),
}


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        query = parse_qs(urlparse(self.path).query)
        name = query["expr"][0].removeprefix("ID=")
        if name.endswith("slow"):
            time.sleep(1.5)
        status, text = ANSWERS[name]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/MocServer/query"
    httpd.shutdown()
    httpd.server_close()


def test_a_survey_is_found_by_its_identifier(server: str) -> None:
    assert coverage_by_id("ivo://CDS/P/SDSS9/r", server=server) == Coverage.from_text("0/1 3/700-703")


@pytest.mark.parametrize(
    ("identifier", "said"),
    [
        ("CDS/P/none", "knows no coverage of CDS/P/none"),
        ("CDS/P/html", "sent no MOC for CDS/P/html"),
        ("CDS/P/busy", "does not answer: 503"),
        ("CDS/P/slow", "does not answer"),
    ],
)
def test_a_server_that_fails_is_named_in_bounded_time(server: str, identifier: str, said: str) -> None:
    began = time.monotonic()
    with pytest.raises(ArchiveFault, match=said):
        coverage_by_id(identifier, server=server, seconds=0.5)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("identifier", ["", "CDS/P/*", "CDS/P/SDSS9/r || ID=*", "SDSS"])
def test_what_is_no_identifier_is_never_sent(identifier: str) -> None:
    with pytest.raises(ParameterFault, match="no survey's identifier"):
        coverage_by_id(identifier, server="http://127.0.0.1:1/")
