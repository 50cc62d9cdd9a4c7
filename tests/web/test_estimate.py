"""What a job will take, asked before it runs."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from PIL import Image

from inzitu.errors import ArchiveFault, BusyFault, Fault, LimitFault, ServiceFault
from inzitu.jobs.database import open_engine
from inzitu.jobs.job import Job
from inzitu.jobs.store import JobStore
from inzitu.manifest import Manifest
from inzitu.web import examiner
from inzitu.web.examiner import Examiner
from web.conftest import ASKED as FORM
from web.conftest import ESTIMATE, LISTS, Server, until

OUTPUT = Examiner._output
ASKED = Examiner._asked


def test_a_pending_job_says_what_it_will_take_and_when_it_would_end(server: Server) -> None:
    url = server.create()
    assert server.job(url).quote is None
    told = server.http.get(f"{url}/estimate").json()
    assert told["estimated"] == ESTIMATE
    assert (told["actual"], told["ratios"]) == (None, {})
    quote = datetime.fromisoformat(server.http.get(f"{url}/quote").text)
    assert abs(quote - datetime.now(UTC) - timedelta(seconds=100)) < timedelta(seconds=10)
    assert f"<uws:quote>{quote:%Y-%m-%dT%H:%M}" in server.http.get(url).text
    assert server.http.get(f"{url}/phase").text == "PENDING"


def test_it_is_examined_once_and_anew_when_its_parameters_change(
    server: Server, examined: list[tuple[str, ...]]
) -> None:
    url = server.create()
    for resource in ("estimate", "estimate.png", "quote"):
        assert server.http.get(f"{url}/{resource}").status_code == 200
    assert len(examined) == 1
    server.http.post(f"{url}/parameters", data={"SEED": "3"})
    assert (server.job(url).estimate, server.job(url).quote) == (None, None)
    server.http.get(f"{url}/quote")
    assert len(examined) == 2


def test_a_job_whose_list_is_not_there_yet_has_a_page_and_no_quote(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown: dict[str, Any] = {
        "network": None,
        "refused": None,
        "pipeline": "download-sdss",
        "amounts": {},
        "paces": {},
        "hints": ["Unknown."],
    }
    monkeypatch.setattr(Examiner, "_asked", lambda *_: unknown)
    url = server.create()
    assert server.http.get(f"{url}/quote").text == ""
    page = server.http.get(f"/job/{server.job(url).id}/estimate")
    assert page.status_code == 200
    assert "Unknown." in page.text
    assert server.http.get(f"{url}/estimate.png").status_code == 200


@pytest.mark.parametrize("estimate", [{"network": None}, {"network": {"parameters": 5, "flops": 1.0, "looks": 8}}])
def test_the_page_of_a_job_of_which_only_the_network_was_looked_at_is_there(
    server: Server, monkeypatch: pytest.MonkeyPatch, estimate: dict[str, Any]
) -> None:
    monkeypatch.setattr(Examiner, "_asked", lambda *_: estimate)
    assert server.http.get(f"/job/{server.job(server.create()).id}/estimate").status_code == 200


def test_the_picture_is_one_before_and_after(server: Server) -> None:
    url = server.create()
    before = server.http.get(f"{url}/estimate.png")
    assert before.headers["content-type"] == "image/png"
    server.http.post(f"{url}/phase", data={"PHASE": "RUN"})
    server.complete()
    for response in (before, server.http.get(f"{url}/estimate.png")):
        with Image.open(_file(response.content)) as picture:
            assert picture.size == (1000, 640)
            assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 10


def _file(content: bytes) -> Any:
    import io

    return io.BytesIO(content)


def test_after_the_end_it_stands_beside_what_was_really_taken(server: Server) -> None:
    url = server.create()
    server.http.get(f"{url}/estimate")
    server.http.post(f"{url}/phase", data={"PHASE": "RUN"})
    claim = server.claim()
    store = server.deployment.jobs.store
    amounts = {"rows": 3, "bytes_read": 3000, "seconds_select": 10, "images_trained": 50}
    store.account(claim.job.id, claim.attempt, amounts)
    store.finish(claim.job.id, claim.attempt, [])
    told = server.http.get(f"{url}/estimate").json()
    assert told["phase"] == "COMPLETED"
    assert told["actual"]["flops_train"] == 3 * 2e6 * 50
    assert told["ratios"].pop("seconds") < 1
    assert told["ratios"] == {"rows": 1.0, "bytes_read": 1.5, "seconds_select": 2.0}


def test_a_job_that_was_not_asked_has_its_network_looked_at_before_it_queues(
    server: Server, examined: list[tuple[str, ...]]
) -> None:
    url = server.create(PHASE="RUN")
    job = server.job(url)
    assert examined == [(job.id, "network")]
    assert job.estimate == {"network": ESTIMATE["network"]}
    # The next job with the same network need not wait for that.
    server.create(PHASE="RUN")
    assert len(examined) == 1
    server.create(PHASE="RUN", NETWORK="inzitu")
    assert len(examined) == 2


def test_what_decides_nothing_of_what_a_network_takes_asks_for_no_examination(
    server: Server, examined: list[tuple[str, ...]]
) -> None:
    server.create(PHASE="RUN")
    free = {"SEED": "3", "EPOCHS": "7", "LEARNING_RATE": "2e-4", "VALIDATION_FRACTION": "0.2", "TEST_FRACTION": "0.1"}
    server.create(PHASE="RUN", SCALE="0.5", **free)
    assert len(examined) == 1
    server.create(PHASE="RUN", BATCH_SIZE="40")
    server.create(PHASE="RUN", SIZE="40")
    assert len(examined) == 3


def test_the_server_remembers_so_many_networks_and_no_more(
    server: Server, examined: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examiner, "REMEMBERED", 2)
    for size in ("1", "2", "3"):
        server.create(PHASE="RUN", BATCH_SIZE=size)
    server.create(PHASE="RUN", BATCH_SIZE="3")
    assert len(examined) == 3
    server.create(PHASE="RUN", BATCH_SIZE="1")
    assert len(examined) == 4


def test_a_job_created_while_too_many_are_examined_keeps_its_files(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise BusyFault("Other jobs are being examined.")

    with monkeypatch.context() as patched:
        patched.setattr(Examiner, "_asked", busy)
        response = server.http.post("/jobs", data=FORM | {"PHASE": "RUN"}, files=LISTS)
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    [entry] = server.deployment.jobs.select()
    assert f"Job {entry.id} stays PENDING" in response.text
    assert server.http.post(f"/jobs/{entry.id}/phase", data={"PHASE": "RUN"}).status_code == 303
    state = server.deployment.manifest.state
    assert all((state / upload.path).exists() for upload in server.job(f"/{entry.id}").uploads)


def test_a_network_that_is_refused_leaves_no_job(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise LimitFault("The network has 9 parameters; this service takes 8.")

    monkeypatch.setattr(Examiner, "_asked", refuse)
    files = {"a": ("a.csv", b"ra,dec,z\n1,2,3\n4,5,6\n"), "b": ("b.csv", b"ra,dec\n1,2\n")}
    form = {"PIPELINE": "train-predict", "UPLOAD": ["training,param:a", "targets,param:b"], "PHASE": "RUN"}
    response = server.http.post("/jobs", data=form, files=files)
    assert (response.status_code, response.text) == (
        413,
        "LimitExceeded: The network has 9 parameters; this service takes 8.\n",
    )
    assert server.deployment.jobs.select() == ()


def test_a_job_that_is_known_to_fail_is_not_queued(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Examiner, "_asked", lambda *_: ESTIMATE | {"refused": "No row of the targets list can be used."}
    )
    url = server.create()
    told = server.http.get(f"{url}/estimate").json()
    assert told["estimated"]["refused"].startswith("No row")
    assert (told["phase"], told["quote"]) == ("ERROR", None)
    assert server.http.get(f"{url}/error").text == "UsageError: No row of the targets list can be used.\n"
    assert server.http.post(f"{url}/phase", data={"PHASE": "RUN"}).status_code == 400
    response = server.http.post("/jobs", data=FORM | {"PHASE": "RUN"}, files=LISTS)
    assert (response.status_code, response.text) == (400, "UsageError: No row of the targets list can be used.\n")


@pytest.mark.parametrize("bad", ["400.0,1.0,2.0", "11.0,2.0,", "11.0,2.0,-9", "11.0,nan,3"])
def test_a_list_with_too_few_rows_to_train_on_never_queues(
    server: Server, examined: list[tuple[str, ...]], bad: str
) -> None:
    files = LISTS | {"a": ("a.csv", f"ra,dec,z\n10.0,1.0,2.9\n{bad}\n".encode(), "text/csv")}
    response = server.http.post("/jobs", data=FORM | {"PHASE": "RUN"}, files=files)
    said = "Only 1 of the 2 rows of the training list have a position and a redshift; training takes at least 2."
    assert (response.status_code, response.text) == (400, f"UsageError: {said}\n")
    assert server.deployment.jobs.select() == ()
    url = server.http.post("/jobs", data=FORM, files=files).headers["location"]
    assert server.http.get(f"{url}/estimate").status_code == 400
    assert server.job(url).phase == "ERROR"
    assert examined == []


@pytest.mark.parametrize(
    "changes",
    [{"HEAD": "bins(30,2.95)"}, {"PIPELINE": "search-predict", "GRID": "head=mixture(2)/bins(30,2.95)"}],
    ids=["a training", "one trial of a search"],
)
def test_redshifts_beyond_the_head_never_queue(
    server: Server, examined: list[tuple[str, ...]], changes: dict[str, str]
) -> None:
    rows = b"ra,dec,z\n10.0,1.0,2.9\n11.0,2.0,3.25\n12.0,2.0,2.95\nnan,2.0,7\n"
    files = LISTS | {"a": ("a.csv", rows, "text/csv")}
    response = server.http.post("/jobs", data=FORM | {"PHASE": "RUN"} | changes, files=files)
    assert response.status_code == 400
    assert response.text == (
        "UsageError: 1 of the 4 rows of the training list have a redshift beyond HEAD=bins(30,2.95), the first is row "
        "1 with z 3.25. Let the head reach further, up to the largest, 3.25, or leave them out.\n"
    )
    assert server.deployment.jobs.select() == ()
    assert examined == []


def test_what_is_wrong_with_a_job_is_said_when_it_is_asked(server: Server, examined: list[tuple[str, ...]]) -> None:
    url = server.http.post("/jobs", data={"PIPELINE": "train-predit"}).headers["location"]
    response = server.http.get(f"{url}/estimate")
    assert response.status_code == 400
    assert "did you mean train-predict" in response.text
    assert server.http.get(f"{url}/quote").text == ""
    assert examined == []
    assert server.http.get("/jobs/nowhere/estimate").status_code == 404


def test_polls_answer_while_many_jobs_are_examined(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    over, began = threading.Event(), threading.Semaphore(0)

    def slow(*_: object) -> dict[str, Any]:
        began.release()
        over.wait(20)
        return ESTIMATE

    monkeypatch.setattr(Examiner, "_asked", slow)
    urls = [server.create() for _ in range(12)]
    with httpx.Client(base_url=server.url, timeout=30) as http, ThreadPoolExecutor(len(urls)) as pool:
        asked = [pool.submit(http.get, f"{url}/estimate") for url in urls]
        for _ in urls:
            assert began.acquire(timeout=10)
        start = time.monotonic()
        assert server.http.get(f"{urls[0]}/phase").text == "PENDING"
        assert time.monotonic() - start < 15, "not after the slow answers"
        over.set()
        assert {answer.result().status_code for answer in asked} == {200}


def test_queries_have_no_estimate(server: Server) -> None:
    url = server.http.post("/tap/async", data={"LANG": "ADQL", "QUERY": "SELECT 1"}).headers["location"]
    assert server.http.get(f"{url}/estimate").status_code == 404
    assert server.http.get(f"{url}/quote").text == ""


def test_two_jobs_may_not_make_the_same_table_at_once(server: Server) -> None:
    first, second = server.create(TABLE="quasars"), server.create(TABLE="quasars")
    assert server.http.post(f"{first}/phase", data={"PHASE": "RUN"}).status_code == 303
    refused = server.http.post(f"{second}/phase", data={"PHASE": "RUN"})
    assert refused.status_code == 400
    assert f"TABLE=quasars is the table of job {server.job(first).id}, which is QUEUED" in refused.text
    server.create(TABLE="others", PHASE="RUN")
    server.http.post(f"{first}/phase", data={"PHASE": "ABORT"})
    assert server.http.post(f"{second}/phase", data={"PHASE": "RUN"}).status_code == 303


# The process that examines


@pytest.fixture
def job(manifest: Manifest) -> Job:
    engine = open_engine(manifest.database_url)
    store = JobStore(engine)
    store.create_tables()
    job = store.create(destruction=store.now(), execution_seconds=60)
    engine.dispose()
    return job


@pytest.fixture
def process(manifest: Manifest, job: Job, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what asks about a job by a process that does as it is told."""
    monkeypatch.setattr(Examiner, "_asked", ASKED)

    def ask(program: str, *, seconds: float = 20) -> Any:
        limits = manifest.limits.model_copy(update={"examination_seconds": seconds})
        asking = Examiner(manifest.model_copy(update={"limits": limits}))

        def output(self: Examiner, command: list[str]) -> bytes:
            assert command[1:] == ["-m", "inzitu.run.examine", "-", job.id]
            return OUTPUT(self, [sys.executable, "-c", program])

        monkeypatch.setattr(Examiner, "_output", output)
        return asking(job, whole=True)

    return ask


def test_it_gets_the_manifest_and_no_accelerator_and_answers(process: Any) -> None:
    program = (
        "import json, os, sys; name = json.load(sys.stdin)['name']; "
        "print(json.dumps({'estimate': {'name': name, 'device': os.environ['JAX_PLATFORMS']}}))"
    )
    assert process(program) == {"name": "test", "device": "cpu"}


@pytest.mark.parametrize(
    ("kind", "expected"), [("LimitFault", LimitFault), ("ArchiveFault", ArchiveFault), ("open", ServiceFault)]
)
def test_its_fault_is_raised_as_the_fault_that_it_is(process: Any, kind: str, expected: type[Fault]) -> None:
    with pytest.raises(expected, match=r"^in words$"):
        process(f'print(\'{{"fault": {{"kind": "{kind}", "message": "in words"}}}}\')')


@pytest.mark.parametrize("program", ["import os; os.kill(os.getpid(), 9)", "print('Killed')", "raise SystemExit(3)"])
def test_one_that_dies_is_the_services_fault(process: Any, program: str) -> None:
    with pytest.raises(ServiceFault, match="ended without an answer"):
        process(program)


def test_one_that_takes_too_long_is_ended(process: Any) -> None:
    began = time.monotonic()
    with pytest.raises(BusyFault, match=r"longer than 0.5 s, the limit of this deployment"):
        process("import time; time.sleep(60)", seconds=0.5)
    assert time.monotonic() - began < 50


def test_no_more_than_a_few_are_examined_at_once(manifest: Manifest, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Examiner, "_asked", ASKED)
    monkeypatch.setattr(examiner, "PATIENCE", 0.1)
    busy, over = threading.Semaphore(0), threading.Event()

    def output(*_: object) -> bytes:
        busy.release()
        over.wait(20)
        return b'{"estimate": {}}'

    monkeypatch.setattr(Examiner, "_output", output)
    asking = Examiner(manifest)
    threads = [threading.Thread(target=asking, args=(job,), kwargs={"whole": True}) for _ in range(examiner.AT_ONCE)]
    for thread in threads:
        thread.start()
        busy.acquire()
    with pytest.raises(BusyFault, match="ask again"):
        asking(job, whole=True)
    monkeypatch.setattr(examiner, "PATIENCE", 20)
    waiting = [threading.Thread(target=asking, args=(job,), kwargs={"whole": True}) for _ in range(examiner.WAITING)]
    for thread in waiting:
        thread.start()
    until(lambda: not asking._places._value)
    began = time.monotonic()
    with pytest.raises(BusyFault, match="ask again"):
        asking(job, whole=True)
    assert time.monotonic() - began < 15, "one more than may wait is told at once"
    threads += waiting
    over.set()
    for thread in threads:
        thread.join()
    assert asking(job, whole=True) == {}
