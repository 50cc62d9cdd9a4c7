"""The commands that the pages on use give are ones that the service takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from inzitu.pipelines import check

USE = Path(__file__).parents[2] / "docs" / "use"
COMMANDS = [
    (path.name, command)
    for path in sorted(USE.glob("*.md"))
    for command in re.findall(r"^(?: {4}|\$ )inzitu submit (?!-)(.+)$", path.read_text(encoding="utf-8"), re.M)
]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_that_a_page_gives_is_a_request(page: str, command: str) -> None:
    pipeline, *words = (word for word in shlex.split(command) if not word.startswith(("--", "http")) and word != "URL")
    pairs = [word.split("=", 1) for word in words if "=" in word]
    parameters = [(key, "0" * 64 if value == "<id>" else value) for key, value in pairs if key.isupper()]
    check([("PIPELINE", pipeline), *parameters], [key for key, _ in pairs if key.islower()])


def test_the_pages_give_commands() -> None:
    assert {page for page, _ in COMMANDS} >= {"download.md", "comparing.md"}
