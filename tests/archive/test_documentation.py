"""The examples in the documentation of crossmatch and coverage, run as they stand."""

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

USE = Path(__file__).parents[2] / "docs" / "use"
SPECTRA = "RA,DEC,z\n10.0,-5.0,2.8\n359.9999,0.0,3.1\nunknown,,3.3\n"
ARCHIVE = "objid,ra,dec\n1,0.0001,0.0\n2,200.0,45.0\n3,10.0001,-5.0\n4,10.0,5.0\n"


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lists that the examples name; formats are found from the content, so text will do."""
    (tmp_path / "spectra.csv").write_text(SPECTRA)
    (tmp_path / "archive.parquet").write_text(ARCHIVE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", ["crossmatch.md", "coverage.md"])
def test_the_python_examples_print_what_the_page_says(lists: Path, page: str) -> None:
    text = re.sub(r"(?m)^```.*$", "", (USE / page).read_text())
    example = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    assert example.examples
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example).failed == 0


def test_the_commands_print_what_the_page_says(lists: Path) -> None:
    for block in re.findall(r"(?s)```console\n(.*?)```", (USE / "crossmatch.md").read_text()):
        command, said = block.removeprefix("$ ").split("\n", 1)
        program = [sys.executable, "-c", "from inzitu.cli import main; main()", *shlex.split(command)[1:]]
        answer = subprocess.run(program, capture_output=True, text=True, check=True, timeout=120)
        assert answer.stdout == said
