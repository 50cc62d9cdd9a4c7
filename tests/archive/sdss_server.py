"""SkyServer and CasJobs on the loopback: they run the SQL that they are sent over a few spectra, in DuckDB.

The forms are those of the services. SkyServer's CSV begins with ``#Table1``, as in the recorded answers of astroquery's
test data (``xid_sp.txt``), and its errors are JSON with status 400. CasJobs is spoken to as SciServer's own client does
(SciScript-Python, ``CasJobs.py``): PUT of a job answers its number, a job's status is a number from 0 to 5, a query
with ``Accept: text/plain`` answers CSV, a token comes in the header X-Subject-Token of the login.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import duckdb
import numpy as np
import pyarrow as pa
import sqlglot

ROWS = 100
FIRST = 9_300_000_000_000_000_000  # beyond a signed number of 64 bits, as the identifiers of eBOSS are
SPECTRA = f"""
CREATE TABLE SpecObj AS SELECT CAST({FIRST} AS UBIGINT) + i AS specObjID, i AS bestObjID, i * 0.1 AS ra,
  i * 0.01 AS dec, i * 0.05 AS z, 0.001 AS zErr, CASE WHEN i % 10 = 9 THEN 4 ELSE 0 END AS zWarning,
  CASE WHEN i % 2 = 0 THEN 'QSO' ELSE 'GALAXY' END AS "class", 'BROADLINE' AS subClass, 'eboss' AS survey
  FROM range({ROWS}) AS t(i);
CREATE TABLE PhotoObj AS SELECT i AS objID, 20.0 AS modelMag_u, 20.0 AS modelMag_g, 15 + i * 0.1 AS modelMag_r,
  20.0 AS modelMag_i, 20.0 AS modelMag_z FROM range({ROWS}) AS t(i);
CREATE MACRO fDistanceArcMinEq(ra1, dec1, ra2, dec2) AS 60 * sqrt((ra1 - ra2) ** 2 + (dec1 - dec2) ** 2);
"""


class SdssServer(ThreadingHTTPServer):
    """Answers in the manner it is told to, from its request number `well_for` on."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.database = duckdb.connect()
        self.database.execute(SPECTRA)
        self.manner, self.well_for, self.most = "well", 0, 500_000
        self.queries: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.tables: dict[str, str] = {}  # of MyDB, by the number of the job that writes it
        self.polls: list[str] = []
        self.failed: set[str] = set()

    def hold(self, ra: np.ndarray, dec: np.ndarray, z: np.ndarray) -> None:
        """Hold spectra of other sources, all of them quasars without a warning."""
        sources = pa.table({"bestObjID": np.arange(len(ra)), "ra": ra, "dec": dec, "z": z})
        self.database.register("sources", sources)
        self.database.execute(f"""
            CREATE OR REPLACE TABLE SpecObj AS SELECT CAST({FIRST} AS UBIGINT) + bestObjID AS specObjID, *,
              0.001 AS zErr, 0 AS zWarning, 'QSO' AS "class", 'BROADLINE' AS subClass, 'eboss' AS survey
            FROM sources""")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def csv(self, sql: str) -> str:
        """Run T-SQL and return what it gives as CSV."""
        sql = sql.replace("dbo.", "").replace("mydb.", "")
        found = self.database.cursor().execute(sqlglot.transpile(sql, read="tsql", write="duckdb")[0])
        names = [column[0] for column in found.description]
        rows = found.fetchmany(self.most)
        return "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)]) + "\n"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SdssServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path.endswith("/en/tools/search/x_results.aspx"):
            self.sky(parse_qs(parts.query)["cmd"][0])
        else:
            job = parts.path.rpartition("/")[2]
            self.server.polls.append(job)
            status = 1 if self.server.polls.count(job) < 2 or self.server.manner == "never ends" else 5
            status = 4 if self.server.manner == "job fails" or job in self.server.failed else status
            self.send(200, json.dumps({"JobID": job, "Status": status, "Message": "Query was cancelled by its limit"}))

    def sky(self, sql: str) -> None:
        self.server.queries.append(sql)
        try:
            text = "#Table1\n" + self.server.csv(sql)
        except duckdb.Error as error:
            said = {"ErrorCode": 400, "ErrorType": "Bad Request", "ErrorMessage": str(error)}
            return self.send(400, json.dumps(said), "application/json")
        manner = self.server.manner if len(self.server.queries) > self.server.well_for else "well"
        match manner:
            case "hang":
                time.sleep(3.0)
            case "html":
                text = "<html><head><title>SkyServer</title></head><body>Down for maintenance</body></html>"
            case "cut":
                text = text[:-7]
            case "again":
                text = "#Table1\n" + self.server.csv(re.sub(r"AND s.specObjID > \d+", "", sql))
            case "more":
                text = "#Table1\n" + self.server.csv(re.sub(r"TOP \d+", "TOP 99", sql))
            case "wrong columns":
                text = text.replace(",ra,", ",alpha,")
            case "error with 200":
                text = json.dumps([{"error_message": "Maximum 60 queries allowed per minute"}])
            case "ragged":
                text = text.rstrip("\n") + ",1,2,3\n"
            case _:
                pass
        return self.send(200, text, half=manner == "half", code=503 if manner == "busy" else 200)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "auth" in body:
            user = body["auth"]["identity"]["password"]["user"]
            if (user["name"], user["password"]) != ("hubble", "redshift"):
                return self.send(401, json.dumps({"error": "Unauthorized"}))
            return self.send(201, "{}", token="a-token")
        self.server.headers.append(dict(self.headers))
        sql = body["Query"]
        self.server.queries.append(sql)
        if sql.startswith("DROP"):
            if self.server.manner == "keeps tables":
                return self.send(409, "The table is locked")
            self.server.tables = {job: name for job, name in self.server.tables.items() if name != sql.split()[-1]}
        return self.send(200, self.server.csv(sql))

    def do_PUT(self) -> None:
        sql = json.loads(self.rfile.read(int(self.headers["content-length"])))["Query"]
        self.server.queries.append(sql)
        name = re.search(r" INTO mydb\.(\w+) ", sql)
        assert name is not None
        plain = sqlglot.transpile(sql.replace(name[0], " ").replace("dbo.", ""), read="tsql", write="duckdb")[0]
        self.server.database.cursor().execute(f"CREATE TABLE {name[1]} AS {plain}")
        job = str(7 + len(self.server.polls))
        self.server.tables[job] = name[1]
        self.send(200, job)

    def do_DELETE(self) -> None:
        self.send(200, "")

    def send(
        self, status: int, text: str, kind: str = "text/plain", *, half: bool = False, code: int = 200, token: str = ""
    ) -> None:
        content = text.encode()
        self.send_response(status if code == 200 else code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if token:
            self.send_header("X-Subject-Token", token)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(content[: len(content) // 2] if half else content)
        self.close_connection = self.close_connection or half
