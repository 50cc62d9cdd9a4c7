"""CasJobs of SDSS: long queries under an account, by its REST interface (SciServer's; astroquery has none).

The answer of a query is written to a table of the account's MyDB, read from there in pieces, and removed. The table's
name is drawn by lot and noted with the number of the job that writes it, so that only who has the note, and only once
that job has finished, takes the table for the answer. User and password come from the environment, are sent to the
login only, and are never written anywhere.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Self, override

import requests

from inzitu.archive.patience import Answer, Patience, PatientService, in_a_line
from inzitu.archive.sdss import KEY, next_rows, table_of
from inzitu.errors import ArchiveFault, ManifestFault

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import pyarrow as pa

    from inzitu.manifest import SdssSource

_log = logging.getLogger(__name__)
_SERVER = "https://skyserver.sdss.org"


class _Status(IntEnum):
    """What became of a job, as CasJobs numbers it."""

    READY = 0
    STARTED = 1
    CANCELING = 2
    CANCELED = 3
    FAILED = 4
    FINISHED = 5


_IN_VAIN = (_Status.CANCELING, _Status.CANCELED, _Status.FAILED)


class CasJobs(PatientService):
    """An account at CasJobs, for the length of a block.

    Parameters
    ----------
    source
        The manifest's entry, which names the environment variables with user and password.
    patience
        How long it is waited for.
    top
        Most rows that an answer written to MyDB may have.
    folder
        Holds the note of the table in MyDB until that is dropped.

    Raises
    ------
    ManifestFault
        One of the variables is not set.
    """

    key = KEY

    def __init__(self, source: SdssSource, patience: Patience, *, top: int, folder: Path) -> None:
        super().__init__(patience)
        self._source, self._top = source, top
        self._user, self._password = _secret(source.casjobs_user), _secret(source.casjobs_password)
        self._note, self._finished = folder / "casjobs.json", False

    @override
    def __enter__(self) -> Self:
        self._session.headers["X-Auth-Token"] = self._token()
        return self

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._note.exists():
            self._drop(json.loads(self._note.read_text(encoding="utf-8"))["table"])
            self._note.unlink()
        super().__exit__(kind, error, trace)

    def rows(self, sql: str, after: str | None, most: int) -> tuple[pa.Table, Answer]:
        """Return the rows of a composed query that follow an identifier, in order.

        Raises
        ------
        ArchiveFault
            CasJobs fails, or refuses the query.
        """
        name = self._written(next_rows(sql, None, self._top))
        condition = "" if after is None else f" WHERE {KEY} > {int(after)}"
        return self._query("MyDB", f"SELECT TOP {most} * FROM {name}{condition} ORDER BY {KEY}")

    def ask(self, sql: str, _most: int | None = None) -> tuple[pa.Table, Answer]:
        """Return the rows of a query, as they come.

        Raises
        ------
        ArchiveFault
            CasJobs fails, or refuses the query.
        """
        return self._query(self._context, sql)

    @property
    def _context(self) -> str:
        return f"DR{self._source.release}"

    def _token(self) -> str:
        user = {"name": self._user, "password": self._password}
        identity = {"auth": {"identity": {"password": {"user": user}}}}
        response = self._send("POST", self._source.casjobs_login, json=identity)
        if not response.ok or "X-Subject-Token" not in response.headers:
            raise ArchiveFault(
                f"CasJobs does not let us in: {self._source.casjobs_login} answers {response.status_code}. Check what "
                f"the environment has as {self._source.casjobs_user} and {self._source.casjobs_password}."
            )
        return str(response.headers["X-Subject-Token"])

    def _written(self, sql: str) -> str:
        """Return the table of MyDB that holds a query's answer, once its job has finished."""
        noted = json.loads(self._note.read_text(encoding="utf-8")) if self._note.exists() else {}
        if not self._finished:
            if noted.get("query") != sql or self._job(noted["job"])["Status"] in _IN_VAIN:
                noted = self._begin(sql)
            self._await(noted["job"])
            self._finished = True
        return str(noted["table"])

    def _begin(self, sql: str) -> dict[str, str]:
        """Have a query's answer written to a new table, and note which, and by which job."""
        table = f"inzitu_{secrets.token_hex(8)}"
        query = sql.replace(" FROM ", f" INTO mydb.{table} FROM ", 1)
        response = self._send(
            "PUT", f"{self._base}/contexts/{self._context}/jobs", json={"Query": query, "TaskName": "inzitu"}
        )
        if not response.ok or not response.text.strip().isdecimal():
            raise ArchiveFault(f"CasJobs takes no job: it answers {response.status_code}: {in_a_line(response.text)}")
        noted = {"query": sql, "table": table, "job": response.text.strip()}
        temporary = self._note.with_suffix(".tmp")
        temporary.write_text(json.dumps(noted), encoding="utf-8")
        temporary.replace(self._note)
        return noted

    def _await(self, job: str) -> None:
        deadline, pause = time.monotonic() + self._patience.job, 0.2
        while (found := self._job(job))["Status"] < _Status.CANCELED:
            if time.monotonic() + pause > deadline:
                self._send("DELETE", f"{self._base}/jobs/{job}")
                raise ArchiveFault(f"CasJobs' job {job} has not ended after {self._patience.job:g} s; ask for less.")
            time.sleep(pause)
            pause = min(10.0, 1.5 * pause)
        if found["Status"] != _Status.FINISHED:
            raise ArchiveFault(f"CasJobs' job {job} failed: {found.get('Message') or 'it does not say why'}.")

    def _drop(self, table: str) -> None:
        """Remove a table from MyDB; the list has come whether or not that succeeds."""
        try:
            self._query("MyDB", f"DROP TABLE {table}")
        except ArchiveFault as fault:
            _log.warning("The table %s stays in MyDB: %s", table, fault)

    def _job(self, job: str) -> dict[str, Any]:
        response = self._send("GET", f"{self._base}/jobs/{job}")
        try:
            found: dict[str, Any] = response.json()
            return found | {"Status": _Status(int(found["Status"]))}
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveFault(f"CasJobs does not tell of its job {job}: {in_a_line(response.text)}") from error

    def _query(self, context: str, sql: str) -> tuple[pa.Table, Answer]:
        response = self._send(
            "POST",
            f"{self._base}/contexts/{context}/query",
            json={"Query": sql, "TaskName": "inzitu"},
            headers={"Accept": "text/plain"},
        )
        if not response.ok:
            raise ArchiveFault(f"CasJobs answers {response.status_code} to the query: {in_a_line(response.text)}")
        return table_of(response.text, "CasJobs"), self._answer

    @property
    def _base(self) -> str:
        return f"{self._source.server or _SERVER}/CasJobs/RestApi"

    def _send(self, method: str, url: str, **options: Any) -> requests.Response:
        try:
            return self._session.request(method, url, **options)
        except requests.RequestException as error:
            raise ArchiveFault(f"CasJobs does not answer: {error}.") from error


def _secret(variable: str) -> str:
    if not os.environ.get(variable):
        raise ManifestFault(f"The manifest names the environment variable {variable} for CasJobs, which is not set.")
    return os.environ[variable]
