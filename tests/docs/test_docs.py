"""Documents that cannot drift: what they name is held against the code."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from pydantic import BaseModel

from inzitu.archive import selection
from inzitu.cli import app
from inzitu.hips import Flag, Status
from inzitu.manifest import ArchiveSection, CatalogueEntry, Engine, Limits, Manifest, SdssSource, SurveyEntry, TapSource
from inzitu.pipelines import pipelines, steps
from inzitu.run.predictions import schema
from inzitu.web import pages
from inzitu.web.app import create_app

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


SECTIONS = (Manifest, ArchiveSection, SurveyEntry, CatalogueEntry, SdssSource, TapSource, Limits, Engine)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_the_manifest_stands_in_its_page_as_it_is_described(section: type[BaseModel]) -> None:
    text = page("docs/reference/manifest.md")
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            assert f"## {name}" in text
        else:
            assert re.search(rf"^\| `{name}` \|.*\| {re.escape(field.description or '?')} \|$", text, re.M), name


def test_the_manifest_page_names_no_key_that_does_not_exist() -> None:
    known = {name for section in SECTIONS for name in section.model_fields}
    assert set(re.findall(r"^\| `(\w+)`", page("docs/reference/manifest.md"), re.M)) <= known


def test_every_pipeline_step_parameter_and_column_stands_in_its_page() -> None:
    text = page("docs/reference/pipelines.md")
    for pipeline in pipelines().values():
        assert f"| `{pipeline.name}` | {pipeline.title} |" in text
    for step in steps().values():
        assert f"## {step.name}\n\n{step.title}." in text
        for name, field in step.parameters.model_fields.items():
            assert re.search(rf"^\| `{name.upper()}` \|.*\| {re.escape(field.description or '?')} \|$", text, re.M), (
                name
            )
    for field in schema(5):
        assert field.name.startswith("_") or f"| `{field.name}` |" in text


def test_every_status_and_flag_stands_in_its_page() -> None:
    text = page("docs/reference/pipelines.md")
    words = set(re.findall(r"^([a-z-]+)  +\S", selection.__doc__ or "", re.M)) | {status.word for status in Status}
    assert words >= {"ok", "unmatched", "error"}
    for word in words:
        assert f"| `{word}` |" in text, word
    for flag in Flag:
        assert f"`{flag.words}`" in text


def test_the_pages_of_commands_and_resources_are_as_the_code_says_them() -> None:
    reference = runpy.run_path(str(ROOT / "docs" / "reference.py"))
    for name in ("cli", "http"):
        assert page(f"docs/reference/{name}.md") == reference[f"{name}_page"](), "write it: python docs/reference.py"


def test_every_command_and_every_route_stands_in_its_page() -> None:
    commands = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    assert {*commands, "archive stamps"} == set(re.findall(r"^## (.+)$", page("docs/reference/cli.md"), re.M))
    described = create_app(Manifest.load(ROOT / "manifest.yaml")).openapi()["paths"]
    served = {*described, *(str(getattr(route, "path", "")) for route in pages.router.routes)}
    assert served == set(re.findall(r"^\| `[A-Z]+ (\S+)` \|", page("docs/reference/http.md"), re.M))


def test_the_readmes_manifest_is_one(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", page("README.md"), re.S)
    path = tmp_path / "manifest.yaml"
    path.write_text(example)
    assert Manifest.load(path).archive.bands == ("g", "r", "z")


def test_commands_and_targets_that_the_readme_names_exist() -> None:
    text = page("README.md")
    targets = set(re.findall(r"^([a-z]+):", page("Makefile"), re.M))
    assert set(re.findall(r"(?:`|^ +)make ([a-z]+)", text, re.M)) <= targets
    commands = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    assert {"demo", "serve", "work", "submit", "query"} <= commands
    named = set(re.findall(r"(?:^ +|`)inzitu ([a-z]+)\b", text.partition("\nNot yet:")[0], re.M))
    assert named <= commands
