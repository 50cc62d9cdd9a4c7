"""The MOCServer, played by a local one that also fails, hangs and lies.

Its answers are in the server's forms: a MOC in ASCII, and records as JSON with the fields that were asked for and no
others, in strings (``[{"ID": "CDS/P/SDSS9/r", "hips_service_url": "https://..."}]``).
"""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from archive.sdss_server import SdssServer
from archive.tap_server import running
from hips.conftest import Sky
from inzitu.archive import inspection
from inzitu.archive.inspection import inspect
from inzitu.archive.mocserver import PATIENCE, MocServer
from inzitu.archive.surveys import coverage_of, located, moc_of
from inzitu.cli import app
from inzitu.errors import ArchiveFault, ManifestFault, ParameterFault
from inzitu.hips import Survey
from inzitu.manifest import Manifest, SdssSource
from inzitu.sky import Coverage

IMPATIENT = replace(PATIENCE, silence=0.4, answer=5.0, attempts=2, pause=0.01)
MOCS = {
    "CDS/P/SDSS9/r": (200, "0/1 3/700-703"),
    "CDS/P/none": (200, "0/"),
    "CDS/P/html": (200, "<html><body>maintenance</body></html>"),
    "CDS/P/word": (200, "maintenance"),
    "CDS/P/busy": (503, "busy"),
    "CDS/P/slow": (200, "0/1"),
}
RECORDS = {
    "CDS/P/SDSS9/r": {"hips_service_url": "HERE", "hips_tile_format": "jpeg fits"},
    "CDS/P/jpeg": {"hips_service_url": "HERE", "hips_tile_format": "jpeg png"},
    "CDS/C/catalogue": {},
}


class Server(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []
    hips = "https://example.org/SDSS/r"

    def do_GET(self) -> None:
        query = parse_qs(urlparse(self.path).query)
        name = query["expr"][0].removeprefix("ID=")
        self.asked.append(f"{query['get'][0]} {name}")
        if name.endswith("slow"):
            time.sleep(1.5)
        if query["get"][0] == "record" and name.rpartition("/")[2] not in ("html", "busy", "slow", "word"):
            record = RECORDS.get(name)
            found = [] if record is None else [{"ID": name} | record]
            status, text = 200, json.dumps(found).replace("HERE", self.hips)
        else:
            status, text = MOCS[name]
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


class Files(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    with running(httpd):
        yield f"http://127.0.0.1:{httpd.server_port}/MocServer/query"


def coverage(server: str, identifier: str) -> Coverage:
    with MocServer(server, IMPATIENT) as moc_server:
        return moc_server.coverage(identifier)


def address(server: str, identifier: str) -> str:
    with MocServer(server, IMPATIENT) as moc_server:
        return moc_server.address(identifier)


def test_a_survey_is_found_by_its_identifier(server: str) -> None:
    assert coverage(server, "ivo://CDS/P/SDSS9/r") == Coverage.from_text("0/1 3/700-703")
    assert address(server, "CDS/P/SDSS9/r") == "https://example.org/SDSS/r"


@pytest.mark.parametrize(
    ("identifier", "said"),
    [
        ("CDS/P/none", "knows no coverage of CDS/P/none"),
        ("CDS/P/html", "page for people, not data: 'maintenance'"),
        ("CDS/P/word", "sent no MOC for CDS/P/word"),
        ("CDS/P/busy", "does not answer: .*503"),
        ("CDS/P/slow", "does not answer: .*timed out"),
    ],
)
def test_a_server_that_fails_is_named_in_bounded_time(server: str, identifier: str, said: str) -> None:
    began = time.monotonic()
    with pytest.raises(ArchiveFault, match=said):
        coverage(server, identifier)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("identifier", "said"),
    [
        ("CDS/P/none", "knows no survey CDS/P/none"),
        ("CDS/P/word", "knows no survey CDS/P/word"),
        ("CDS/C/catalogue", "has no HiPS"),
        ("CDS/P/jpeg", "tiles in jpeg png, and none in FITS"),
        ("CDS/P/busy", "does not answer: .*503"),
    ],
)
def test_a_survey_without_pixels_to_measure_is_refused(server: str, identifier: str, said: str) -> None:
    with pytest.raises(ArchiveFault, match=said):
        address(server, identifier)


@pytest.mark.parametrize("identifier", ["", "CDS/P/*", "CDS/P/SDSS9/r || ID=*", "SDSS"])
def test_what_is_no_identifier_is_never_sent(identifier: str) -> None:
    with pytest.raises(ParameterFault, match="no survey's identifier"):
        coverage("http://127.0.0.1:1/", identifier)


@pytest.fixture
def manifest(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manifest]:
    """A deployment that names its survey by identifier; the HiPS is on the loopback."""
    root = Sky(np.arange(12 * 16.0**2), 1, 8).write(tmp_path / "hips")
    (tmp_path / "catalogue.csv").write_text("objID,ra,dec\n1,10,20\n")
    archive = {
        "surveys": [{"band": "r", "id": "CDS/P/SDSS9/r"}],
        "catalogue": {"path": "catalogue.csv"},
        "mocserver": server,
    }
    (tmp_path / "manifest.yaml").write_text(yaml.safe_dump({"archive": archive}))
    files = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(root)))
    with running(files):
        monkeypatch.setattr(Server, "hips", f"http://127.0.0.1:{files.server_port}")
        yield Manifest.load(tmp_path / "manifest.yaml")


def test_a_manifest_may_name_its_surveys_by_identifier(manifest: Manifest) -> None:
    [entry] = located(manifest).archive.surveys
    assert entry.hips == Server.hips
    assert coverage_of(entry) == Coverage.from_text("0/1 3/700-703")
    assert Survey.open(entry.hips).order == 1
    lines = list(inspect(manifest))
    assert lines[0].startswith(f"r: CDS/P/SDSS9/r at {Server.hips}: order 1, tiles of 8 pixels, equatorial, 3653 deg2")


def test_what_the_server_said_is_kept_and_only_the_check_asks_again(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "asked", [])
    once = located(manifest)
    assert Server.asked == ["record CDS/P/SDSS9/r", "smoc CDS/P/SDSS9/r"]
    offline = manifest.archive.model_copy(update={"mocserver": "http://127.0.0.1:9/"})
    gone = manifest.model_copy(update={"archive": offline})
    assert located(gone).archive.surveys == once.archive.surveys
    assert len(Server.asked) == 2
    with pytest.raises(ArchiveFault, match=r"band r: The MOCServer http://127\.0\.0\.1:9/ does not answer"):
        located(gone, anew=True, patience=IMPATIENT)
    assert located(gone).archive.surveys == once.archive.surveys


def test_two_first_jobs_may_ask_at_the_same_time(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Coverage.write

    def written_while_another_asks(self: Coverage, path: Path) -> None:
        write(self, path)
        with monkeypatch.context() as patch:
            patch.setattr(Coverage, "write", write)
            located(manifest, anew=True)

    monkeypatch.setattr(Coverage, "write", written_while_another_asks)
    [entry] = located(manifest).archive.surveys
    assert coverage_of(entry) == Coverage.from_text("0/1 3/700-703")
    assert {path.name for path in Path(entry.moc).parent.iterdir()} == {"moc.fits", "survey.json"}


def test_the_check_asks_each_source_for_a_row(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    sdss = SdssServer()
    with running(sdss):
        there = manifest.model_copy(update={"sources": {"sdss": SdssSource(server=sdss.url)}})
        assert "source: sdss: a row of it has specObjID, ra, dec, z, zErr, zWarning, class" in "\n".join(inspect(there))
    monkeypatch.setattr(inspection, "PATIENCE", IMPATIENT)
    with pytest.raises(ManifestFault, match=r"sources\.sdss: SkyServer does not answer"):
        list(inspect(there))


def test_an_unknown_survey_makes_the_manifest_wrong(manifest: Manifest) -> None:
    [entry] = manifest.archive.surveys
    archive = manifest.archive.model_copy(update={"surveys": (entry.model_copy(update={"id": "CDS/P/none"}),)})
    with pytest.raises(ManifestFault, match=r"band r: .*knows no survey CDS/P/none"):
        list(inspect(manifest.model_copy(update={"archive": archive})))


def test_crossmatch_takes_a_survey_in_place_of_a_moc(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inzitu.archive.surveys.MocServer", partial(MocServer, server, IMPATIENT))
    ra, dec = np.array([226.4, 226.5, 10.0]), np.array([-11.8, -11.8, 80.0])
    inside = Coverage.from_text("0/1 3/700-703").contains(ra, dec)
    rows = "ra,dec\n" + "".join(f"{a},{d}\n" for a, d in zip(ra, dec, strict=True))
    (tmp_path / "list.csv").write_text(rows)
    names = [str(tmp_path / "list.csv")] * 2
    options = ["--radius", "1", "--moc", "CDS/P/SDSS9/r", "--out", str(tmp_path / "pairs.parquet")]
    answer = CliRunner().invoke(app, ["crossmatch", *names, *options])
    assert answer.exit_code == 0, answer.output
    assert f"{inside.sum()} pairs of 3 and 3 rows" in answer.output
    assert 0 < inside.sum() < 3
    assert moc_of("no/such/moc.fits", tmp_path) == Path("no/such/moc.fits")
