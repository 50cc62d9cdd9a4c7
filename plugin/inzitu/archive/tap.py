"""A TAP service of somebody else, asked through pyvo: asynchronously, with uploads, within its limits.

Covers one query and its answer. Which queries find the counterparts of a list is `inzitu.archive.nearby`; the
service's manners (silence, 503, half an answer) are `inzitu.archive.patience`.
"""

from __future__ import annotations

import io
import re
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from inzitu.archive.astropy_tables import arrow_of
from inzitu.archive.patience import Answer, Patience, PatientService, in_a_line
from inzitu.archive.votables import refuse_what_reaches_out
from inzitu.errors import ArchiveFault, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa
    from astropy.table import Table

_REGULAR = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_DELIMITED = re.compile(r'"[^"\x00-\x1f]+"')
_ROWS = re.compile(rb"<TABLE\b[^>]*\bnrows\s*=\s*[\"'](\d+)[\"']")
BYTES_A_ROW = 256
"""What a row of an upload or of an answer takes at most, where a service counts bytes [byte]."""


def identifier(name: str) -> str:
    """Return a column's name as ADQL writes it: as it is, or between double quotes (ADQL 2.1, section 2.1.2).

    Raises
    ------
    ValueError
        The name holds quotes or control characters.
    """
    if _REGULAR.fullmatch(name) or _DELIMITED.fullmatch(name):
        return name
    if not _DELIMITED.fullmatch(f'"{name}"'):
        raise ValueError(f"{name!r} is no name of a column: it must not be empty, nor hold quotes or line breaks")
    return f'"{name}"'


def table_identifier(name: str) -> str:
    """Return a table's name as ADQL writes it: catalogue.schema.table, each part as `identifier` says.

    Raises
    ------
    ValueError
        It is no name of a table.
    """
    parts = re.findall(r'"[^"]*"|[^."]+', name)
    if not 1 <= len(parts) <= 3 or ".".join(parts) != name:
        raise ValueError(f"{name!r} is no name of a table; write schema.table, odd parts between double quotes")
    return ".".join(identifier(part) for part in parts)


@dataclass(frozen=True, slots=True)
class Reply:
    """The rows that answer a query.

    Attributes
    ----------
    table
        The rows.
    overflow
        Whether the service has more rows than it sent.
    answer
        Where they came from, and their digest.
    """

    table: pa.Table
    overflow: bool
    answer: Answer


@dataclass(frozen=True, slots=True)
class TapLimits:
    """What a service takes and gives at most; None where it does not say.

    Attributes
    ----------
    uploads
        Whether it takes tables with a query.
    upload_rows
        Most rows of such a table.
    output_rows
        Most rows of an answer.
    """

    uploads: bool
    upload_rows: int | None
    output_rows: int | None


class TapService(PatientService):
    """A TAP service, for the length of a block.

    Parameters
    ----------
    url
        Its base URL, without /sync.
    folder
        Holds an answer while it is read.
    patience
        How long it is waited for.
    """

    def __init__(self, url: str, *, folder: Path, patience: Patience | None = None) -> None:
        super().__init__(patience or Patience())
        self.url = url.rstrip("/")
        self._folder = folder

    def limits(self) -> TapLimits:
        """Return the limits that the service's capabilities name (TAPRegExt 1.0).

        Raises
        ------
        ArchiveFault
            It does not tell its capabilities.
        """
        with self._faults("does not tell its capabilities"):
            capability = self._service().get_tap_capability()
        # Old services write ivo://ivoa.org/tap/uploadmethods#inline.
        inline = any((method.ivo_id or "").endswith("inline") for method in capability.uploadmethods)
        return TapLimits(inline, _rows(capability.uploadlimit), _rows(capability.outputlimit))

    def ask(self, adql: str, *, uploads: Mapping[str, Table] | None = None, most: int | None = None) -> Reply:
        """Send a query as an asynchronous job and return its rows.

        Parameters
        ----------
        adql
            The query.
        uploads
            Tables that it names as TAP_UPLOAD.name.
        most
            Most rows wanted; the service may have a lower limit of its own.

        Raises
        ------
        ArchiveFault
            The service fails, does not end in time, or sends no table.
        """
        with self._faults("does not answer the query"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyvo warns of overflow and odd VOTables; both are looked at below
            with self._service().submit_job(adql, maxrec=most, uploads=dict(uploads or {})) as job:
                job.run()
                self._await(job)
                return self._reply(job.result_uri, most)

    def _service(self) -> Any:
        from pyvo.dal import TAPService  # takes a second

        return TAPService(self.url, session=self._session)

    def _await(self, job: Any) -> None:
        """Poll a job until it ends; give it up when its time is over."""
        deadline, pause = time.monotonic() + self._patience.job, 0.1
        while (phase := job.phase) in ("PENDING", "QUEUED", "EXECUTING", "HELD", "SUSPENDED", "UNKNOWN"):
            if time.monotonic() + pause > deadline:
                raise ArchiveFault(
                    f"The job {job.url} of the TAP service is still {phase} after {self._patience.job:g} s. "
                    "Try again later, or ask for less."
                )
            time.sleep(pause)
            pause = min(10.0, 1.5 * pause)
        job.raise_if_error()

    def _reply(self, uri: str, most: int | None) -> Reply:
        from astropy.io.votable import parse
        from pyvo.dal.tap import TAPResults

        response = self._session.get(uri)
        response.raise_for_status()
        answer = self._answer
        path = self._folder / "answer.vot"
        path.write_bytes(response.content)
        refuse_what_reaches_out(path)
        path.unlink()
        results = TAPResults(parse(io.BytesIO(response.content), verify="ignore"), url=uri)
        rows = len(results)
        if (said := _ROWS.search(response.content)) and int(said[1]) != rows:
            raise ArchiveFault(f"The TAP service {self.url} says nrows={int(said[1])} of a table with {rows} rows.")
        overflow = results.query_status == "OVERFLOW" or (most is not None and rows >= most)
        return Reply(arrow_of(results.to_table(), {}), overflow, answer)

    @contextmanager
    def _faults(self, what: str) -> Iterator[None]:
        """Say of whatever pyvo, astropy or the network raise that it is this service's."""
        from pyvo.dal.exceptions import DALAccessError

        try:
            yield
        except ArchiveFault:
            raise
        except Fault as error:  # what an upload would be refused for
            raise ArchiveFault(f"The TAP service {self.url} sends a table that is refused: {error}") from error
        except (DALAccessError, requests.RequestException, ValueError, OSError, LookupError, TypeError) as error:
            said = in_a_line(str(error), 400).rstrip(".")
            raise ArchiveFault(f"The TAP service {self.url} {what}: {said}.") from error


def _rows(limit: Any) -> int | None:
    """Return the rows that a limit of TAPRegExt allows; one in bytes is turned into rows."""
    hard = getattr(limit, "hard", None) or getattr(limit, "default", None)
    if hard is None or not hard.content:
        return None
    return max(1, int(hard.content) // (BYTES_A_ROW if hard.unit == "byte" else 1))
