"""The pages, as HTML and in a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lxml import html  # type: ignore[import-untyped]  # lxml ships no types
from playwright.sync_api import Page, sync_playwright

from inzitu.jobs.job import Progress, Result
from inzitu.manifest import SdssSource
from inzitu.pipelines import offered
from inzitu.web.examiner import Examiner
from web.conftest import ESTIMATE, LISTS, Server, until

HTML = {"accept": "text/html"}
CHROMIUM = shutil.which("chromium")


def page(server: Server, path: str, status: int = 200) -> html.HtmlElement:
    answer = server.http.get(path, headers=HTML)
    assert answer.status_code == status
    return html.fromstring(answer.text)


def test_the_front_page_says_what_the_deployment_offers(server: Server) -> None:
    server.create(RUNID="mine")
    text = page(server, "/").text_content()
    for word in ("A test deployment", "archive.catalogue", "train-predict", "predict-pretrained", "mine", "PENDING"):
        assert word in text
    state = str(server.deployment.manifest.state.parent)
    assert state not in text, "how the host is arranged is nobody's business"


def test_the_form_of_the_front_page_creates_a_job_as_a_browser_sends_it(server: Server) -> None:
    form = next(form for form in page(server, "/").forms if form.fields["PIPELINE"] == "train-predict")
    assert form.action == "/job"
    assert form.inputs["SLICES"].get("placeholder") == "z"
    assert form.inputs["RA_UNIT"].get("placeholder") == form.inputs["QUALITY"].get("placeholder") == ""
    files = {"training": LISTS["a"], "targets": LISTS["b"], "more": ("", b"", "application/octet-stream")}
    fields = {name: value or "" for name, value in form.form_values()}
    answer = server.http.post("/job", data=fields | {"TABLE": "mine", "PHASE": "RUN"}, files=files)
    assert answer.status_code == 303, answer.text
    job = server.job(answer.headers["location"])
    assert [upload.name for upload in job.uploads] == ["training", "targets"]
    assert (job.phase, job.parameter("TABLE")) == ("QUEUED", "mine")
    wrong = server.http.post("/job", data=fields | {"SEED": "one", "PHASE": "RUN"}, files=files, headers=HTML)
    assert wrong.status_code == 400
    assert "SEED=one" in html.fromstring(wrong.text).text_content()


def test_a_job_is_asked_on_the_pages_before_it_runs(server: Server) -> None:
    form = next(form for form in page(server, "/").forms if form.fields["PIPELINE"] == "train-predict")
    assert [(button.get("name"), button.get("value")) for button in form.iter("button")] == [
        ("PHASE", "RUN"),
        ("PHASE", ""),
    ]
    fields = {name: value or "" for name, value in form.form_values()}
    files = {"training": LISTS["a"], "targets": LISTS["b"]}
    answer = server.http.post("/job", data=fields | {"PHASE": ""}, files=files)
    path = answer.headers["location"].removeprefix(server.url)
    waiting = page(server, path).get_element_by_id("estimate")
    assert (waiting.get("hx-get"), waiting.get("hx-trigger")) == (f"{path}/estimate", "load")
    told = page(server, f"{path}/estimate")
    assert "rows" in told.text_content()
    assert [picture.get("src") for picture in told.iter("img")] == [f"/jobs/{path.rsplit('/', 1)[1]}/estimate.png"]
    shown = page(server, path).get_element_by_id("estimate")
    assert shown.get("hx-get") is None
    (run,) = shown.forms
    assert server.http.post(run.action).headers["location"] == server.url + path
    assert "QUEUED" in page(server, path).text_content()


def test_the_page_of_a_job_that_cannot_run_says_why(server: Server) -> None:
    url = server.http.post("/jobs", data={"PIPELINE": "train-predit"}).headers["location"]
    path = f"/job/{url.rsplit('/', 1)[1]}"
    (fault,) = page(server, f"{path}/estimate").find_class("fault")
    assert "did you mean train-predict" in fault.text_content()
    ended = page(server, path)
    assert "ERROR" in ended.text_content()
    assert "did you mean train-predict" in ended.find_class("fault")[0].text_content()


def test_a_refused_job_offers_no_run_but_to_be_asked_again_with_changes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = ESTIMATE | {"refused": "No row of the targets list can be used.", "amounts": {}, "hints": ["Look."]}
    with monkeypatch.context() as patched:
        patched.setattr(Examiner, "_asked", lambda *_: refused)
        url = server.create(SEED="7", TABLE="mine")
        path = f"/job/{server.job(url).id}"
        told = server.http.get(f"{path}/estimate")
        assert told.headers["hx-refresh"] == "true", "the whole page shows that the job has ended"
    ended = page(server, path)
    assert [fault.text_content() for fault in ended.find_class("fault")] == [
        "UsageError: No row of the targets list can be used.",
        "Look.",
    ]
    (form,) = ended.forms
    assert form.action == "/job"
    assert (form.fields["SEED"], form.fields["TABLE"], form.fields["RADIUS"]) == ("7", "mine", "")
    fields = {name: value or "" for name, value in form.form_values()}
    empty = ("", b"", "application/octet-stream")
    again = server.http.post(
        "/job", data=fields | {"SEED": "8", "PHASE": "RUN"}, files={"training": empty, "targets": LISTS["b"]}
    )
    job = server.job(again.headers["location"])
    assert (job.phase, job.parameter("SEED"), job.parameter("FROM")) == ("QUEUED", "8", None)
    state = server.deployment.manifest.state
    assert {upload.name: (state / upload.path).read_bytes() for upload in job.uploads} == {
        "targets": LISTS["b"][1],
        "training": LISTS["a"][1],
    }
    server.deployment.jobs.delete(server.job(url).id)
    assert all((state / upload.path).exists() for upload in job.uploads)


def test_a_job_cannot_be_asked_again_with_lists_that_were_destroyed(server: Server) -> None:
    job = server.job(server.create())
    server.deployment.jobs.uploads_folder(job.id).rename(server.deployment.manifest.state / "gone")
    answer = server.http.post("/job", data={"PIPELINE": "train-predict", "FROM": job.id}, headers=HTML)
    assert (answer.status_code, "was destroyed; choose it again" in answer.text) == (410, True)


def test_what_the_deployment_lacks_a_source_for_is_not_offered_but_named(server: Server) -> None:
    front = page(server, "/")
    assert "download-sdss" not in [form.fields["PIPELINE"] for form in front.forms]
    assert "Not here: download-sdss, download-train-evaluate" in front.text_content()
    assert "download-sdss" not in [offer["name"] for offer in server.http.get("/pipelines").json()]
    source = {"sdss": SdssSource(kind="sdss")}
    here, lacking = offered(server.deployment.manifest.model_copy(update={"sources": source}))
    assert ("download-sdss" in [pipeline.name for pipeline in here], lacking) == (True, [])


def test_amounts_have_units_and_the_number_itself_under_the_pointer(server: Server) -> None:
    url = server.create(PHASE="RUN")
    claim, store = server.claim(), server.deployment.jobs.store
    store.account(claim.job.id, 1, {"bytes_read": 19_286_897, "seconds_train": 3723.4})
    store.finish(claim.job.id, 1, [Result(id="model", reference="0" * 64, size=2_203_162)])
    done = page(server, f"/job/{server.job(url).id}")
    titles = {span.get("title"): span.text for span in done.iter("span") if span.get("title")}
    assert titles == {"19,286,897": "19.3 MB", "3,723.4": "1 h 2 min", "2,203,162": "2.20 MB"}


def test_a_jobs_page_follows_it_and_shows_its_results(server: Server) -> None:
    url = server.create(PHASE="RUN")
    path = f"/job/{url.rsplit('/', 1)[1]}"
    assert page(server, path).get_element_by_id("state").get("hx-get") == f"{path}/state"
    claim, store = server.claim(), server.deployment.jobs.store
    info = {"validation_crps": 0.125, "note": "<b>&"}
    store.progress(claim.job.id, 1, Progress(step="train", done=1, total=4, seconds_left=90, info=info))
    state = page(server, f"{path}/state")
    assert [bar.get("value") for bar in state.iter("progress")] == ["0.2500"]
    assert "about 1 min 30 s left" in state.text_content()
    assert "<b>&" in state.text_content()
    results = [Result(id="pit", reference="0" * 64, media_type="image/png", size=12345)]
    store.finish(claim.job.id, 1, results)
    done = page(server, path)
    assert [picture.get("src") for picture in done.iter("img")] == [f"/jobs/{claim.job.id}/results/pit"]
    assert done.get_element_by_id("state").get("hx-get") is None
    assert not list(done.iter("script"))


def test_a_tables_page_answers_adql_and_explains_what_is_wrong(server: Server) -> None:
    found = page(server, "/table/archive.catalogue")
    assert "ICRS" in found.text_content() or "deg" in found.text_content()
    query = "SELECT objID, ra FROM archive.catalogue WHERE ra > 10.5"
    answer = server.http.get("/table/archive.catalogue", params={"QUERY": query})
    cells = [cell.text for cell in html.fromstring(answer.text).xpath("//table[1]/tbody/tr/td")][:2]
    assert cells == ["2", "11"]
    wrong = server.http.get("/table/archive.catalogue", params={"QUERY": "SELECT nothing FROM archive.catalogue"})
    (fault,) = html.fromstring(wrong.text).find_class("fault")
    assert "nothing" in fault.text_content()
    assert page(server, "/table/no.such", 404).find_class("fault")


def test_a_job_is_aborted_by_its_button(server: Server) -> None:
    url = server.create(PHASE="RUN")
    (form,) = page(server, f"/job/{url.rsplit('/', 1)[1]}").forms
    answer = server.http.post(form.action)
    assert answer.status_code == 303
    assert server.job(url).phase == "ABORTED"


def test_every_page_labels_its_fields_and_loads_nothing_from_elsewhere(server: Server) -> None:
    url = server.create()
    for path in ("/", f"/job/{url.rsplit('/', 1)[1]}", "/table/archive.catalogue"):
        found = page(server, path)
        assert found.get("lang") == "en"
        labels = {label.get("for") for label in found.iter("label")}
        for field in (*found.iter("input"), *found.iter("textarea"), *found.iter("progress")):
            assert field.get("type") == "hidden" or field.get("id") in labels, html.tostring(field)
        for element in (*found.iter("script"), *found.iter("link"), *found.iter("img")):
            address = element.get("src") or element.get("href")
            assert address.startswith(("/", "data:")), address
            if address.startswith("/"):
                assert server.http.get(address).status_code == 200


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: the pages are not tried in a browser")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=CHROMIUM, args=flags
        )
        yield context.new_page()
        context.close()


def test_a_browser_sends_lists_watches_the_job_and_asks_the_table(
    server: Server, browser: Page, tmp_path: Path
) -> None:
    faults: list[str] = []
    browser.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    browser.on("pageerror", lambda error: faults.append(str(error)))
    browser.goto(server.url)
    form = browser.locator("details", has_text="train-predict").first
    form.locator("summary").first.click()
    for name, (file, content, _) in zip(("training", "targets"), LISTS.values(), strict=True):
        (tmp_path / file).write_bytes(content)
        form.get_by_label(name, exact=False).first.set_input_files(tmp_path / file)
    form.get_by_role("button", name="Run").click()
    browser.wait_for_selector("text=QUEUED")
    claim, deployment = server.claim(), server.deployment
    deployment.jobs.store.progress(claim.job.id, 1, Progress(step="train", done=3, total=4))
    browser.wait_for_selector("progress[value='0.7500']")
    pq.write_table(
        pa.table({"source_id": ["q3"], "ra": [10.5], "dec": [1.5], "z_mean": [2.75]}), tmp_path / "p.parquet"
    )
    artefact, size = deployment.store.adopt(tmp_path / "p.parquet")
    deployment.jobs.store.finish(
        claim.job.id,
        1,
        [Result(id="predictions", reference=artefact, size=size)],
        within=lambda connection: deployment.published.publish(
            connection, name="p_mine", artefact=artefact, job=claim.job.id, description="Predictions."
        ),
    )
    browser.get_by_role("link", name="predictions.p_mine").click()
    browser.get_by_role("button", name="Ask").click()
    browser.wait_for_selector("td:text-is('2.75')")
    assert browser.get_by_role("link", name="what it came from").get_attribute("href") == f"/provenance?ID={artefact}"
    browser.get_by_role("link", name="the job that made it").click()
    browser.wait_for_selector("text=COMPLETED")
    assert faults == []
    until(lambda: server.job(f"/{claim.job.id}").phase == "COMPLETED")
