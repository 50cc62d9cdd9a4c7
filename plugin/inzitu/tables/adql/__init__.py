"""ADQL: the Astronomical Data Query Language, version 2.1, translated to DuckDB's SQL.

`dialect` is the grammar, `scopes` what names mean, `functions` and `geometry` what may be called, `expressions` and
`translation` the way from one tree to the other, `joins` the joins by position.
"""
