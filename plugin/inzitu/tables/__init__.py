"""Published tables and the archive's catalogue, queried in ADQL: DuckDB over Parquet, in place."""
