"""UWS as a plain HTTP client sees it."""

import io
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx
import pytest
from pyvo.io.uws import parse_job

from inzitu.jobs.job import Progress, Result
from inzitu.jobs.phases import Phase
from inzitu.manifest import Manifest
from inzitu.prov.facts import Agent, AgentKind
from inzitu.web.checks import require_columns
from vo.schemas import complaints
from web.conftest import ASKED, LISTS, Server, until

UWS = "{http://www.ivoa.net/xml/UWS/v1.0}"


def test_a_job_is_created_looked_at_run_and_its_lists_are_on_disk(server: Server) -> None:
    url = server.create(RUNID="mine")
    job = server.job(url)
    assert job.phase is Phase.PENDING
    assert [upload.name for upload in job.uploads] == ["training", "targets"]
    state = server.deployment.manifest.state
    assert [(state / upload.path).read_bytes() for upload in job.uploads] == [LISTS["a"][1], LISTS["b"][1]]
    assert [upload.size for upload in job.uploads] == [len(LISTS["a"][1]), len(LISTS["b"][1])]
    document = parse_job(io.BytesIO(server.http.get(url).content))
    assert (document.phase, document.runid) == ("PENDING", "mine")
    assert [(p.id_, p.content) for p in document.parameters] == list(job.parameters)
    run = server.http.post(f"{url}/phase", data={"PHASE": "RUN"})
    assert (run.status_code, run.headers["location"]) == (303, url)
    assert server.http.get(f"{url}/phase").text == "QUEUED"


def test_every_resource_of_a_job_says_its_part(server: Server) -> None:
    url = server.create(PHASE="RUN")
    claim = server.claim()
    get = server.http.get
    assert get(f"{url}/executionduration").text == "600"
    assert get(f"{url}/quote").text == ""
    assert get(f"{url}/owner").text == ""
    assert abs(datetime.fromisoformat(get(f"{url}/destruction").text) - datetime.now(UTC)) < timedelta(days=2.1)
    assert get(f"{url}/error").status_code == 404
    assert "PIPELINE" in get(f"{url}/parameters").text
    assert ET.fromstring(get(f"{url}/results").content).tag == f"{UWS}results"
    store = server.deployment.jobs.store
    store.progress(claim.job.id, 1, Progress(step="train", done=1, total=4, seconds_left=90, info={"loss": 0.5}))
    store.log(claim.job.id, 1, "epoch 1")
    store.account(claim.job.id, 1, {"bytes_read": 1234567})
    info = ET.fromstring(get(url).content).find(f"{UWS}jobInfo")
    assert info is not None
    assert [info.findtext(name) for name in ("progress", "step", "secondsLeft")] == ["25", "train", "90.0"]
    assert {item.get("name"): item.text for item in info.findall("info")} == {"loss": "0.5", "bytes_read": "1234567"}
    assert get(f"{url}/log").text.endswith("Z epoch 1\n")
    assert get(f"{url}/log?AFTER=1").text == ""
    store.fail(claim.job.id, 1, "UsageError", "row 3 has no \x01 position")
    assert get(f"{url}/error").text == "UsageError: row 3 has no \x01 position\n"
    assert complaints(get(url).content) == []


def test_a_complete_job_shows_no_step_that_is_half_done(server: Server) -> None:
    url = server.create(PHASE="RUN")
    claim, store = server.claim(), server.deployment.jobs.store
    store.progress(claim.job.id, 1, Progress(step="predict", done=47, total=50, seconds_left=1.0))
    store.finish(claim.job.id, 1, [])
    info = ET.fromstring(server.http.get(url).content).find(f"{UWS}jobInfo")
    assert info is not None
    assert [info.findtext(name) for name in ("progress", "step", "secondsLeft")] == ["100", None, None]


def test_progress_of_a_waiting_job_is_its_place_in_the_queue(server: Server) -> None:
    server.create(PHASE="RUN")
    url = server.create(PHASE="RUN")
    info = ET.fromstring(server.http.get(url).content).find(f"{UWS}jobInfo")
    assert info is not None
    assert info.findtext("queued") == "1"


def test_a_job_runs_once(server: Server) -> None:
    url = server.create(PHASE="RUN")
    server.complete()
    again = server.http.post(f"{url}/phase", data={"PHASE": "RUN"})
    assert again.status_code == 400
    assert again.text.startswith("UsageError: A job that is COMPLETED cannot run. A job runs once: create a new one")


def test_an_aborted_job_stays_aborted_and_is_deleted_either_way(server: Server) -> None:
    state = server.deployment.manifest.state
    for method, data in (("DELETE", None), ("POST", {"ACTION": "DELETE"})):
        url = server.create(PHASE="RUN")
        assert server.http.post(f"{url}/phase", data={"PHASE": "ABORT"}).status_code == 303
        assert server.http.get(f"{url}/phase").text == "ABORTED"
        folder = state / "uploads" / server.job(url).id
        assert folder.is_dir()
        gone = server.http.request(method, url, data=data)
        assert (gone.status_code, gone.headers["location"]) == (303, f"{server.url}/jobs")
        assert server.http.get(url).status_code == 404
        assert not folder.exists()


def test_what_exceeds_a_limit_is_brought_down_to_it_and_shown(server: Server) -> None:
    url = server.create()
    server.http.post(f"{url}/executionduration", data={"EXECUTIONDURATION": "1000000"})
    assert server.http.get(f"{url}/executionduration").text == "600"
    server.http.post(f"{url}/executionduration", data={"executionduration": "20"})
    assert server.http.get(f"{url}/executionduration").text == "20"
    server.http.post(f"{url}/destruction", data={"DESTRUCTION": "2126-01-01T00:00:00Z"})
    assert datetime.fromisoformat(server.http.get(f"{url}/destruction").text) < datetime.now(UTC) + timedelta(days=2.1)


def test_parameters_of_a_pending_job_can_be_replaced(server: Server) -> None:
    url = server.create(SEED="1")
    server.http.post(
        f"{url}/parameters", data={"seed": "2", "UPLOAD": "targets,param:c", "RunId": "second"}, files={"c": LISTS["b"]}
    )
    job = server.job(url)
    assert (job.parameter("SEED"), job.run_id) == ("2", "second")
    assert [upload.uri for upload in job.uploads] == ["param:a", "param:c"]
    assert [value for name, value in job.parameters if name == "UPLOAD"] == ["training,param:a", "targets,param:c"]
    server.http.post(f"{url}/phase", data={"PHASE": "RUN"})
    late = server.http.post(f"{url}/parameters", data={"SEED": "3"})
    assert (late.status_code, "only a PENDING job can be changed" in late.text) == (400, True)


def test_the_list_is_filtered(server: Server) -> None:
    urls = [server.create() for _ in range(3)]
    server.http.post(f"{urls[0]}/phase", data={"PHASE": "RUN"})

    def listed(query: str) -> list[str]:
        root = ET.fromstring(server.http.get(f"/jobs{query}").content)
        return [ref.get("{http://www.w3.org/1999/xlink}href", "") for ref in root]

    assert listed("") == urls[::-1]
    assert listed("?LAST=1") == [urls[2]]
    assert listed("?PHASE=QUEUED&PHASE=ERROR") == [urls[0]]
    assert listed("?phase=PENDING&last=1") == [urls[2]]
    created = server.job(urls[1]).created.isoformat().removesuffix("+00:00")
    assert listed(f"?AFTER={created}Z") == [urls[2]]
    assert server.http.get("/jobs?PHASE=SLEEPING").status_code == 400


def test_wait_returns_when_the_phase_changes(server: Server) -> None:
    url = server.create(PHASE="RUN")
    began = time.monotonic()
    threading.Timer(0.5, lambda: server.http.post(f"{url}/phase", data={"PHASE": "ABORT"})).start()
    answer = httpx.get(f"{url}?WAIT=-1", timeout=20)
    assert "ABORTED" in answer.text
    assert time.monotonic() - began > 0.4


def test_wait_ends_with_its_time_and_at_once_where_nothing_will_change(server: Server) -> None:
    url = server.create()

    def seconds(query: str) -> float:
        began = time.monotonic()
        assert server.http.get(url + query).status_code == 200
        return time.monotonic() - began

    assert 0.9 < seconds("?WAIT=1") < 2.9
    assert seconds("?WAIT=10&PHASE=QUEUED") < 2.9, "the client has seen another phase"
    assert 2.9 < seconds("?WAIT=3600") < 20, "the deployment allows 3 s"
    server.http.post(f"{url}/phase", data={"PHASE": "ABORT"})
    assert seconds("?WAIT=10") < 2.9


def test_a_hundred_waiting_clients_block_no_poll(server: Server) -> None:
    url = server.create(PHASE="RUN")
    clients = [threading.Thread(target=httpx.get, args=(f"{url}?WAIT=-1",), kwargs={"timeout": 30}) for _ in range(100)]
    for client in clients:
        client.start()
    time.sleep(0.5)
    times = []
    for _ in range(20):
        began = time.monotonic()
        assert server.http.get(f"{url}/phase").text == "QUEUED"
        times.append(time.monotonic() - began)
    server.http.post(f"{url}/phase", data={"PHASE": "ABORT"})
    for client in clients:
        client.join(timeout=10)
        assert not client.is_alive()
    assert sorted(times)[10] < 2, times


def test_results_are_streamed_counted_and_point_to_their_record(server: Server) -> None:
    deployment = server.deployment
    picture = deployment.manifest.state / "picture.png"
    picture.write_bytes(b"not really" * 1000)
    artefact, size = deployment.store.adopt(picture)
    url = server.create(PHASE="RUN")
    id = url.rsplit("/", 1)[1]
    server.complete(
        Result(id="picture", reference=artefact, media_type="image/png", size=size),
        Result(id="lost", reference="0" * 64),
        Result(id="log", reference=f"/jobs/{id}/log", media_type="text/plain"),
    )
    document = parse_job(io.BytesIO(server.http.get(url).content))
    hrefs = {result.id_: result.href for result in document.results}
    answer = server.http.get(hrefs["picture"])
    assert answer.content == b"not really" * 1000
    assert answer.headers["content-type"] == "image/png"
    link = answer.headers["link"]
    assert link == f'<{server.url}/provenance?ID={artefact}>; rel="http://www.w3.org/ns/prov#has_provenance"'
    headed = server.http.head(hrefs["picture"])  # sends no byte, so none is counted
    assert (headed.status_code, headed.headers["link"], headed.content) == (200, link, b"")
    part = server.http.get(hrefs["picture"], headers={"range": "bytes=0-99"})
    assert (part.status_code, len(part.content)) == (206, 100)
    until(lambda: server.job(url).accounts.get("bytes_sent") == size + 100)
    assert server.http.get(hrefs["lost"]).status_code == 410
    log = server.http.get(hrefs["log"])
    assert (log.status_code, log.headers["location"]) == (303, f"{url}/log")
    missing = server.http.get(f"{url}/results/nothing")
    assert missing.status_code == 404
    assert "it has picture, lost, log" in missing.text


def test_an_archived_job_keeps_its_metadata_and_says_where_its_results_went(server: Server) -> None:
    deployment = server.deployment
    file = deployment.manifest.state / "x"
    file.write_bytes(b"1")
    artefact, size = deployment.store.adopt(file)
    url = server.create(PHASE="RUN", DESTRUCTION="2000-01-01T00:00:00Z")
    server.complete(Result(id="x", reference=artefact, size=size))
    assert deployment.jobs.sweep() == 1
    assert deployment.jobs.sweep() == 0
    assert server.http.get(f"{url}/phase").text == "ARCHIVED"
    assert "train-predict" in server.http.get(url).text
    gone = server.http.get(f"{url}/results/x")
    assert gone.status_code == 410
    assert "its record is still at /provenance" in gone.text
    assert not deployment.jobs.uploads_folder(server.job(url).id).exists()
    listed = server.http.get("/jobs").text
    assert url not in listed
    assert url in server.http.get("/jobs?PHASE=ARCHIVED").text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"PIPELINE": "train-predikt", "PHASE": "RUN"}, "PIPELINE=train-predikt is unknown"),
        ({"PHASE": "RUN"}, "PIPELINE is missing"),
        ({"PIPELINE": "train-predict", "PHASE": "ABORT"}, "PHASE=ABORT cannot be asked of a new job"),
        ({"PIPELINE": "train-predict", "PHASE": "RUN"}, "needs the table"),
        ({"PIPELINE": "train-predict", "UPLOAD": "training,param:a"}, "the form has no file 'a'"),
        ({"PIPELINE": "a\x00b"}, "holds control characters"),
        ({"PIPELINE": "train-predict", "DESTRUCTION": "soon"}, "DESTRUCTION='soon' is no moment"),
    ],
)
def test_a_wrong_request_creates_no_job_and_is_told_what_is_wrong(
    server: Server, data: dict[str, str], message: str
) -> None:
    answer = server.http.post("/jobs", data=data)
    assert answer.status_code == 400
    assert answer.text.startswith("UsageError: ")
    assert message in answer.text
    assert "jobref" not in server.http.get("/jobs").text


def test_a_scalar_that_a_list_lacks_is_told_before_the_job_queues(server: Server) -> None:
    for scalars, lacking in (
        ("Dec, ebv", "ebv beside each stamp (SCALARS), which is no column of the training"),
        ("z", "z beside each stamp (SCALARS), which is no column of the targets list (id, ra, dec)"),
    ):
        url = server.create(SCALARS=scalars)
        refused = server.http.post(f"{url}/phase", data={"PHASE": "RUN"})
        assert (refused.status_code, f"The network sees {lacking}" in refused.text) == (400, True), refused.text
        assert server.http.get(f"{url}/error").text == refused.text
    assert "targets list (id, ra, dec)" in refused.text
    assert "no magnitude of the catalogue (it has none)" in refused.text
    server.create(SCALARS="DEC", PHASE="RUN")


def test_a_number_that_a_model_sees_and_the_list_lacks_is_told_before_the_job_queues(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text('{"recipe": {"scalars": ["ebv"]}}')
    somebody = Agent("a", "somebody", AgentKind.PERSON)
    model = server.deployment.recorder.admit(
        tmp_path / "model", kind="model", media_type="inode/directory", name="model", agent=somebody
    )
    asked = {"PIPELINE": "predict-pretrained", "UPLOAD": "targets,param:b", "MODEL": model.id, "PHASE": "RUN"}
    refused = server.http.post("/jobs", data=asked, files={"b": LISTS["b"]})
    assert refused.status_code == 400
    assert "sees ebv beside each stamp (SCALARS), which is no column of the targets list (id, ra, dec)" in refused.text
    extinct = ("b.csv", b"id,ra,dec,EBV\nq3,10.5,1.5,0.02\n", "text/csv")
    assert server.http.post("/jobs", data=asked, files={"b": extinct}).status_code == 303


def test_a_scalar_may_be_a_magnitude_of_the_catalogue(manifest_path: Path) -> None:
    manifest_path.write_text(manifest_path.read_text().replace("parquet}", "parquet, magnitudes: [r]}"))
    manifest = Manifest.load(manifest_path)
    places = {"the training list": (manifest_path,)}  # of which it is no column, nor is it looked for in it
    require_columns(("mag_r",), places, manifest, said="SCALARS names {}")


def test_a_file_beyond_the_limit_is_refused_and_leaves_nothing(server: Server) -> None:
    answer = server.http.post("/jobs", data=ASKED, files=LISTS | {"a": ("a.csv", b"x" * 100_001, "text/csv")})
    assert answer.status_code == 413
    assert answer.text.startswith("LimitExceeded: The file 'a' is larger than 100000 bytes, the limit")
    uploads = server.deployment.manifest.state / "uploads"
    assert not uploads.exists() or not list(uploads.iterdir())


def test_files_that_belong_to_no_table_and_broken_bodies_are_refused(server: Server) -> None:
    orphan = server.http.post("/jobs", data={"PIPELINE": "train-predict"}, files={"x": LISTS["a"]})
    assert (orphan.status_code, "say which with UPLOAD=NAME,param:x" in orphan.text) == (400, True)
    for body, kind in (
        (b"--b\r\nContent-Disposition: form-data; name=A\r\n\r\n1", "multipart/form-data; boundary=b"),
        (b"nothing", "multipart/form-data; boundary=b"),
        (b"--b", "multipart/form-data"),
        (b"{}", "application/json"),
    ):
        answer = server.http.post("/jobs", content=body, headers={"content-type": kind})
        assert (answer.status_code, answer.text[:12]) == (400, "UsageError: "), (body, kind, answer.text)


@pytest.mark.parametrize(
    ("given", "called"),
    [
        ("my list.csv", "my_list.csv"),
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\.hidden", "hidden"),
        ("..", "file"),
        ("x" * 300 + ".vot", "x" * 96 + ".vot"),
    ],
)
def test_a_list_is_called_by_its_role_and_the_name_of_its_file_which_leads_nowhere_else(
    server: Server, given: str, called: str
) -> None:
    files = LISTS | {"a": (given, b"", "text/csv")}
    answer = server.http.post("/jobs", data=ASKED | {"PHASE": "RUN"}, files=files)
    assert answer.status_code == 400
    assert answer.text.startswith(f"UsageError: The training list: {called} is empty; ")
    uploads = server.deployment.manifest.state / "uploads"
    server.http.post("/jobs", data=ASKED, files=files)
    assert [path.name for path in uploads.rglob("*") if path.is_file() and not path.stat().st_size] == [called]


def test_the_parts_of_a_body_may_be_cut_anywhere(server: Server) -> None:
    request = httpx.Request("POST", server.url, data=ASKED, files=LISTS)
    body = request.read()

    def bytewise() -> "list[bytes]":
        return [body[n : n + 1] for n in range(len(body))]

    headers = {"content-type": request.headers["content-type"]}
    answer = server.http.post("/jobs", content=iter(bytewise()), headers=headers)
    assert answer.status_code == 303, answer.text
    state = server.deployment.manifest.state
    job = server.job(answer.headers["location"])
    assert [(state / upload.path).read_bytes() for upload in job.uploads] == [LISTS["a"][1], LISTS["b"][1]]


def test_jobs_of_another_service_are_not_found_here(server: Server) -> None:
    query = server.deployment.tap_jobs.create([("QUERY", "SELECT 1")])
    assert server.http.get(f"/jobs/{query.id}").status_code == 404
    assert server.http.get(f"/tap/async/{query.id}/phase").text == "PENDING"
