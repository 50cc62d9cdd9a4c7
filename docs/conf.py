"""Sphinx's settings; `make docs` builds, and a warning is an error."""

project = "inzitu"
author = "the inzitu developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "inzitu"
exclude_patterns = ["_build", "changes"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
