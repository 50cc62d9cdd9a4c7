from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inzitu.prov.facts import Product
from inzitu.prov.formats import format_of, read
from inzitu.web.zips import zip_pieces
from record.sample import HOST, activity
from record.service import BUNDLE, Service, small_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with small_service(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Service]:
    """Serve a record that the test may change."""
    with small_service(tmp_path) as service:
        yield service


def unpacked(content: bytes) -> dict[str, bytes]:
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.testzip() is None
    return {name: archive.read(name) for name in archive.namelist()}


def test_a_file_comes_with_its_type_name_hash_and_provenance(service: Service) -> None:
    scores = service.road["scores"]
    response = service.http.get(f"/artefacts/{scores.id}")
    assert response.status_code == 200
    assert response.text == "scores of evaluate"
    assert response.headers["content-type"].startswith("text/plain")
    assert response.headers["etag"] == f'"{scores.id}"'
    assert "immutable" in response.headers["cache-control"]
    assert response.headers["content-disposition"] == 'inline; filename="scores.txt"'
    assert response.headers["link"] == (
        f'<{service.http.base_url}/provenance?ID={scores.id}>; rel="http://www.w3.org/ns/prov#has_provenance"; '
        f'anchor="{service.http.base_url}/artefacts/{scores.id}"'
    )
    link = response.headers["link"].split(">")[0][1:]
    assert scores.id in service.http.get(link).text


def test_parts_of_a_file_can_be_asked_for(service: Service) -> None:
    id = service.road["scores"].id
    part = service.http.get(f"/artefacts/{id}", headers={"range": "bytes=7-8"})
    assert (part.status_code, part.text) == (206, "of")
    assert part.headers["content-range"] == "bytes 7-8/18"
    assert service.http.get(f"/artefacts/{id}", headers={"range": "bytes=99-"}).status_code == 416
    resumed = service.http.get(f"/artefacts/{id}", headers={"range": "bytes=7-8", "if-range": '"another"'})
    assert (resumed.status_code, resumed.text) == (200, "scores of evaluate")
    tail = service.http.get(f"/artefacts/{id}", headers={"range": "bytes=-3", "if-range": f'"{id}"'})
    assert (tail.status_code, tail.text) == (206, "ate")


@pytest.mark.parametrize("tags", ['"{id}"', 'W/"{id}"', '"x", "{id}"', "*"])
def test_who_has_it_already_is_not_sent_it_again(service: Service, tags: str) -> None:
    id = service.road["scores"].id
    response = service.http.get(f"/artefacts/{id}", headers={"if-none-match": tags.format(id=id)})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == f'"{id}"'


def test_head_has_no_body(service: Service) -> None:
    for path in (f"artefacts/{service.road['scores'].id}", f"artefacts/{service.bundle}?FORMAT=zip"):
        response = service.http.head(f"/{path}")
        assert (response.status_code, response.content) == (200, b"")
    assert service.http.head(f"/artefacts/{service.road['scores'].id}").headers["content-length"] == "18"


def test_a_folder_is_listed_and_its_files_fetched(service: Service) -> None:
    listing = service.http.get(f"/artefacts/{service.bundle}").json()
    assert {file["path"] for file in listing["files"]} == set(BUNDLE)
    for file in listing["files"]:
        response = service.http.get(file["href"])
        assert response.text == BUNDLE[file["path"]]
        assert int(response.headers["content-length"]) == file["bytes"]
        assert service.http.get(file["href"], headers={"if-none-match": response.headers["etag"]}).status_code == 304
    tags = {service.http.get(file["href"]).headers["etag"] for file in listing["files"]}
    assert len(tags) == len(BUNDLE)


def test_a_folder_comes_as_a_zip_file(service: Service) -> None:
    response = service.http.get(f"/artefacts/{service.bundle}", params={"format": "ZIP"})
    assert response.headers["content-type"] == "application/zip"
    assert unpacked(response.content) == {name: text.encode() for name, text in BUNDLE.items()}
    again = service.http.get(f"/artefacts/{service.bundle}", params={"FORMAT": "zip"})
    assert again.content == response.content
    assert "FORMAT=tar" in service.http.get(f"/artefacts/{service.bundle}?FORMAT=tar").text


def test_a_models_bundle_comes_with_its_provenance(service: Service) -> None:
    (listed,) = [model for model in service.http.get("/models").json() if model["id"] == service.bundle]
    assert listed["about"] == {"network": "dcmdn-a"}
    files = unpacked(service.http.get(listed["href"]).content)
    assert set(files) == {*BUNDLE, "provenance.json"}
    record = read(files["provenance.json"], format_of("PROV-JSON"))
    assert service.bundle in record.get_provn()


def test_models_are_listed_the_latest_first_and_no_longer_when_they_are_gone(fresh: Service) -> None:
    ids = [model["id"] for model in fresh.http.get("/models").json()]
    assert set(ids) == {fresh.bundle, fresh.road["model"].id}
    fresh.recorder.release("job-2")
    assert [model["id"] for model in fresh.http.get("/models").json()] == [fresh.road["model"].id]


def test_what_is_no_model_has_no_bundle(service: Service) -> None:
    response = service.http.get(f"/models/{service.road['scores'].id}")
    assert response.status_code == 404
    assert "is no model but a scores" in response.text


def test_bytes_sent_are_counted_for_the_job(fresh: Service) -> None:
    fresh.http.get(f"/artefacts/{fresh.road['scores'].id}")
    assert counted(fresh, "job-1") == 18
    zipped = fresh.http.get(f"/models/{fresh.bundle}").content
    assert counted(fresh, "job-2") == len(zipped)
    fresh.recorder.found(fresh.recorder.makers(fresh.bundle)[0].key, job="job-3")
    fresh.http.get(f"/models/{fresh.bundle}?JOB=job-9")
    fresh.http.get(f"/models/{fresh.bundle}?JOB=job-3")
    assert counted(fresh, "job-3") == len(zipped)
    assert set(fresh.sent) == {"job-1", "job-2", "job-3"}


def counted(service: Service, job: str) -> int:
    """Return the bytes counted for a job, as soon as the server has done so: after the client has them all."""
    for _ in range(500):
        if job in service.sent:
            break
        time.sleep(0.01)
    return service.sent[job]


@pytest.mark.parametrize(
    "path",
    [
        "artefacts/{id}/..%2f..%2f..%2frecord.db",
        "artefacts/{id}/%2e%2e/%2e%2e/record.db",
        "artefacts/{id}/%2fetc%2fpasswd",
        "artefacts/{id}//etc/passwd",
        "artefacts/{id}/sub/..%2f..%2f",
        "artefacts/{id}/model.json%00",
        "artefacts/{id}/..%5c..%5crecord.db",
        "artefacts/{id}/sub",
        "artefacts/{id}/nothing",
        "artefacts/..%2frecord.db",
        "artefacts/%2e%2e",
        "artefacts/incoming",
        "models/..%2f..%2frecord.db",
        "artefacts/" + "0" * 64,
        "artefacts/" + "G" * 64,
    ],
)
def test_no_address_leads_out_of_the_artefacts(service: Service, path: str) -> None:
    response = service.http.get("/" + path.format(id=service.bundle))
    assert response.status_code == 404, response.text
    assert response.headers["content-type"].startswith("text/plain")


def test_what_was_destroyed_is_gone_and_its_record_is_not(fresh: Service) -> None:
    id = fresh.road["scores"].id
    fresh.recorder.release("job-1")
    response = fresh.http.get(f"/artefacts/{id}")
    assert response.status_code == 410
    assert "Gone: scores.txt was destroyed on 2026-11-21" in response.text
    assert fresh.http.get(f"/provenance?ID={id}").status_code == 200


def test_what_was_lost_is_gone_too(fresh: Service) -> None:
    fresh.recorder.store.remove(fresh.bundle)
    assert fresh.http.get(f"/models/{fresh.bundle}").status_code == 410


def test_a_page_of_a_user_is_not_shown_as_one_of_ours(fresh: Service, tmp_path: Path) -> None:
    path = tmp_path / "evil"
    path.write_text("<script>alert(1)</script>")
    brought = fresh.recorder.admit(path, kind="list", media_type="text/html", name='e"vil\r\n é.html', agent=HOST)
    response = fresh.http.get(f"/artefacts/{brought.id}")
    assert response.headers["content-disposition"].startswith("attachment; filename*=utf-8''e%22vil%0D%0A")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]


def test_a_bundle_that_says_nothing_of_itself_is_listed_all_the_same(fresh: Service, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "model.json").write_text("{")
    product = Product(tmp_path / "odd", "model", "inode/directory", "odd")
    id = fresh.recorder.record(activity("train"), {"model": product})["model"].id
    (listed,) = [model for model in fresh.http.get("/models").json() if model["id"] == id]
    assert listed["about"] is None


def test_the_description_of_the_routes_is_whole(service: Service) -> None:
    described = service.http.get("/openapi.json").json()["paths"]
    assert {"/artefacts/{id}", "/artefacts/{id}/{name}", "/models", "/models/{id}", "/provenance"} <= described.keys()
    assert json.dumps(described["/provenance"]).count('"name"') == 10


@given(entries=st.dictionaries(st.text("abc/.é", min_size=1, max_size=9), st.binary(max_size=40), max_size=4))
def test_a_zip_file_holds_what_went_in(entries: dict[str, bytes]) -> None:
    assert unpacked(b"".join(zip_pieces(entries.items()))) == entries
