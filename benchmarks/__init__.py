"""Measurements of the parts, each beside its peers; see `python -m benchmarks`."""
