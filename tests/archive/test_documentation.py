"""The examples in the documentation of crossmatch, coverage and cutouts, run as they stand."""

from __future__ import annotations

import doctest
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from archive.test_stamps import packaged, written
from inzitu.archive import stamps
from inzitu.cli import main

USE = Path(__file__).parents[2] / "docs" / "use"
PAGES = ["crossmatch.md", "coverage.md", "cutouts.md"]
SPECTRA = "RA,DEC,z\n10.0,-5.0,2.8\n359.9999,0.0,3.1\nunknown,,3.3\n"
ARCHIVE = "objid,ra,dec\n1,0.0001,0.0\n2,200.0,45.0\n3,10.0001,-5.0\n4,10.0,5.0\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples name; formats are found from the content, so text will do."""
    folder = tmp_path_factory.mktemp("documentation")
    (folder / "spectra.csv").write_text(SPECTRA)
    (folder / "archive.parquet").write_text(ARCHIVE)
    places = [*zip(packaged()["ra"][:4], packaged()["dec"][:4], strict=True), (10.0, 10.0), ("", "")]
    (folder / "quasars.csv").write_text("ra,dec\n" + "".join(f"{ra},{dec}\n" for ra, dec in places))
    stamps.build(written(folder / "stamps.in.npz", 4), folder / "archive")
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_print_what_the_page_says_and_so_does_the_python(
    folder: Path, page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "1000")
    text = (USE / page).read_text()
    commands = re.findall(r"(?ms)^\$ (.*?)\n(.*?)(?=^\$ |^```)", "".join(re.findall(r"(?s)```console\n(.*?```)", text)))
    assert commands
    for command, said in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code, capsys.readouterr().out) == (0, said)
    python = re.sub(r"(?m)^```.*$", "", re.sub(r"(?s)```console\n.*?```", "", text))
    example = doctest.DocTestParser().get_doctest(python, {"np": np}, page, page, 0)
    assert example.examples
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example).failed == 0
