"""A TAP service on the loopback that answers from a catalogue in memory, in the manner it is told to.

Its documents are in the forms that services send: the capabilities are those of GAVO's, the job is UWS 1.1 as DaCHS
writes it, the result a VOTable in TABLEDATA.
"""

from __future__ import annotations

import io
import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uvicorn
import yaml
from astropy.io.votable import parse_single_table

from inzitu.archive.patience import Patience
from inzitu.manifest import Manifest
from inzitu.web.app import create_app

CAPABILITIES = (Path(__file__).parents[1] / "data/tap/capabilities-gavo.xml").read_text()
IMPATIENT = Patience(silence=20.0, answer=20.0, job=20.0, attempts=3, pause=0.01, largest=1 << 20)
MORE_SO: dict[str, Any] = {"hang": {"silence": 0.3}, "trickle": {"answer": 0.5}, "never ends": {"job": 0.5}}
"""What is not waited for, in the manner that asks for waiting."""
JOB = """<?xml version="1.0" encoding="UTF-8"?>
<uws:job version="1.1" xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink">
<uws:jobId>{id}</uws:jobId><uws:ownerId/><uws:phase>{phase}</uws:phase><uws:quote/><uws:startTime/><uws:endTime/>
<uws:executionDuration>7200</uws:executionDuration><uws:destruction>2030-01-01T00:00:00Z</uws:destruction>
<uws:parameters/>{results}{error}</uws:job>"""
TABLE = """<?xml version="1.0" encoding="utf-8"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">
<INFO name="QUERY_STATUS" value="OK">Query successful</INFO>
<TABLE name="result" {nrows}>{fields}<DATA><TABLEDATA>{rows}</TABLEDATA></DATA></TABLE>{overflow}
</RESOURCE></VOTABLE>"""


class TapServer(ThreadingHTTPServer):
    """Holds a catalogue `ivoa.sources` with objid, ra, dec, rmag."""

    daemon_threads = True

    def __init__(self, ra: np.ndarray, dec: np.ndarray, *, capabilities: str = CAPABILITIES) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.ra, self.dec, self.capabilities = ra, dec, capabilities
        self.manner, self.most = "well", 1_000_000
        self.well_for = 0  # jobs before the manner begins
        self.jobs: dict[str, bytes] = {}
        self.queries: list[str] = []
        self.lengths: list[int] = []
        self.failures = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/tap"

    def manner_of(self, job: int) -> str:
        """Return in which manner the service treats a job."""
        return self.manner if job > self.well_for else "well"

    def answer(self, query: str, maxrec: int, upload: bytes | None) -> bytes:
        """Answer a query of the adapter's two kinds: positions from the upload, or from the cones in the text."""
        self.queries.append(query)
        if "TOP 1" in query:
            return self.document([0], maxrec)
        radius = float(re.findall(r"([\d.]+)\)", query)[-1])
        if upload is not None:
            sent = parse_single_table(io.BytesIO(upload)).array
            cones = list(zip(sent["ra"], sent["dec"], strict=True))
        else:
            cones = [(float(a), float(d)) for a, d in re.findall(r"CIRCLE\('ICRS', ([\d.-]+), ([\d.-]+)", query)]
        self.lengths.append(len(cones))
        near = [int(i) for ra, dec in cones for i in np.flatnonzero(_separation(ra, dec, self.ra, self.dec) < radius)]
        return self.document(near, min(maxrec, self.most))

    def document(self, near: list[int], most: int) -> bytes:
        manner = self.manner_of(len(self.jobs) + 1)
        shift = 1.0 if manner == "elsewhere" else 0.0
        rows = "".join(
            f"<TR><TD>{i}</TD><TD>{float(self.ra[i])!r}</TD><TD>{float(self.dec[i]) + shift!r}</TD><TD>20.5</TD></TR>"
            for i in near[:most]
        )
        names = ["objid", "ra", "dec", "wrong" if manner == "wrong columns" else "rmag"]
        fields = "".join(
            f'<FIELD name="{name}" datatype="{"long" if name == "objid" else "double"}"/>' for name in names
        )
        over = (
            '<INFO name="QUERY_STATUS" value="OVERFLOW"/>' if len(near) > most and manner != "silent overflow" else ""
        )
        nrows = f'nrows="{len(near) + 7}"' if manner == "nrows" else ""
        return TABLE.format(fields=fields, rows=rows, overflow=over, nrows=nrows).encode()


def _separation(ra: float, dec: float, ras: np.ndarray, decs: np.ndarray) -> np.ndarray:
    """Return distances [deg] by the haversine formula."""
    a, d, b, e = math.radians(ra), math.radians(dec), np.radians(ras), np.radians(decs)
    h = np.sin((e - d) / 2) ** 2 + np.cos(d) * np.cos(e) * np.sin((b - a) / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(h))))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TapServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.endswith("/capabilities"):
            return self.send(200, self.server.capabilities.encode())
        number = path.split("/")[3]
        if path.endswith("/results/result"):
            return self.result(number)
        manner = self.server.manner_of(int(number))
        phase = {"job error": "ERROR", "never ends": "EXECUTING"}.get(manner, "COMPLETED")
        href = f"{self.server.url}/async/{number}/results/result"
        results = f'<uws:results><uws:result id="result" xlink:href="{href}"/></uws:results>'
        error = '<uws:errorSummary type="fatal" hasDetail="false"><uws:message>Column foo is unknown</uws:message>'
        return self.send(
            200,
            JOB.format(
                id=number,
                phase=phase,
                results=results if phase == "COMPLETED" else "",
                error=f"{error}</uws:errorSummary>" if phase == "ERROR" else "",
            ).encode(),
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("/phase"):
            return self.see(self.path.removesuffix("/phase"))
        fields = self.form(body)
        number = str(len(self.server.jobs) + 1)
        manner = self.server.manner_of(int(number))
        if manner == "busy" or (manner == "busy at first" and self.server.failures < 2):
            self.server.failures += 1
            return self.send(503, b"later", {"Retry-After": "0"})
        self.server.jobs[number] = self.server.answer(
            fields["QUERY"].decode(), int(fields.get("MAXREC", b"999999")), fields.get("positions")
        )
        return self.see(f"/tap/async/{number}")

    def do_DELETE(self) -> None:
        match self.server.manner:
            case "keeps jobs":
                self.send(500, b"no")
            case "hangs up on DELETE":
                self.close_connection = True
            case "redirects DELETE nowhere":
                self.send(303, b"", {"Location": "http://127.0.0.1:9/gone"})
            case _:
                self.see("/tap/async")

    def form(self, body: bytes) -> dict[str, bytes]:
        kind = self.headers["content-type"]
        if kind.startswith("application/x-www-form-urlencoded"):
            return {name: value[0].encode() for name, value in parse_qs(body.decode()).items()}
        message = BytesParser(policy=HTTP).parsebytes(b"content-type: " + kind.encode() + b"\r\n\r\n" + body)
        return {
            str(part.get_param("name", header="content-disposition")): bytes(part.get_payload(decode=True))
            for part in message.iter_parts()
        }

    def result(self, number: str) -> None:
        content = self.server.jobs[number]
        manner = self.server.manner_of(int(number))
        if manner == "hang":
            time.sleep(3.0)
        if manner == "html":
            content = b"<!DOCTYPE html><html><title>Maintenance</title><body>back on Monday</body></html>"
        if manner == "cut xml":
            content = content[: len(content) // 2]
        if manner == "huge":
            content += b" " * (IMPATIENT.largest + 1)
        if manner == "trickle":
            self.trickle()
        else:
            self.send(200, content, half=manner == "half")

    def trickle(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):
            for _ in range(100):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.1)

    def see(self, path: str) -> None:
        self.send(303, b"", {"Location": path})

    def send(self, code: int, content: bytes, headers: dict[str, str] | None = None, *, half: bool = False) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(content[: len(content) // 2] if half else content)
        self.close_connection = self.close_connection or half


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[None]:
    """Serve for the length of a block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def own_service(folder: Path, catalogue: pa.Table, **limits: int) -> Iterator[str]:
    """Serve a table as archive.catalogue by the project's own TAP service; yields its URL."""
    folder.mkdir(exist_ok=True)
    pq.write_table(catalogue, folder / "catalogue.parquet")
    archive = {"surveys": [{"band": "r", "hips": "hips"}], "catalogue": {"path": "catalogue.parquet"}}
    (folder / "manifest.yaml").write_text(yaml.safe_dump({"archive": archive, "limits": limits}))
    app = create_app(Manifest.load(folder / "manifest.yaml"))
    service = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=service.run, daemon=True)
    thread.start()
    while not service.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{service.servers[0].sockets[0].getsockname()[1]}/tap"
    service.should_exit = True
    thread.join(timeout=10)
