"""The app as a whole: faults, what survives a kill, and what is never loaded."""

import gc
import json
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import pyvo
import requests
from pyvo.dal.exceptions import DALQueryError

from web.conftest import ASKED, LISTS, Server, until

HTML = {"accept": "text/html,application/xhtml+xml"}


def test_a_fault_is_text_for_programs_a_page_for_browsers_and_a_votable_under_tap(server: Server) -> None:
    text = server.http.get("/jobs/nothing")
    assert (text.status_code, text.text) == (404, "NotFound: There is no job nothing; it may have been deleted.\n")
    assert text.headers["content-type"].startswith("text/plain")
    page = server.http.get("/jobs/nothing", headers=HTML)
    assert page.status_code == 404
    assert '<p class="fault" role="alert">There is no job nothing' in page.text
    votable = server.http.get("/tap/async/nothing")
    assert votable.status_code == 404
    assert 'name="QUERY_STATUS" value="ERROR"' in votable.text
    assert server.http.get("/nowhere").text.startswith("NotFound: There is nothing at this address")
    assert server.http.put("/jobs").status_code == 405


def test_head_is_answered_wherever_get_is(server: Server) -> None:
    url = server.create()
    for path in ("/", "/jobs", url, f"{url}/phase", "/pipelines", "/tap/capabilities", "/models", "/openapi.json"):
        got, headed = server.http.get(path), server.http.head(path)
        assert (headed.status_code, headed.content) == (200, b""), path
        assert headed.headers["content-type"] == got.headers["content-type"], path
    assert server.http.head("/jobs/nothing").status_code == 404
    assert server.http.head(f"{url}/run").status_code == 404


def test_what_nobody_foresaw_is_told_without_a_traceback_and_the_service_goes_on(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise KeyError("inside")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    store = type(server.deployment.jobs.store)
    with monkeypatch.context() as patch:
        patch.setattr(store, "select", explode)
        answer = server.http.get("/jobs")
        assert (answer.status_code, answer.text) == (500, "FatalFault: KeyError: 'inside'\n")
        patch.setattr(store, "select", full)
        answer = server.http.get("/jobs")
        assert answer.status_code == 507
        assert "free some space" in answer.text
    assert server.http.get("/jobs").status_code == 200


def test_a_browser_on_another_site_may_ask(server: Server) -> None:
    answer = server.http.get("/tap/availability", headers={"origin": "https://elsewhere.example"})
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.fixture
def service(server: Server) -> Iterator[pyvo.dal.TAPService]:
    with requests.Session() as session:
        yield pyvo.dal.TAPService(f"{server.url}/tap", session=session)
    with warnings.catch_warnings():
        # pyvo streams the error document and never closes it.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_pyvo_runs_an_asynchronous_query(server: Server, service: pyvo.dal.TAPService) -> None:
    job = service.submit_job("SELECT objID, ra FROM archive.catalogue ORDER BY objID", maxrec=10)
    assert job.phase == "PENDING"
    assert job.query.startswith("SELECT objID")
    job.execution_duration = 30
    assert server.http.get(f"{job.url}/executionduration").text == "30"
    job.run().wait(phases=["COMPLETED", "ERROR"], timeout=20)
    job.raise_if_error()
    assert job.fetch_result().to_table()["objID"].tolist() == [1, 2]
    assert [entry.jobid for entry in service.get_job_list()] == [job.job_id]
    job.delete()
    assert service.get_job_list() == []


def test_pyvo_tells_why_a_query_failed_and_aborts_one(service: pyvo.dal.TAPService) -> None:
    job = service.submit_job("SELECT nothing FROM archive.catalogue").run()
    job.wait(timeout=20)
    assert job.phase == "ERROR"
    with pytest.raises(DALQueryError, match="nothing"):
        job.raise_if_error()
    aborted = service.submit_job("SELECT ra FROM archive.catalogue").abort()
    assert aborted.phase == "ABORTED"


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


# The examination of a job would load JAX, which takes seconds.
SERVE = """
import sys, uvicorn
from inzitu.manifest import Manifest
from inzitu.web import checks
from inzitu.web.app import create_app
from inzitu.web.examiner import Examiner
checks.FEWEST_ROWS = 2
Examiner._asked = lambda *_: {"network": None}
uvicorn.run(create_app(Manifest.load(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


@pytest.fixture
def serve(manifest_path: Path, free_port: int) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Start the server as a process; it answers when this returns."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", SERVE, str(manifest_path), str(free_port)])
        started.append(process)

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", free_port)) == 0

        until(answers, seconds=60)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_jobs_outlive_a_kill_of_the_server(
    serve: Callable[[], subprocess.Popen[bytes]], free_port: int, manifest_path: Path
) -> None:
    process = serve()
    with httpx.Client(base_url=f"http://127.0.0.1:{free_port}", timeout=20) as http:
        job = http.post("/jobs", data=ASKED | {"PHASE": "RUN"}, files=LISTS).headers["location"]
        query = {"QUERY": "SELECT ra FROM archive.catalogue", "PHASE": "RUN", "FORMAT": "csv"}
        done = http.post("/tap/async", data=query).headers["location"]
        until(lambda: http.get(f"{done}/phase").text == "COMPLETED", seconds=20)
    process.send_signal(signal.SIGKILL)
    process.wait()
    serve()
    with httpx.Client(base_url=f"http://127.0.0.1:{free_port}", timeout=20) as http:
        assert http.get(f"{job}/phase").text == "QUEUED"
        id = job.rsplit("/", 1)[1]
        uploads = manifest_path.parent / "state/uploads" / id
        assert sorted(file.read_bytes() for file in uploads.glob("*/*")) == sorted(
            content for _, content, _ in LISTS.values()
        )
        assert http.get(f"{done}/results/result").text.splitlines() == ["ra", "10", "11"]


def test_the_web_process_never_loads_jax() -> None:
    code = "import sys, json, inzitu.web.app; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(run.stdout)}
    assert "fastapi" in loaded
    assert not loaded & {"jax", "jaxlib", "flax", "optax", "orbax"}


def test_polls_answer_while_a_worker_writes(server: Server) -> None:
    """A worker that reports without pause, as no worker does, slows no poll to more than a blink."""
    url = server.create(PHASE="RUN")
    claim = server.claim()
    code = (
        "import sys; from inzitu.jobs.database import open_engine; from inzitu.jobs.store import JobStore\n"
        "from inzitu.jobs.job import Progress\n"
        "store = JobStore(open_engine(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "while True: store.progress(sys.argv[2], 1, Progress(step='train', done=1, total=2))"
    )
    arguments = [sys.executable, "-c", code, server.deployment.manifest.database_url, claim.job.id]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        times = []
        for _ in range(40):
            began = time.monotonic()
            assert server.http.get(url).status_code == 200
            times.append(time.monotonic() - began)
        worker.kill()
    assert server.job(url).progress is not None
    assert sorted(times)[20] < 1, times
