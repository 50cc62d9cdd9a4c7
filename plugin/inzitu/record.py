"""The operator's look into the record of a deployment, without its service: ``inzitu prov`` and ``inzitu verify``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from inzitu.errors import NotFoundFault
from inzitu.jobs.database import open_engine
from inzitu.manifest import Manifest
from inzitu.prov import formats
from inzitu.prov.documents import document
from inzitu.prov.history import UnrecordedError
from inzitu.prov.lineage import lineage
from inzitu.prov.recorder import Recorder, metadata
from inzitu.prov.store import ArtefactStore
from inzitu.prov.verification import read_local, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from inzitu.prov.verification import Verdict


def provenance(manifest: Path, id: str, output: str) -> bytes:
    """Return the provenance of an artefact, an activity or a job in a format by name.

    Raises
    ------
    NotFoundFault
        The record does not know it.
    """
    wanted = formats.format_of(output)
    with _recorder(manifest) as recorder:
        try:
            return formats.write(document(lineage(recorder, id)), wanted)
        except UnrecordedError as error:
            raise NotFoundFault(str(error)) from error


def verification(manifest: Path, id: str, progress: Callable[[int], None]) -> Verdict:
    """Hash an artefact and all that it came from again, tiles and catalogues of the archive included."""
    with _recorder(manifest) as recorder:
        return verify(recorder, id, read=read_local, progress=progress)


@contextmanager
def _recorder(path: Path) -> Iterator[Recorder]:
    manifest = Manifest.load(path)
    engine = open_engine(manifest.database_url)
    try:
        metadata.create_all(engine)
        yield Recorder(engine, ArtefactStore(manifest.artefacts))
    finally:
        engine.dispose()
