"""The service by HTTP: routes of at most a few lines each, and the pages. Never loads JAX."""
