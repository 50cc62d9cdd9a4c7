"""What has come of an answer that takes many requests: kept part by part, so that whoever goes on asks for the rest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from inzitu.archive.patience import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_READING = pa.schema([("uri", pa.string()), ("sha256", pa.string()), ("bytes", pa.int64())])


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the answer to one question, each a Parquet file that names the answer it was made from."""

    folder: Path

    @classmethod
    def of(cls, folder: Path, *question: object) -> Parts:
        """Return the parts that a folder holds of a question; those of another question are removed."""
        folder.mkdir(parents=True, exist_ok=True)
        note, digest = folder / "question", hashlib.sha256(repr(question).encode()).hexdigest()
        if not note.exists() or note.read_text(encoding="utf-8") != digest:
            for part in folder.glob("part-*"):
                part.unlink()
            note.write_text(digest, encoding="utf-8")
        return cls(folder)

    def get(self, name: str) -> pa.Table | None:
        """Return a part, if it has come."""
        path = self._path(name)
        return pq.read_table(path) if path.exists() else None

    def keep(self, name: str, table: pa.Table, answer: Answer) -> None:
        """Keep a part; it counts once its file has its name."""
        temporary = self.folder / "part.tmp"
        pq.write_table(table.replace_schema_metadata({"answer": json.dumps(asdict(answer))}), temporary)
        temporary.rename(self._path(name))

    def join(self, names: Sequence[str]) -> pa.Table:
        """Return the rows of some parts, in order; a column may hold integers in one and fractions in another."""
        tables = [pq.read_table(self._path(name)).replace_schema_metadata(None) for name in names]
        return pa.concat_tables(tables, promote_options="permissive")

    def reading(self, names: Sequence[str]) -> Path:
        """Write the list of the answers that some parts were made from."""
        said = [json.loads(pq.read_schema(self._path(name)).metadata[b"answer"]) for name in names]
        path = self.folder / "answers.parquet"
        pq.write_table(pa.Table.from_pylist(said, schema=_READING), path)
        return path

    def _path(self, name: str) -> Path:
        return self.folder / f"part-{name}.parquet"
