"""DALI 1.1: parameters as the protocols' clients send them, and moments as they are written.

Names are case-insensitive and values may be repeated (section 2.1); an empty value is no value. Nothing here knows what
a parameter means to a service.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from inzitu.errors import ParameterFault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?)?(Z|\+00:00)?")


class Parameters:
    """The parameters of a request, in their order.

    Parameters
    ----------
    pairs
        Names and values, as they came.
    """

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs: tuple[tuple[str, str], ...] = tuple(pairs)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    def all(self, name: str) -> tuple[str, ...]:
        """Return every value of a parameter that is not empty."""
        return tuple(value for key, value in self.pairs if key.upper() == name.upper() and value != "")

    def one(self, name: str, default: str | None = None) -> str | None:
        """Return the value of a parameter that may stand once.

        Raises
        ------
        ParameterFault
            It stands twice with different values.
        """
        values = dict.fromkeys(self.all(name))
        if len(values) > 1:
            shown = " and ".join(map(repr, values))
            raise ParameterFault(f"{name.upper()} is given as {shown}; give it once.")
        return next(iter(values), default)

    def integer(self, name: str, *, at_least: int | None = None) -> int | None:
        """Return the value of a parameter as a whole number, or None."""
        text = self.one(name)
        if text is None:
            return None
        # int() reads Unicode digits, blanks and underscores, too; a protocol's integer is none of these.
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ParameterFault(f"{name.upper()}={text!r} is no whole number of at most 18 digits.")
        value = int(text)
        if at_least is not None and value < at_least:
            raise ParameterFault(f"{name.upper()}={value} is below its least value, {at_least}.")
        return value

    def moment(self, name: str) -> datetime | None:
        """Return the value of a parameter as a moment, or None."""
        text = self.one(name)
        return None if text is None else moment(text, name=name)

    def without(self, *names: str) -> Parameters:
        """Return the parameters but those of these names."""
        dropped = {name.upper() for name in names}
        return Parameters((name, value) for name, value in self.pairs if name.upper() not in dropped)


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """One table of an UPLOAD parameter.

    Attributes
    ----------
    name
        What the request calls the table.
    uri
        Where it is: ``param:a`` for the multipart file a, or an http(s) address.
    """

    name: str
    uri: str

    @property
    def file(self) -> str | None:
        """The name of the multipart file that brings the table, or None where it has an address."""
        return self.uri[len("param:") :] if self.uri.lower().startswith("param:") else None


def uploads(parameters: Parameters) -> tuple[UploadRequest, ...]:
    """Read the UPLOAD parameters: ``name,uri``, repeated or joined by semicolons (DALI 1.1, section 3.4.5).

    Raises
    ------
    ParameterFault
        One is malformed, or two tables have one name.
    """
    found: dict[str, UploadRequest] = {}
    for value in parameters.all("UPLOAD"):
        for item in filter(None, value.split(";")):
            name, comma, uri = (part.strip() for part in item.partition(","))
            if not comma or not _TABLE_NAME.fullmatch(name) or not uri:
                raise ParameterFault(
                    f"UPLOAD={item!r} is no pair of a table's name and its place: write NAME,param:FILE."
                )
            if not uri.lower().startswith(("param:", "http://", "https://")) or uri.lower() == "param:":
                raise ParameterFault(f"UPLOAD={item!r}: a table comes by param:FILE or from an http(s) address.")
            if name.lower() in found:
                raise ParameterFault(f"UPLOAD names two tables {name!r}; give each a name of its own.")
            found[name.lower()] = UploadRequest(name, uri)
    return tuple(found.values())


def maxrec(parameters: Parameters, *, default: int, hard: int) -> int:
    """Return the most rows to return; 0 asks for the metadata alone, more than `hard` is `hard`."""
    value = parameters.integer("MAXREC", at_least=0)
    return min(default if value is None else value, hard)


def response_format(parameters: Parameters) -> str | None:
    """Return RESPONSEFORMAT, or its older name FORMAT, or None."""
    return parameters.one("RESPONSEFORMAT") or parameters.one("FORMAT")


def moment(text: str, *, name: str = "time") -> datetime:
    """Read a moment, which is UTC (DALI 1.1, section 3.3.3).

    Raises
    ------
    ParameterFault
        It is none, or of another zone.
    """
    try:
        if not _MOMENT.fullmatch(text):
            raise ValueError("another form")
        return datetime.fromisoformat(text.removesuffix("Z").removesuffix("+00:00")).replace(tzinfo=UTC)
    except ValueError as error:
        raise ParameterFault(f"{name.upper()}={text!r} is no moment in UTC, such as 2026-11-21T03:15:00Z.") from error


def written(at: datetime) -> str:
    """Write a moment as the protocols have it: UTC, milliseconds, Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
