"""TAP as its clients see it: pyvo, astroquery, STILTS and plain HTTP, against a running server."""

import gc
import io
import json
import shutil
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pyvo
import uvicorn
from astropy.io.votable import parse
from astropy.table import Table
from pyvo.utils.http import create_session

from inzitu.manifest import Manifest
from inzitu.web.app import create_app
from inzitu.web.deployment import Deployment
from tables.sample import ROWS, predictions
from vo.schemas import complaints

QUASARS = predictions()
CONE = "SELECT source_id, ra, dec FROM predictions.quasars WHERE 1 = CONTAINS(POINT(ra, dec), CIRCLE(120, 40, 9))"
THREE = ", ".join(f"predictions.quasars AS {name}" for name in "abc")
ENDLESS = f"SELECT COUNT(*) FROM {THREE} WHERE SIN(a.ra * b.ra * c.ra) > 2"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Deployment]]:
    """A server with one published table and one catalogue, and its parts."""
    folder = tmp_path_factory.mktemp("deployment")
    pq.write_table(pa.table({"objID": [1, 2], "ra": [10.0, 11.0], "dec": [1.0, 2.0]}), folder / "catalogue.parquet")
    pq.write_table(QUASARS, folder / "predictions.parquet", row_group_size=100)
    archive = {"surveys": [{"band": "r", "hips": "hips"}], "catalogue": {"path": str(folder / "catalogue.parquet")}}
    limits = {"query_seconds": 3, "maxrec": 2000, "upload_bytes": 2_000_000}
    app = create_app(Manifest.model_validate({"state": folder / "state", "archive": archive, "limits": limits}))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    parts: Deployment = app.state.deployment
    artefact, _ = parts.store.adopt(folder / "predictions.parquet")
    with parts.engine.begin() as connection:
        parts.published.publish(connection, name="quasars", artefact=artefact, job=None, description="Quasars")
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", parts
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture(scope="module")
def http(deployment: tuple[str, Deployment]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{deployment[0]}/tap", timeout=30) as client:
        yield client


@pytest.fixture
def service(deployment: tuple[str, Deployment]) -> Iterator[pyvo.dal.TAPService]:
    with create_session() as session:
        yield pyvo.dal.TAPService(f"{deployment[0]}/tap", session=session)
    collect_connections()


def collect_connections() -> None:
    """Collect the connections that a client has left open, with the warning that each of them gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def sync(http: httpx.Client, query: str, **parameters: Any) -> httpx.Response:
    return http.post("/sync", data={"LANG": "ADQL", "QUERY": query, **parameters})


def status(response: httpx.Response) -> tuple[str, str]:
    """Return the QUERY_STATUS of a VOTable and its text."""
    infos = parse(io.BytesIO(response.content)).resources[0].infos
    last = [info for info in infos if info.name == "QUERY_STATUS"][-1]
    return last.value, last.content


def test_pyvo_asks_at_once_and_later(service: pyvo.dal.TAPService) -> None:
    at_once = service.run_sync(CONE).to_table()
    later = service.run_async(CONE).to_table()
    assert 0 < len(at_once) < ROWS
    assert sorted(at_once["source_id"]) == sorted(later["source_id"])
    assert str(at_once["ra"].unit) == "deg"


def test_pyvo_sends_a_table_and_joins_it_by_position(service: pyvo.dal.TAPService) -> None:
    mine = Table({"id": [1, 2, 3], "ra": QUASARS["ra"].to_numpy()[:3], "dec": QUASARS["dec"].to_numpy()[:3]})
    query = (
        "SELECT m.id, q.source_id, DISTANCE(m.ra, m.dec, q.ra, q.dec) AS d FROM TAP_UPLOAD.mine AS m "
        "JOIN predictions.quasars AS q ON DISTANCE(m.ra, m.dec, q.ra, q.dec) < 1e-5 ORDER BY m.id"
    )
    for run in (service.run_sync, service.run_async):
        found = run(query, uploads={"mine": mine}).to_table()
        assert list(found["id"]) == [1, 2, 3]
        assert list(found["source_id"]) == QUASARS["source_id"].to_pylist()[:3]


def test_pyvo_gets_pdfs_as_arrays_and_asks_about_them(service: pyvo.dal.TAPService) -> None:
    found = service.run_sync(
        "SELECT weights, pz_cdf(weights, means, sigmas, 99) AS one, pz_quantile(weights, means, sigmas, 0.5) AS median "
        "FROM predictions.quasars WHERE source_id = 's1'"
    ).to_table()
    assert found["weights"].shape == (1, 5)
    assert found["one"][0] == pytest.approx(1, abs=1e-6)
    assert 0 < found["median"][0] < 6


def test_pyvo_reads_what_the_service_says_of_itself(service: pyvo.dal.TAPService) -> None:
    assert {"archive.catalogue", "predictions.quasars", "tap_schema.columns"} <= set(service.tables.keys())
    column = next(c for c in service.tables["predictions.quasars"].columns if c.name == "ra")
    assert (column.unit, column.ucd, column.datatype.content) == ("deg", "pos.eq.ra;meta.main", "double")
    assert (service.maxrec, service.hardlimit) == (2000, 10_000_000)
    adql = service.get_tap_capability().get_adql()
    assert adql.get_udf("pz_crps").form.startswith("pz_crps(weights ARRAY, ")
    assert adql.get_feature("ivo://ivoa.net/std/TAPRegExt#features-adql-unit", "IN_UNIT")
    assert len(service.examples) >= 3
    for example in service.examples:
        example.execute()


def test_too_many_rows_are_told_to_pyvo(service: pyvo.dal.TAPService) -> None:
    with pytest.warns(pyvo.dal.exceptions.DALOverflowWarning):
        assert len(service.run_sync("SELECT ra FROM predictions.quasars")) == 2000


# TapPlus drops its connections open. Its load_tables wants an attribute of ESA's own services, which the schema of
# VODataService does not allow.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_astroquery_s_tapplus_asks_at_once_and_later(deployment: tuple[str, Deployment]) -> None:
    from astroquery.utils.tap.core import TapPlus

    client = TapPlus(url=f"{deployment[0]}/tap", verbose=False)
    assert len(client.launch_job(CONE).get_results()) == len(client.launch_job_async(CONE).get_results()) > 0
    del client
    collect_connections()


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("votable", "application/x-votable+xml"),
        ("votable/td", "application/x-votable+xml;serialization=tabledata"),
        ("csv", "text/csv"),
        ("tsv", "text/tab-separated-values"),
        ("json", "application/json"),
        ("fits", "application/fits"),
        ("parquet", "application/vnd.apache.parquet"),
    ],
)
def test_rows_come_in_every_format(http: httpx.Client, name: str, media_type: str) -> None:
    response = sync(http, "SELECT TOP 3 source_id, weights FROM predictions.quasars ORDER BY source_id", FORMAT=name)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(media_type)
    body = io.BytesIO(response.content)
    match name:
        case "votable" | "votable/td":
            ids = list(parse(body).get_first_table().array["source_id"])
        case "csv":
            ids = list(Table.read(response.text, format="ascii.csv")["source_id"])
        case "tsv":
            ids = list(Table.read(response.text, format="ascii.tab")["source_id"])
        case "json":
            ids = [row[0] for row in json.loads(response.content)["data"]]
        case "fits":
            ids = list(Table.read(body, format="fits")["source_id"])
        case _:
            ids = pq.read_table(body)["source_id"].to_pylist()
    assert ids == ["s0", "s1", "s10"]


def test_parameters_have_no_case_and_most_may_be_left_out(http: httpx.Client) -> None:
    query = "SELECT COUNT(*) AS n FROM predictions.quasars"
    for parameters in (
        {"query": query, "lang": "adql-2.1"},
        {"Query": query, "request": "doQuery", "LANG": "ADQL-2.0"},
    ):
        response = http.get("/sync", params={**parameters, "ResponseFormat": "csv"})
        assert response.text == f"n\r\n{ROWS}\r\n"


def test_maxrec_0_gives_the_columns_alone(http: httpx.Client) -> None:
    response = sync(http, "SELECT ra, dec FROM predictions.quasars", MAXREC=0)
    table = parse(io.BytesIO(response.content)).get_first_table()
    assert [field.name for field in table.fields] == ["ra", "dec"]
    assert len(table.array) == 0
    assert status(response)[0] == "OVERFLOW"


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "QUERY is missing"),
        ({"QUERY": "SELECT foo FROM predictions.quasars"}, "UsageError: Line 1, column 8: no column foo"),
        ({"QUERY": "SELECT 1 AS a", "LANG": "SQL"}, "LANG=SQL is not offered"),
        ({"QUERY": "SELECT 1 AS a", "REQUEST": "getCapabilities"}, "REQUEST=getCapabilities is not offered"),
        ({"QUERY": "SELECT 1 AS a", "FORMAT": "xlsx"}, "RESPONSEFORMAT=xlsx is not offered"),
        ({"QUERY": "SELECT 1 AS a", "MAXREC": "-1"}, "MAXREC"),
        ({"QUERY": "SELECT 1 AS a", "MAXREC": "many"}, "MAXREC"),
        ({"QUERY": "SELECT 1 AS a", "UPLOAD": "mine"}, "UPLOAD"),
        ({"QUERY": "SELECT 1 AS a", "UPLOAD": "mine,param:a"}, "the form has no file"),
        ({"QUERY": "SELECT 1 AS a", "UPLOAD": "mine,http://127.0.0.1/t.vot"}, "leads to a private net"),
        ({"QUERY": "SELECT CAST(source_id AS INTEGER) FROM quasars"}, "cannot be run: Could not convert"),
        ({"QUERY": ENDLESS}, "LimitExceeded: The query was stopped after 3 s, the limit here"),
    ],
)  # fmt: skip
def test_a_fault_is_a_votable_with_its_message(http: httpx.Client, parameters: dict[str, str], said: str) -> None:
    response = http.post("/sync", data=parameters)
    assert response.status_code in (400, 413)
    assert response.headers["content-type"].startswith("application/x-votable+xml")
    value, text = status(response)
    assert value == "ERROR"
    assert said in text


@pytest.mark.parametrize(("name", "content"), [("t.csv", b"id,ra\n1,2.5\n"), ("t.vot", None), ("t.parquet", None)])
def test_an_upload_may_be_csv_votable_or_parquet(http: httpx.Client, name: str, content: bytes | None) -> None:
    if content is None:
        form = "votable" if name.endswith("vot") else "parquet"
        content = sync(http, "SELECT 1 AS id, 2.5 AS ra FROM archive.catalogue WHERE objID = 1", FORMAT=form).content
    response = http.post(
        "/sync",
        data={"QUERY": "SELECT id, ra FROM TAP_UPLOAD.mine", "UPLOAD": "mine,param:file", "FORMAT": "csv"},
        files={"file": (name, content)},
    )
    assert response.text == "id,ra\r\n1,2.5\r\n"


def test_an_upload_that_is_no_table_is_refused(http: httpx.Client) -> None:
    data = {"QUERY": "SELECT id FROM TAP_UPLOAD.mine", "UPLOAD": "mine,param:file"}
    for content, said in (
        (b"", "is empty"),
        (b"<html></html>", "no VOTable"),
        (b"x" * 3_000_000, "larger than 2000000 bytes"),
    ):
        response = http.post("/sync", data=data, files={"file": ("t", content)})
        assert status(response)[0] == "ERROR"
        assert said in status(response)[1]


def test_nothing_of_an_upload_is_left_behind(http: httpx.Client, deployment: tuple[str, Deployment]) -> None:
    assert not list(deployment[1].manifest.state.glob("uploads/sync-*"))


def test_an_aborted_query_stops_soon(service: pyvo.dal.TAPService, deployment: tuple[str, Deployment]) -> None:
    job = service.submit_job(ENDLESS)
    job.run()
    began = time.monotonic()
    while job.phase != "EXECUTING":
        assert time.monotonic() - began < 20
        time.sleep(0.05)
    began = time.monotonic()
    job.abort()
    queries = deployment[1].queries
    while queries.running:
        assert time.monotonic() - began < 20
        time.sleep(0.02)
    assert job.phase == "ABORTED"
    job.delete()


def test_a_late_fault_of_a_job_is_told(service: pyvo.dal.TAPService) -> None:
    job = service.submit_job("SELECT foo FROM predictions.quasars")
    job.run().wait(phases=["ERROR", "COMPLETED"], timeout=10)
    with pytest.raises(pyvo.dal.exceptions.DALQueryError, match="no column foo"):
        job.raise_if_error()
    job.delete()


@pytest.mark.parametrize(
    "path", ["capabilities", "availability", "tables", "tables?detail=min", "tables/predictions.quasars"]
)
def test_documents_follow_their_schemas(http: httpx.Client, path: str) -> None:
    response = http.get(f"/{path}")
    assert response.headers["content-type"].startswith("text/xml")
    assert complaints(response.content) == []


def test_what_is_not_offered_is_not_there(http: httpx.Client) -> None:
    assert http.get("/tables/predictions.none").status_code == 404
    assert http.get("/tables", params={"detail": "some"}).status_code == 400


def test_taplint_finds_no_error(deployment: tuple[str, Deployment]) -> None:
    if shutil.which("stilts") is None:
        pytest.skip("stilts is not installed: apt-get install stilts")
    stages = "TMV TMS TMC CPV CAP AVV QGE QPO QAS UWS MDQ UPL EXA"
    command = ["stilts", "taplint", f"tapurl={deployment[0]}/tap", f"stages={stages}", "report=EF"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "Errors: 0;" in run.stdout, run.stdout + run.stderr
