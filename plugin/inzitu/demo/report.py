"""The demo's report: ``report.json`` for programmes, ``report.html`` for people."""

from __future__ import annotations

import base64
import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from jinja2 import Environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PICTURES = {
    "pdfs.png": "PDFs of blind quasars, with the predicted and the spectroscopic redshift",
    "redshifts.png": "Predicted against spectroscopic redshift of the blind quasars",
    "pit.png": "Calibration: the PIT of the blind quasars is flat if the PDFs are honest",
}


def write_report(folder: Path, report: Mapping[str, Any]) -> Path:
    """Write both reports beside the pictures; the page carries them inside. Return its path."""
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    template = resources.files("inzitu.demo").joinpath("report.html.jinja").read_text(encoding="utf-8")
    pictures = [
        {"caption": caption, "data": base64.b64encode((folder / name).read_bytes()).decode("ascii")}
        for name, caption in PICTURES.items()
        if (folder / name).exists()
    ]
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    path = folder / "report.html"
    path.write_text(page.render(report=report, pictures=pictures), encoding="utf-8")
    return path
