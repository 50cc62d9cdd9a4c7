"""A HiPS behind a server that behaves, and behind servers that do not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from hips.conftest import Sky, noise
from inzitu.hips import Status, Survey, TileError, cutouts, remote
from inzitu.hips.cache import Cache
from inzitu.sky import Coverage

RA, DEC = [0.0, 2.0, 90.0], [0.0, 1.0, 40.0]
KEYS = {"size": 8, "scale": 400.0}


class Server(ThreadingHTTPServer):
    """Serves a folder, in the manner named by `manner`; `asked` holds what it was asked for."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.manner, self.asked, self.failures = root, "well", list[tuple[str, str]](), 0

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that hung up: it would stand in the output of a later test."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("range", "")
        self.server.asked.append((self.path, asked))
        manner = self.server.manner if self.path.endswith(".fits") and "Norder" in self.path else "well"
        path = self.server.root / self.path.lstrip("/")
        if manner == "hang":
            time.sleep(3)
        if manner == "busy" or (manner == "busy at first" and self.server.failures < 2):
            self.server.failures += 1
            return self.answer(503, b"later")
        if manner == "html" or self.server.manner == "html everywhere":
            return self.answer(200, b"<html>Welcome</html>", kind="text/html")
        if manner == "plain html":
            return self.answer(200, b"<html>Welcome</html>" * 400)
        if manner == "forbidden":
            return self.answer(403, b"no")
        if not path.is_file():
            return self.answer(404, b"none")
        content = path.read_bytes()
        if asked and manner != "no ranges":
            first, last = (int(part) for part in asked.removeprefix("bytes=").split("-"))
            part = content[first : last + 1]
            return self.answer(206, part, span=f"bytes {first}-{first + len(part) - 1}/{len(content)}", manner=manner)
        return self.answer(200, content, manner=manner)

    def answer(
        self, code: int, content: bytes, *, kind: str = "application/fits", span: str = "", manner: str = ""
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if span:
            self.send_header("Content-Range", span)
        if manner == "changing":
            self.send_header("ETag", str(len(self.server.asked)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if manner == "half" else content)
        if manner == "half":
            self.close_connection = True


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Sky(noise(0, 256), 0, 256).write(tmp_path_factory.mktemp("remote"))


@pytest.fixture
def server(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "SILENCE", 0.3)
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    monkeypatch.setattr(remote, "DEADLINE", 2.0)
    server = Server(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_web_site_is_no_hips_and_said_to_be_one(server: Server, tmp_path: Path) -> None:
    server.manner = "html everywhere"
    with pytest.raises(OSError, match=f"{server.url}/properties: the server sent an HTML page"):
        Survey.open(server.url, cache=tmp_path)


@pytest.mark.parametrize("manner", ["well", "no ranges", "busy at first"])
@pytest.mark.parametrize("digests", [True, False])
def test_cutouts_by_http_are_those_of_the_folder(
    root: Path, server: Server, tmp_path: Path, manner: str, digests: bool
) -> None:
    server.manner = manner
    local = cutouts([Survey.open(root)], RA, DEC, digests=digests, **KEYS)  # type: ignore[arg-type]
    survey = Survey.open(server.url, cache=tmp_path)
    far = cutouts([survey], RA, DEC, digests=digests, **KEYS)  # type: ignore[arg-type]
    np.testing.assert_array_equal(far.pixels, local.pixels)
    np.testing.assert_array_equal(far.status, local.status)
    assert [read.sha256 for read in far.tiles] == [read.sha256 for read in local.tiles]


def test_only_the_rows_needed_are_asked_for(server: Server, tmp_path: Path) -> None:
    cut = cutouts([Survey.open(server.url, cache=tmp_path)], RA[:1], DEC[:1], digests=False, **KEYS)  # type: ignore[arg-type]
    [read] = cut.tiles
    assert read.bytes < 40_000  # of 265,000
    assert len([span for path, span in server.asked if path.endswith("Npix4.fits") and span]) == 2


@pytest.mark.parametrize("zipped", [False, True])
def test_a_tile_that_is_read_whole_is_fetched_once_and_then_comes_from_the_cache(
    server: Server, tmp_path: Path, zipped: bool
) -> None:
    side = 256 if zipped else 64  # one beyond, one within what is asked for at first
    server.root = Sky(noise(0, side), 0, side).write(tmp_path / "tree", zipped=zipped)
    asked = []
    for _ in range(2):
        cutouts([Survey.open(server.url, cache=tmp_path)], RA, DEC, **KEYS)  # type: ignore[arg-type]
        asked.append([request for request in server.asked if "Norder" in request[0]])
    assert asked[0] == asked[1]
    assert len(asked[0]) == len(set(asked[0]))


def test_a_new_edition_of_the_survey_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    sky = Sky(noise(0, 64), 0, 64)
    server.root = sky.write(tmp_path / "tree")
    for date in ("2024-01-01T00:00Z", "2025-01-01T00:00Z"):
        sky.write_properties(server.root, hips_release_date=date)
        cutouts([Survey.open(server.url, cache=tmp_path)], RA[:1], DEC[:1], **KEYS)  # type: ignore[arg-type]
    assert len([path for path, _ in server.asked if path.endswith("Npix4.fits")]) == 2


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("hang", "silent for 0.3 s"),
        ("busy", "answered 503"),
        ("half", "closed the connection half-way"),
        ("html", "an HTML page instead"),
        ("plain html", "not a FITS file"),
        ("forbidden", "answered 403"),
    ],
)
def test_a_server_that_misbehaves_fails_the_rows_in_bounded_time(
    server: Server, tmp_path: Path, manner: str, reason: str
) -> None:
    survey = Survey.open(server.url, cache=tmp_path)
    server.manner = manner
    began = time.monotonic()
    cut = cutouts([survey], RA[:2], DEC[:2], **KEYS)  # type: ignore[arg-type]
    assert time.monotonic() - began < 30
    assert cut.status_words() == ["error", "error"]
    assert reason in str(cut.errors[0])
    assert f"{server.url}/Norder0" in str(cut.errors[0])


def test_a_tile_replaced_between_two_ranges_is_an_error(server: Server, tmp_path: Path) -> None:
    server.manner = "changing"
    cut = cutouts([Survey.open(server.url, cache=tmp_path)], RA[:1], DEC[:1], digests=False, **KEYS)  # type: ignore[arg-type]
    assert "replaced while it was read" in str(cut.errors[0])


@pytest.mark.parametrize(("stated", "said"), [("1", "there are tiles in Norder2"), ("3", "none of 3 tiles is there")])
def test_properties_that_lie_about_the_order_are_found_out_where_there_is_a_coverage(
    server: Server, tmp_path: Path, stated: str, said: str
) -> None:
    sky = Sky(noise(2, 4), 2, 4, "galactic")
    server.root = sky.write(tmp_path / "tree")
    Coverage.from_cells(1, np.array([3, 20, 41])).write(server.root / "Moc.fits")
    assert Survey.open(server.url, cache=tmp_path / "cache").order == 2
    sky.write_properties(server.root, hips_order=stated)
    with pytest.raises(ValueError, match=f"states hips_order {stated}, but inside its coverage {said}"):
        Survey.open(server.url, cache=tmp_path / "cache")


def test_a_missing_tile_is_no_error(server: Server, tmp_path: Path) -> None:
    server.root = tmp_path / "sparse"
    sky = Sky(noise(0, 256), 0, 256)
    sky.write(server.root, tiles=range(4, 5))
    survey = Survey.open(server.url, cache=tmp_path)
    cut = cutouts([survey], [0.0, 180.0], [0.0, 0.0], **KEYS)  # type: ignore[arg-type]
    assert cut.status[:, 0].tolist() == [Status.OK, Status.OUTSIDE]


def test_nobody_there_is_an_error_that_names_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    with pytest.raises(TileError, match=r"http://127\.0\.0\.1:9/hips/properties: the server cannot be reached"):
        Survey.open("http://127.0.0.1:9/hips", cache=tmp_path)


def test_the_cache_stays_within_its_bound_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    cache = Cache(tmp_path, most_bytes=10_000)
    for k in range(30):
        cache.put(str(k), bytes(1000))
        cache.get("0")
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 10_000
    assert cache.get("0") is not None
    assert cache.get("29") is not None
