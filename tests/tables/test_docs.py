"""The queries in the documentation run, and it names every function."""

import re
from pathlib import Path

import pytest

from inzitu.tables.adql.functions import USER_FUNCTIONS
from tables.sample import Ask

DOCS = Path(__file__).parents[2] / "docs"
QUERIES = re.findall(r"```sql\n(.*?)```", (DOCS / "use" / "adql.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_of_the_documentation_runs(ask: Ask, query: str) -> None:
    ask(query)


@pytest.mark.parametrize("query", QUERIES)
def test_an_independent_grammar_of_adql_takes_it_too(query: str) -> None:
    pyadql = pytest.importorskip("pyadql", reason="pyadql is not installed: pip install pyadql")
    pyadql.parse_tree(query)


def test_every_function_of_ours_is_documented() -> None:
    text = (DOCS / "use" / "adql.md").read_text() + (DOCS / "reference" / "pdf-functions.md").read_text()
    assert len(QUERIES) >= 5
    assert [name for name in USER_FUNCTIONS if f"{name}(" not in text] == []
