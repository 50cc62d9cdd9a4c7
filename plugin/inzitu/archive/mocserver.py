"""Coverages of surveys known by their identifiers, from the MOCServer of CDS through astroquery."""

from __future__ import annotations

import re

from inzitu.errors import ArchiveFault, ParameterFault
from inzitu.sky import Coverage

IDENTIFIER = re.compile(r"(ivo://)?[\w.+-]+(/[\w.+()-]+)+")
"""CDS/P/SDSS9/r: no wildcard and no operator of the server's query language."""
SECONDS = 30.0
"""How long the server may be silent [s]."""


def coverage_by_id(identifier: str, *, server: str | None = None, seconds: float = SECONDS) -> Coverage:
    """Return the coverage of a survey.

    Parameters
    ----------
    identifier
        Identifier of the survey at the MOCServer: CDS/P/SDSS9/r.
    server
        Base URL of another MOCServer than that of CDS.
    seconds
        How long the server may be silent [s].

    Raises
    ------
    ParameterFault
        That is no identifier.
    ArchiveFault
        The server does not answer, not with a MOC, or knows no such survey.
    """
    if not IDENTIFIER.fullmatch(identifier):
        raise ParameterFault(f"{identifier!r} is no survey's identifier; give one such as CDS/P/SDSS9/r.")
    # astroquery takes a second to import; most deployments name their surveys by folder.
    import requests
    from astroquery.mocserver import MOCServerClass

    client = MOCServerClass()
    client.URL, client.TIMEOUT = server or client.URL, seconds
    name = identifier.removeprefix("ivo://")
    try:
        answer = client.query_async(criteria=f"ID={name}", return_moc="smoc", casesensitive=True, cache=False)
        answer.raise_for_status()
        coverage = Coverage.from_text(answer.text)
    except (requests.RequestException, TimeoutError, OSError) as error:
        raise ArchiveFault(f"The MOCServer {client.URL} does not answer: {error}. Try again, or give a MOC.") from error
    except ValueError as error:
        raise ArchiveFault(f"The MOCServer {client.URL} sent no MOC for {name}: {error}.") from error
    if coverage.area == 0:
        raise ArchiveFault(
            f"The MOCServer {client.URL} knows no coverage of {name}; check the identifier, or give a MOC."
        )
    return coverage
