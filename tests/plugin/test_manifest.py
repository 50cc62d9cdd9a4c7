from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from inzitu.errors import ManifestFault
from inzitu.manifest import Manifest

GOOD = {
    "archive": {
        "surveys": [{"band": "g", "hips": "hips/g"}, {"band": "r", "hips": "https://example.org/r"}],
        "catalogue": {"path": "catalogue.parquet"},
    }
}


def written(folder: Path, content: object) -> Path:
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_relative_paths_are_taken_from_the_manifests_folder_and_urls_left_alone(tmp_path: Path) -> None:
    manifest = Manifest.load(written(tmp_path, GOOD))
    assert [survey.hips for survey in manifest.archive.surveys] == [str(tmp_path / "hips/g"), "https://example.org/r"]
    assert manifest.archive.catalogue.path == str(tmp_path / "catalogue.parquet")
    assert manifest.state == tmp_path / "state"
    assert manifest.database_url == f"sqlite:///{tmp_path}/state/inzitu.db"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"archve": {}}, r"archve: there is no such key; docs/reference/manifest\.md"),
        ({"archive": {}}, r"archive\.surveys: this key is needed"),
        ({"limits": {"rows": 0}}, r"limits\.rows=0: Input should be greater than 0"),
        ({"archive": GOOD["archive"] | {"surveys": [{"band": "g"}]}}, r"surveys\.0: name either the hips"),
        ({"archive": GOOD["archive"] | {"surveys": "hips"}}, r"surveys=hips: Input should be a valid tuple"),
        (
            {"archive": GOOD["archive"] | {"surveys": [{"band": "g", "hips": "a"}, {"band": "g", "hips": "b"}]}},
            "twice: g",
        ),
        (
            {"archive": GOOD["archive"] | {"catalogue": {"tap": "https://example.org/tap"}}},
            "the tap service and the table",
        ),
        ({"archive": GOOD["archive"] | {"catalogue": {"path": "a", "tap": "b", "table": "c"}}}, "either the path"),
        ({"archive": GOOD["archive"] | {"catalogue": {"id": "a"}}}, "either the path"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ManifestFault, match=message):
        Manifest.load(written(tmp_path, GOOD | change))


def test_a_catalogue_behind_tap_has_a_service_and_a_table_and_no_path(tmp_path: Path) -> None:
    catalogue = {"tap": "https://example.org/tap", "table": "ivoa.sources"}
    manifest = Manifest.load(written(tmp_path, {"archive": GOOD["archive"] | {"catalogue": catalogue}}))
    assert (manifest.archive.catalogue.path, manifest.archive.catalogue.tap) == ("", "https://example.org/tap")


@pytest.mark.parametrize(
    ("content", "message"),
    [("[", "no valid YAML"), ("- a", "has no keys"), ("", "has no keys"), ("archive: [1]", "archive: Input should be")],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "manifest.yaml"
    path.write_text(content)
    with pytest.raises(ManifestFault, match=message):
        Manifest.load(path)


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestFault, match=r"absent\.yaml: No such file"):
        Manifest.load(tmp_path / "absent.yaml")


def test_the_shipped_manifest_deploys_the_demo_archive() -> None:
    root = Path(__file__).parents[2]
    manifest = Manifest.load(root / "manifest.yaml")
    assert manifest.archive.bands == ("u", "g", "r", "i", "z")
    assert manifest.archive.catalogue.path == str(root / "demo/archive/catalogue.parquet")


def test_the_examples_for_operators_are_manifests() -> None:
    page = (Path(__file__).parents[2] / "docs/operate/adapters.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.S)]
    catalogue = blocks[0]["archive"]["catalogue"]
    sources = blocks[1]["sources"] | {f"with-casjobs-{name}": source for name, source in blocks[2].items()}
    archive = GOOD["archive"] | {"catalogue": catalogue}
    manifest = Manifest.model_validate({"archive": archive, "sources": sources})
    assert manifest.archive.catalogue.table == "survey.sources"
    assert {source.kind for source in manifest.sources.values()} == {"sdss", "tap"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"kind": "ftp"}, "sdss"),
        ({"kind": "tap", "url": "http://a"}, "table"),
        ({"kind": "sdss", "casjobs_user": "USER"}, "name both environment variables"),
    ],
)
def test_a_source_that_cannot_be_asked_is_no_source(tmp_path: Path, source: dict[str, str], message: str) -> None:
    with pytest.raises(ManifestFault, match=message):
        Manifest.load(written(tmp_path, GOOD | {"sources": {"one": source}}))


def test_a_survey_has_an_address_or_an_identifier(tmp_path: Path) -> None:
    for survey in ({"band": "r"}, {"band": "r", "hips": "r", "id": "CDS/P/SDSS9/r"}):
        with pytest.raises(ManifestFault, match="either the hips, by its folder or address, or the id"):
            Manifest.load(written(tmp_path, {"archive": GOOD["archive"] | {"surveys": [survey]}}))
    manifest = Manifest.load(
        written(tmp_path, {"archive": GOOD["archive"] | {"surveys": [{"band": "r", "id": "CDS/P/a"}]}})
    )
    assert manifest.archive.surveys[0].hips == ""
