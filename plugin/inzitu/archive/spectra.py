"""Lists of sources with redshift, out of the sources that the manifest names: SDSS, or tables behind TAP.

Rows come in the order of their identifiers, a page at a time, each page after the last row of the one before. A list
is complete when a page is empty, or as long as was asked: a page that is shorter than asked proves nothing, as services
cut answers without saying so. Finished pages are kept.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from inzitu.archive import sdss, tap_lists
from inzitu.archive.casjobs import CasJobs
from inzitu.archive.parts import Parts
from inzitu.archive.patience import Answer, Patience, insist
from inzitu.errors import ArchiveFault, LimitFault, ParameterFault
from inzitu.manifest import SdssSource, TapSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from inzitu.manifest import Manifest, Source
    from inzitu.pipelines.download import DownloadParameters

PAGE = 50_000
"""Rows that are asked for at a time."""

type _Service = sdss.SkyServer | CasJobs | tap_lists.TapList


def check_download(parameters: DownloadParameters, manifest: Manifest) -> Source:
    """Return the source that a list is to come from, if it can be asked for what the parameters want.

    Raises
    ------
    ParameterFault
        There is no such source, or it cannot be asked that.
    LimitFault
        More rows than a job may have.
    """
    source = manifest.sources.get(parameters.source)
    if source is None:
        there = ", ".join(manifest.sources) or "none; its operator can name some in the manifest"
        raise ParameterFault(f"SOURCE={parameters.source} is no source of this service; it has {there}.")
    if parameters.top > manifest.limits.rows:
        raise LimitFault(
            f"TOP={parameters.top:,} is more than the {manifest.limits.rows:,} rows a job may have; ask for fewer."
        )
    _question(parameters, source)
    return source


def fetch_spectra(
    parameters: DownloadParameters,
    source: Source,
    *,
    folder: Path,
    patience: Patience | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[pa.Table, Path]:
    """Fetch a list.

    Parameters
    ----------
    parameters
        What it is to hold.
    source
        Where it comes from.
    folder
        Keeps the finished pages; called again with the same folder and question, it goes on from these.
    patience
        How long the service is waited for.
    progress
        Called with the rows that have come, and the most that will.

    Returns
    -------
    tuple
        The rows, and a reading: the answers that they were made from.

    Raises
    ------
    ArchiveFault
        The service fails, or sends what was not asked for; the finished pages stay.
    """
    patience = patience or Patience()
    parts = Parts.of(folder, parameters, source)
    question = _question(parameters, source)
    with _service(source, folder, patience, parameters.top) as service:
        if parameters.query is not None:
            names = [_answer(service, question, parameters.top, parts, patience)]
        else:
            names = _pages(service, question, parameters.top, parts, patience, progress)
        return parts.join(names), parts.reading(names)


def _question(parameters: DownloadParameters, source: Source) -> str:
    """Return the query in the source's language."""
    match source:
        case SdssSource() if parameters.query is not None:
            return sdss.restricted(parameters.query, min(parameters.top, sdss.MOST_ROWS))
        case SdssSource():
            return sdss.composed(parameters)
        case TapSource():
            return parameters.query or tap_lists.composed(parameters, source)


def _service(source: Source, folder: Path, patience: Patience, top: int) -> _Service:
    match source:
        case SdssSource(casjobs_user=""):
            return sdss.SkyServer(source, patience)
        case SdssSource():
            return CasJobs(source, patience, top=top, folder=folder)
        case TapSource():
            return tap_lists.TapList(source, folder=folder, patience=patience)


def _answer(service: _Service, query: str, top: int, parts: Parts, patience: Patience) -> str:
    """Have a user's own query answered; return the name of the part."""
    name = "answer"
    if parts.get(name) is None:
        table, answer = insist(lambda: service.ask(query, top), patience)
        parts.keep(name, _few_enough(table, top), answer)
    return name


def _pages(
    service: _Service,
    question: str,
    top: int,
    parts: Parts,
    patience: Patience,
    progress: Callable[[int, int], None],
) -> list[str]:
    """Have all pages of a list sent; return the names of the parts."""
    names: list[str] = []
    seen: set[Any] = set()
    last: Any = None
    while len(seen) < top:
        names.append(f"{len(names)}")
        page = parts.get(names[-1])
        if page is None:
            ask = partial(_page, service, question, last, min(PAGE, top - len(seen)), seen)
            page, answer = insist(ask, patience)
            parts.keep(names[-1], page, answer)
        if page.num_rows == 0:
            break
        identifiers = page[service.key].to_pylist()
        seen.update(identifiers)
        last = identifiers[-1]
        progress(len(seen), top)
    return names


def _page(service: _Service, question: str, after: Any, most: int, seen: set[Any]) -> tuple[pa.Table, Answer]:
    """Return the rows that follow an identifier.

    Raises
    ------
    ArchiveFault
        The service sends other rows, or more.
    """
    table, answer = service.rows(question, after, most)
    if table.num_rows == 0:
        return table, answer
    if missing := {service.key, "ra", "dec", "z"} - set(table.column_names):
        raise ArchiveFault(f"{answer.uri.partition('?')[0]} sends no column {', '.join(sorted(missing))}.")
    identifiers = _few_enough(table, most)[service.key].to_pylist()
    if len(set(identifiers)) < len(identifiers) or not seen.isdisjoint(identifiers):
        raise ArchiveFault(f"{answer.uri.partition('?')[0]} sends rows twice, though asked for others.")
    return table, answer


def _few_enough(table: pa.Table, most: int) -> pa.Table:
    if table.num_rows > most:
        raise ArchiveFault(f"The service sends {table.num_rows:,} rows, though asked for at most {most:,}.")
    return table
