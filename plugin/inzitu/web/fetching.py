"""Tables at an address: UPLOAD=name,https://... fetched within limits, and from the public net only."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from inzitu.errors import LimitFault, ParameterFault

_SECONDS = 30.0


def fetch(uri: str, path: Path, *, most_bytes: int) -> Path:
    """Fetch a file and return where it lies.

    The service stands inside a data centre, so an address that leads to the service's own net is refused, and
    redirections, which could lead there, are not followed.

    Raises
    ------
    ParameterFault
        The address leads nowhere, inside, or elsewhere.
    LimitFault
        The file is larger than allowed.
    """
    _refuse_inside(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    try:
        with httpx.stream("GET", uri, timeout=_SECONDS, follow_redirects=False) as response, path.open("wb") as file:
            if response.status_code != 200:
                raise ParameterFault(f"{uri} answers {response.status_code}; give the address of the table itself.")
            for piece in response.iter_bytes():
                size += len(piece)
                if size > most_bytes:
                    raise LimitFault(f"The table at {uri} is larger than {most_bytes} bytes, the limit here.")
                file.write(piece)
    except httpx.HTTPError as error:
        raise ParameterFault(f"{uri} cannot be fetched: {error}.") from error
    return path


def _refuse_inside(uri: str) -> None:
    parts = urlsplit(uri)
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        found = socket.getaddrinfo(parts.hostname, port, proto=socket.IPPROTO_TCP)
    except (OSError, KeyError, ValueError, UnicodeError) as error:
        raise ParameterFault(f"{uri} is no address that can be reached: {error}.") from error
    if not all(ipaddress.ip_address(address[4][0]).is_global for address in found):
        raise ParameterFault(f"{uri} leads to a private net; send the table with param: instead.")
