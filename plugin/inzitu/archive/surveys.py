"""Where the archive's surveys are: those that the manifest names by identifier are asked for once, and kept.

What the MOCServer says of a survey, its address and its coverage, is written to ``surveys/`` in the state folder; jobs
use that, so that they neither wait for the server nor depend on it. `inzitu check` asks it anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from inzitu.archive.mocserver import IDENTIFIER, MocServer
from inzitu.errors import ArchiveFault
from inzitu.hips import Survey
from inzitu.sky import Coverage

if TYPE_CHECKING:
    from inzitu.archive.patience import Patience
    from inzitu.manifest import Manifest, SurveyEntry

MOC_SUFFIXES = (".fits", ".json", ".txt", ".moc")
"""Names that end so are files, even such as are not there."""


def located(manifest: Manifest, *, anew: bool = False, patience: Patience | None = None) -> Manifest:
    """Return a manifest whose surveys all have an address.

    Parameters
    ----------
    manifest
        The manifest as it is written.
    anew
        Ask even for what is kept.
    patience
        How long the server is waited for.

    Raises
    ------
    ArchiveFault
        A survey is named by its identifier, and nothing is known, or to be learnt, of that.
    """
    archive = manifest.archive
    entries = tuple(_located(entry, manifest, anew, patience) if entry.id else entry for entry in archive.surveys)
    return manifest.model_copy(update={"archive": archive.model_copy(update={"surveys": entries})})


def coverage_of(entry: SurveyEntry) -> Coverage:
    """Return where a survey has pixels: by the MOC that the manifest names, or else by its HiPS.

    Raises
    ------
    OSError, ValueError
        It cannot be read.
    """
    return Coverage.read(entry.moc) if entry.moc else Survey.open(entry.hips).coverage()


def moc_of(name: str, folder: Path) -> Path:
    """Return a MOC file: the one of that name, or the coverage of the survey of that identifier, written to a folder.

    Raises
    ------
    ArchiveFault
        The MOCServer does not answer, or knows no such survey.
    """
    path = Path(name)
    if path.exists() or path.suffix in MOC_SUFFIXES or not IDENTIFIER.fullmatch(name):
        return path
    with MocServer() as server:
        server.coverage(name).write(folder / "moc.fits")
    return folder / "moc.fits"


def _located(entry: SurveyEntry, manifest: Manifest, anew: bool, patience: Patience | None) -> SurveyEntry:
    folder = manifest.state / "surveys" / "".join(c if c.isalnum() else "_" for c in entry.id)
    note = folder / "survey.json"
    kept = note.exists() and json.loads(note.read_text(encoding="utf-8"))["id"] == entry.id
    if anew or not kept:
        try:
            _fetch(entry.id, manifest.archive.mocserver, folder, patience)
        except ArchiveFault as error:
            raise ArchiveFault(f"archive.surveys, band {entry.band}: {error}") from error
    address = json.loads(note.read_text(encoding="utf-8"))["hips"]
    return entry.model_copy(update={"hips": address, "moc": entry.moc or str(folder / "moc.fits")})


def _fetch(identifier: str, server: str, folder: Path, patience: Patience | None) -> None:
    """Write what the MOCServer says of a survey; the note, which makes it count, comes last."""
    with MocServer(server, patience) if patience else MocServer(server) as moc_server:
        address, coverage = moc_server.address(identifier), moc_server.coverage(identifier)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix="new-") as new:  # several jobs may be the first
        note = json.dumps({"id": identifier, "hips": address})
        coverage.write(Path(new) / "moc.fits")
        (Path(new) / "survey.json").write_text(note, encoding="utf-8")
        for name in ("moc.fits", "survey.json"):
            (Path(new) / name).replace(folder / name)
