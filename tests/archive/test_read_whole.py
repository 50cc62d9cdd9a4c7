"""Tables that cannot be read some rows at a time, and Parquet within gzip, which can be once it is unpacked."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import Table

from inzitu.archive import partitions
from inzitu.archive.formats import read_table
from inzitu.archive.matching import crossmatch_files
from inzitu.archive.partitions import Partition
from inzitu.errors import TableFault

ROWS = 3000


def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {"ra": rng.uniform(0, 360, ROWS), "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, ROWS)))}


def ascii_fits(path: Path) -> Path:
    made = [fits.Column(name, "E25.17", array=values, ascii=True) for name, values in columns().items()]
    fits.TableHDU.from_columns(made).writeto(path)
    return path


def commented_votable(path: Path) -> Path:
    from_table(Table(columns())).to_xml(str(path), tabledata_format="tabledata")
    path.write_text(path.read_text().replace("</TR>", "</TR><!-- a row -->", 1))
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_read_whole_is_refused_where_it_is_large(
    packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ascii_fits(tmp_path / "table")
    size = path.stat().st_size
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    pq.write_table(pa.table(columns()), tmp_path / "b.parquet")
    assert crossmatch_files(path, tmp_path / "b.parquet", 1.0, tmp_path / "pairs.parquet").pairs == ROWS
    monkeypatch.setattr(partitions, "MOST_WHOLE", size - 1)
    with pytest.raises(TableFault, match=r"table has .* MB in a form of fits that is read whole.*into Parquet"):
        crossmatch_files(path, tmp_path / "b.parquet", 1.0, tmp_path / "pairs.parquet")


def test_comments_among_the_rows_of_a_votable_are_no_rows(tmp_path: Path) -> None:
    path = commented_votable(tmp_path / "a.vot")
    pq.write_table(pa.table(columns()), tmp_path / "b.parquet")
    assert crossmatch_files(path, tmp_path / "b.parquet", 1.0, tmp_path / "pairs.parquet").pairs == ROWS
    path.write_text(path.read_text().replace("a row -->", "<TR><TD>1</TD></TR> -->"))
    assert crossmatch_files(path, tmp_path / "b.parquet", 1.0, tmp_path / "pairs.parquet").pairs == ROWS
    path.write_text(path.read_text().replace("<!-- <TR><TD>1</TD></TR> -->", "<![CDATA[ ]]>"))
    with pytest.raises(TableFault, match="CDATA, or a long comment with rows in it, among its rows; write it without"):
        crossmatch_files(path, tmp_path / "b.parquet", 1.0, tmp_path / "pairs.parquet")


def test_a_votable_with_fits_inside_is_refused_with_the_remedy(tmp_path: Path) -> None:
    head, _, tail = commented_votable(tmp_path / "a.vot").read_text().replace("</DATA>", "<DATA>").split("<DATA>")
    (tmp_path / "a.vot").write_text(f'{head}<DATA><FITS extnum="1"><STREAM>QQ==</STREAM></FITS></DATA>{tail}')
    with pytest.raises(TableFault, match=r"a\.vot keeps its rows in a FITS file within the VOTable; send that file"):
        read_table(tmp_path / "a.vot")


def test_parquet_within_gzip_is_read_some_rows_at_a_time(tmp_path: Path) -> None:
    rows = 1 << 20
    table = pa.table({"ra": np.random.default_rng(1).uniform(0, 360, rows), "dec": np.zeros(rows)})
    pq.write_table(table, tmp_path / "plain.parquet", row_group_size=1 << 14)
    (tmp_path / "packed").write_bytes(gzip.compress((tmp_path / "plain.parquet").read_bytes(), 1))
    part = Partition.whole(tmp_path / "packed")
    before, most, read = pa.total_allocated_bytes(), 0, []
    tracemalloc.start()
    for some, share in part.batches(["ra"], rows=1 << 14):
        assert some.num_rows <= 1 << 14
        most = max(most, pa.total_allocated_bytes() - before + tracemalloc.get_traced_memory()[0])
        read.append(share)
    tracemalloc.stop()
    assert read == sorted(read)
    assert (len(read), read[-1]) == (64, 1.0)
    assert most < rows * 8 / 2
    assert part.schema.names == ["ra", "dec"]
