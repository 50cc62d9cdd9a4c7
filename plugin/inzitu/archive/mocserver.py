"""Surveys known by their identifiers: coverage and address of the HiPS, from the MOCServer through astroquery."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, override

import requests

from inzitu.archive.patience import Patience, PatientService
from inzitu.errors import ArchiveFault, ParameterFault
from inzitu.sky import Coverage

if TYPE_CHECKING:
    from collections.abc import Iterator

IDENTIFIER = re.compile(r"(ivo://)?[\w.+-]+(/[\w.+()-]+)+")
"""CDS/P/SDSS9/r: no wildcard and no operator of the server's query language."""
PATIENCE = Patience(silence=30.0, answer=90.0, attempts=3)


class MocServer(PatientService):
    """A MOCServer, for the length of a block.

    Parameters
    ----------
    server
        Its URL, if it is not that of CDS.
    patience
        How long it is waited for.
    """

    def __init__(self, server: str = "", patience: Patience = PATIENCE) -> None:
        super().__init__(patience)
        self._server = server

    @override
    def __enter__(self) -> Self:
        # astroquery takes a second to import; most deployments name their surveys by folder.
        from astroquery.mocserver import MOCServerClass

        self._client: Any = MOCServerClass()
        self._client._session = self._session
        self._client.URL = self._server or self._client.URL
        return self

    def coverage(self, identifier: str) -> Coverage:
        """Return the coverage of a survey.

        Raises
        ------
        ParameterFault
            That is no identifier.
        ArchiveFault
            The server does not answer, not with a MOC, or knows no such survey.
        """
        name = _name(identifier)
        with self._faults():
            response = self._ask(name, return_moc="smoc")
        try:
            coverage = Coverage.from_text(response.text)
        except ValueError as error:
            raise ArchiveFault(f"The MOCServer {self._client.URL} sent no MOC for {name}: {error}.") from error
        if coverage.area == 0:
            raise ArchiveFault(
                f"The MOCServer {self._client.URL} knows no coverage of {name}; check the identifier, or give a MOC."
            )
        return coverage

    def address(self, identifier: str) -> str:
        """Return the base of the HiPS of a survey.

        Raises
        ------
        ParameterFault
            That is no identifier.
        ArchiveFault
            The server does not answer, knows no such survey, or the survey has no HiPS of FITS tiles.
        """
        name = _name(identifier)
        with self._faults():
            response = self._ask(name, fields=["ID", "hips_service_url", "hips_tile_format"])
        try:
            [record] = [record for record in response.json() if record["ID"] == name]
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveFault(
                f"The MOCServer {self._client.URL} knows no survey {name}; check the identifier, or give the address."
            ) from error
        address, tiles = str(record.get("hips_service_url", "")), str(record.get("hips_tile_format", ""))
        if not address.startswith(("http://", "https://")):
            raise ArchiveFault(f"The survey {name} has no HiPS, says the MOCServer {self._client.URL}.")
        if "fits" not in tiles.split():
            raise ArchiveFault(
                f"The HiPS of {name} at {address} has tiles in {tiles or 'no known format'}, and none in FITS: its "
                "pixels are pictures, not measurements."
            )
        return address

    def _ask(self, name: str, **wanted: Any) -> requests.Response:
        response: requests.Response = self._client.query_async(
            criteria=f"ID={name}", casesensitive=True, cache=False, **wanted
        )
        response.raise_for_status()
        return response

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (requests.RequestException, TimeoutError) as error:
            raise ArchiveFault(
                f"The MOCServer {self._client.URL} does not answer: {error}. Try again, or give a MOC and an address."
            ) from error


def _name(identifier: str) -> str:
    if not IDENTIFIER.fullmatch(identifier):
        raise ParameterFault(f"{identifier!r} is no survey's identifier; give one such as CDS/P/SDSS9/r.")
    return identifier.removeprefix("ivo://")
