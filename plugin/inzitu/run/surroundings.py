"""What a result depends on besides its inputs: the code, the libraries, the device and the state of the archive."""

from __future__ import annotations

import hashlib
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import inzitu
from inzitu.hips import Survey

if TYPE_CHECKING:
    from inzitu.manifest import ArchiveSection

_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "numba", "astropy", "cdshealpix", "mocpy", "pyarrow")


@cache
def code_version() -> str:
    """Return the release, and a hash of the sources, so that edited code never passes for the code before."""
    hashed = hashlib.sha256()
    for root in sorted(inzitu.__path__):
        for path in sorted(Path(root).rglob("*.py")):
            hashed.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return f"{version('inzitu')}+sha256.{hashed.hexdigest()[:16]}"


@cache
def software() -> dict[str, str]:
    """Return the versions of Python and of the libraries that the numbers come from."""
    found = {"python": platform.python_version(), "inzitu": version("inzitu")}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def device() -> str:
    """Return what the numbers were computed on: the accelerator once JAX is loaded, else the processor."""
    jax = sys.modules.get("jax")
    if jax is None:
        return platform.machine()
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform}), {platform.machine()}"


def archive_state(archive: ArchiveSection) -> str:
    """Return a hash that changes with the archive: with the surveys' properties and coverage and the catalogue's files.

    The tiles themselves are too many to hash before each job; each one read is in the record with its digest. An
    archive that replaces tiles changes `hips_release_date` (HiPS 1.0, section 4.4.1), and so this hash.
    """
    hashed = hashlib.sha256()
    for entry in archive.surveys:
        properties = Survey.open(entry.hips).properties
        hashed.update(repr((entry.band, entry.hips, sorted(properties.items()))).encode())
        hashed.update(repr(_state_of(Path(entry.moc or f"{entry.hips}/Moc.fits"))).encode())
    hashed.update(archive.catalogue.model_dump_json().encode())
    if archive.catalogue.path:
        catalogue = Path(archive.catalogue.path)
        files = sorted(catalogue.rglob("*")) if catalogue.is_dir() else [catalogue]
        hashed.update(repr([_state_of(file) for file in files]).encode())
    return hashed.hexdigest()


def _state_of(path: Path) -> tuple[str, int, int] | None:
    """Return what changes with a file; None where there is none, as behind an http(s) address."""
    if not path.is_file():
        return None
    about = path.stat()
    return str(path), about.st_size, about.st_mtime_ns
