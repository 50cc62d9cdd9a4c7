"""The parameters and files of a request, read as they arrive.

A file goes to disk in the pieces in which it comes and is never whole in memory; one that is too big is refused as soon
as it is. What the parameters mean is for `inzitu.vo.dali` and the services.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers

from inzitu.errors import LimitFault, ParameterFault
from inzitu.jobs.job import Upload
from inzitu.vo.dali import Parameters, uploads

if TYPE_CHECKING:
    from starlette.requests import Request

_FIELDS_BYTES = 1 << 20
_FILES = 16
# What XML 1.0 cannot hold; no parameter needs it.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """A file of a form, on disk."""

    path: Path
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Form:
    """What a request asks: its query and its body together."""

    parameters: Parameters
    files: Mapping[str, FilePart] = field(default_factory=dict)

    def uploads(self, state: Path) -> tuple[Upload, ...]:
        """Return the tables of the UPLOAD parameters; `state` is the folder that their paths are taken from.

        Raises
        ------
        ParameterFault
            A table's file is not in the form, or a file belongs to no table.
        """
        requests = uploads(self.parameters)
        found = []
        for request in requests:
            if request.file is None:
                found.append(Upload(name=request.name, path="", uri=request.uri))
                continue
            part = self.files.get(request.file)
            if part is None:
                raise ParameterFault(
                    f"UPLOAD={request.name},{request.uri}: the form has no file {request.file!r}; "
                    "send it as multipart/form-data under that name."
                )
            path = str(part.path.relative_to(state))
            found.append(
                Upload(name=request.name, path=path, uri=request.uri, media_type=part.media_type, size=part.size)
            )
        if needless := set(self.files) - {request.file for request in requests}:
            name = min(needless)
            raise ParameterFault(f"The file {name!r} is no table yet: say which with UPLOAD=NAME,param:{name}.")
        return tuple(found)


async def read_form(request: Request, folder: Path, *, file_bytes: int) -> Form:
    """Read a request.

    Parameters
    ----------
    folder
        Where files go; made if there are any.
    file_bytes
        Largest file [byte].

    Raises
    ------
    ParameterFault
        The body is no form, or a value holds control characters.
    LimitFault
        A file, or the fields together, are too big.
    """
    query = parse_qsl(request.url.query, keep_blank_values=True)
    content_type, options = parse_options_header(request.headers.get("content-type"))
    files: Mapping[str, FilePart] = {}
    pairs: list[tuple[str, str]] = []
    match content_type:
        case b"multipart/form-data":
            body = _Multipart(options.get(b"boundary", b""), folder, file_bytes)
            try:
                await _feed(request, body)
            finally:
                body.close()
            pairs, files = body.pairs, body.files
        case b"application/x-www-form-urlencoded" | b"":
            pairs = parse_qsl(await _text(request), keep_blank_values=True)
        case _:
            raise ParameterFault(
                f"The body is {content_type.decode('latin-1')!r}; send application/x-www-form-urlencoded, "
                "or multipart/form-data with files."
            )
    for name, value in (*query, *pairs):
        if _CONTROL.search(name + value):
            raise ParameterFault(f"The value of {_CONTROL.sub('?', name)} holds control characters; leave them out.")
    return Form(Parameters((*query, *pairs)), files)


async def _text(request: Request) -> str:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _FIELDS_BYTES:
            raise LimitFault(
                f"The parameters exceed {_FIELDS_BYTES} bytes; send tables as files in multipart/form-data."
            )
    return body.decode("utf-8", errors="replace")


async def _feed(request: Request, body: _Multipart) -> None:
    """Give the body its pieces.

    A client that is still sending does not read the answer, so what follows a fault is read and dropped, up to the
    size of one more file.
    """
    fault: Exception | None = None
    dropped = 0
    async for piece in request.stream():
        if fault is not None:
            dropped += len(piece)
            if dropped > body.file_bytes:
                break
            continue
        try:
            await asyncio.to_thread(body.write, piece)
        except FormParserError as error:
            fault = ParameterFault(f"The body is no valid multipart/form-data: {error}.")
        except (LimitFault, ParameterFault) as error:
            fault = error
    if fault is not None:
        raise fault
    body.finish()


class _Multipart:
    """The parts of a multipart body: fields in memory, files on disk."""

    def __init__(self, boundary: bytes, folder: Path, file_bytes: int) -> None:
        if not boundary:
            raise ParameterFault("The body is multipart/form-data without a boundary.")
        self.file_bytes = file_bytes
        self.pairs: list[tuple[str, str]] = []
        self.files: dict[str, FilePart] = {}
        self._folder = folder
        self._fields_left = _FIELDS_BYTES
        self._headers: list[tuple[bytes, bytes]] = []
        self._name = ""
        self._media_type = ""
        self._value = bytearray()
        self._file: IO[bytes] | None = None
        self._size = 0
        self._ended = False
        self._header_name = bytearray()
        self._header_value = bytearray()
        try:
            self._parser = MultipartParser(boundary, self._callbacks())  # type: ignore[arg-type]  # a TypedDict
        except FormParserError as error:
            raise ParameterFault(f"The body is no valid multipart/form-data: {error}.") from error

    def write(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._parser.write(piece)

    def finish(self) -> None:
        """Check that the body has come to its end."""
        self._parser.finalize()
        if not self._ended:
            raise ParameterFault(
                "The body of multipart/form-data is cut off before its closing boundary; send it again."
            )

    def close(self) -> None:
        """Close what is open."""
        if self._file is not None:
            self._file.close()

    def _callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._end_body,
        }

    def _begin(self) -> None:
        self._headers = []
        self._value = bytearray()
        self._size = 0

    def _end_header(self) -> None:
        self._headers.append((bytes(self._header_name).lower(), bytes(self._header_value)))
        self._header_name.clear()
        self._header_value.clear()

    def _end_headers(self) -> None:
        headers = Headers(raw=self._headers)
        _, options = parse_options_header(headers.get("content-disposition"))
        if b"name" not in options:
            raise ParameterFault("A part of the form has no name.")
        self._name = options[b"name"].decode("utf-8", errors="replace")
        self._media_type = headers.get("content-type", "application/octet-stream")
        if b"filename" in options:
            if self._name in self.files:
                raise ParameterFault(f"Two files are named {self._name!r}; give each a name of its own.")
            if len(self.files) == _FILES:
                raise LimitFault(f"The form has more than {_FILES} files.")
            own = self._folder / str(len(self.files))
            own.mkdir(parents=True, exist_ok=True)
            self._file = (own / _file_name(options[b"filename"])).open("xb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._file is None:
            self._fields_left -= end - start
            if self._fields_left < 0:
                raise LimitFault(f"The fields of the form exceed {_FIELDS_BYTES} bytes; send tables as files.")
            self._value += data[start:end]
            return
        if self._size > self.file_bytes:
            raise LimitFault(
                f"The file {self._name!r} is larger than {self.file_bytes} bytes, the limit of this deployment; "
                "send fewer columns or rows, or Parquet instead of text."
            )
        self._file.write(data[start:end])

    def _end(self) -> None:
        if self._file is None:
            self.pairs.append((self._name, self._value.decode("utf-8", errors="replace")))
            return
        self._file.close()
        path = Path(self._file.name)
        self.files[self._name] = FilePart(path=path, media_type=self._media_type, size=self._size)
        self._file = None

    def _end_body(self) -> None:
        self._ended = True


def _file_name(given: bytes) -> str:
    """Return what messages call a client's file: like its name, but it leads nowhere else."""
    last = re.split(r"[/\\]", given.decode("utf-8", errors="replace"))[-1]
    return re.sub(r"[^A-Za-z0-9.+-]", "_", last).lstrip(".")[-100:] or "file"
