"""HATS catalogues and collections, as LSDB writes them: the rows are those of the catalogue, once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inzitu.archive.counterparts import counterparts
from inzitu.archive.matching import crossmatch_files
from inzitu.archive.partitions import partitions
from inzitu.errors import TableFault
from inzitu.manifest import CatalogueEntry, Manifest
from inzitu.sky import cell29, cell_of
from inzitu.tables.holdings import Holdings
from tables.test_published import tables

__all__ = ["tables"]  # a fixture

ROWS = 900


@pytest.fixture
def sky() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.uniform(0, 360, ROWS), np.degrees(np.arcsin(rng.uniform(-1, 1, ROWS)))


def write(root: Path, ra: np.ndarray, dec: np.ndarray, *, kind: str = "object") -> Path:
    """A catalogue with its previews and its properties; the names of its positions are nobody's guess."""
    table = pa.table({"_healpix_29": cell29(ra, dec), "number": np.arange(len(ra)), "x_c": ra, "y_c": dec})
    cells = cell_of(ra, dec, 0)
    (root / "dataset/Norder=0/Dir=0").mkdir(parents=True)
    for npix in range(12):
        pq.write_table(table.filter(cells == npix), root / f"dataset/Norder=0/Dir=0/Npix={npix}.parquet")
    pq.write_table(table.slice(0, 12), root / "dataset/data_thumbnail.parquet")
    pq.write_metadata(table.schema, root / "dataset/_metadata")
    (root / "partition_info.csv").write_text("Norder,Npix\n" + "".join(f"0,{npix}\n" for npix in range(12)))
    stated = {"dataproduct_type": kind, "hats_nrows": len(ra), "hats_col_ra": "x_c", "hats_col_dec": "y_c"}
    lines = "".join(f"{key}={value}\n" for key, value in stated.items())
    (root / "hats.properties").write_text(f"#HATS catalog\n{lines}")
    return root


@pytest.fixture
def collection(sky: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> Path:
    """The catalogue with the margin of each cell, which for the test is all of its rows again."""
    root = tmp_path / "collection"
    write(root / "objects", *sky)
    write(root / "objects_10arcs", *sky, kind="margin")
    (root / "collection.properties").write_text(
        "#HATS Collection\nobs_collection=test\nhats_primary_table_url=objects\nall_margins=objects_10arcs\n"
        "default_margin=objects_10arcs\n"
    )
    return root


def test_the_positions_are_in_the_columns_that_the_catalogue_states(
    sky: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    pq.write_table(pa.table({"ra": sky[0], "dec": sky[1]}), tmp_path / "a.parquet")
    catalogue, out = write(tmp_path / "objects", *sky), tmp_path / "pairs.parquet"
    counts = crossmatch_files(tmp_path / "a.parquet", catalogue, 1.0, out)
    assert (counts.pairs, counts.rows_b) == (ROWS, ROWS)
    counts = crossmatch_files(tmp_path / "a.parquet", catalogue, 1.0, out, columns_b=("y_c", "number"))
    assert counts.pairs < ROWS  # what is named goes before what is stated
    (catalogue / "hats.properties").write_text("obs_collection=test\n")
    with pytest.raises(TableFault, match="no positions that can be recognised"):
        crossmatch_files(tmp_path / "a.parquet", catalogue, 1.0, out)


def test_the_rows_of_a_collection_are_those_of_its_catalogue(
    sky: tuple[np.ndarray, np.ndarray], collection: Path, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"ra": sky[0], "dec": sky[1]}), tmp_path / "a.parquet")
    counts = crossmatch_files(tmp_path / "a.parquet", collection, 1.0, tmp_path / "pairs.parquet", every=True)
    assert (counts.pairs, counts.rows_b) == (ROWS, ROWS)
    pairs = pq.read_table(tmp_path / "pairs.parquet")
    number = pq.ParquetDataset(collection / "objects/dataset/Norder=0").read(columns=["number"])["number"]
    assert number.take(pairs["row_b"]).to_pylist() == pairs["row_a"].to_pylist()


def test_a_deployments_catalogue_may_be_a_collection(
    sky: tuple[np.ndarray, np.ndarray], collection: Path, tables: object
) -> None:
    entry = CatalogueEntry(path=str(collection), id="number", ra="x_c", dec="y_c", magnitudes=[])
    assert sum(part.rows or 0 for part in partitions(collection)) == ROWS
    found = counterparts(entry, sky[0][:50], sky[1][:50], 1.0, rows=1000)
    assert found.columns["number"].to_pylist() == [str(number) for number in range(50)]
    archive = {"surveys": [{"band": "r", "hips": "hips"}], "catalogue": entry.model_dump()}
    [table] = Holdings(Manifest.model_validate({"archive": archive}), tables).tables()  # type: ignore[arg-type]
    assert table.count == ROWS


@pytest.mark.parametrize("stated", ["obs_collection=test\n", "hats_primary_table_url=lost\n"])
def test_a_collection_without_its_catalogue_is_refused_with_the_remedy(collection: Path, stated: str) -> None:
    (collection / "collection.properties").write_text(stated)
    with pytest.raises(TableFault, match=r"hats_primary_table_url.*is no folder in it; name that of the catalogue"):
        partitions(collection)
