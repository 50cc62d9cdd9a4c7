"""ADQL as a dialect of sqlglot: its words, and no others, so that what is not ADQL is not parsed as something else.

Covers the grammar. What the words mean, and which of the trees that parse are allowed, is `translation`.
"""

from __future__ import annotations

import re
from typing import ClassVar

from sqlglot import exp, parser, tokens
from sqlglot.dialects.dialect import Dialect, NormalizationStrategy
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import TokenType

from inzitu.errors import QueryFault

LONGEST_QUERY = 1_000_000
"""Characters; enough for a list of 50,000 identifiers."""

_SYMBOLS = {
    "<=": TokenType.LTE,
    ">=": TokenType.GTE,
    "<>": TokenType.NEQ,
    "!=": TokenType.NEQ,
    "||": TokenType.DPIPE,
    "TOP": TokenType.TOP,
}

# fmt: off
_WORDS = (
    "ALL", "AND", "AS", "ASC", "BETWEEN", "BIGINT", "CASE", "CHAR", "CHARACTER", "CROSS", "DATE", "DESC",
    "DISTINCT", "DOUBLE", "ELSE", "END", "EXCEPT", "EXISTS", "FALSE", "FLOAT", "FROM", "FULL", "HAVING",
    "ILIKE", "IN", "INNER", "INT", "INTEGER", "INTERSECT", "IS", "JOIN", "LEFT", "LIKE", "NATURAL", "NOT",
    "NULL", "OFFSET", "ON", "OR", "OUTER", "REAL", "RIGHT", "SELECT", "SMALLINT", "THEN", "TIMESTAMP", "TRUE",
    "UNION", "USING", "VARCHAR", "WHEN", "WHERE", "WITH", "DOUBLE PRECISION", "GROUP BY", "ORDER BY",
)
# fmt: on


class ADQL(Dialect):
    """ADQL 2.1 (REC-ADQL-2.1, section 2)."""

    NORMALIZATION_STRATEGY = NormalizationStrategy.CASE_SENSITIVE
    NULL_ORDERING = "nulls_are_last"

    class Tokenizer(tokens.Tokenizer):
        """The words and signs of ADQL."""

        QUOTES: ClassVar = ["'"]
        IDENTIFIERS: ClassVar = ['"']
        COMMENTS: ClassVar = ["--"]
        KEYWORDS: ClassVar = _SYMBOLS | {word: tokens.Tokenizer.KEYWORDS[word] for word in _WORDS}

    class Parser(parser.Parser):
        """Functions are names with arguments; `functions` and `geometry` say which there are."""

        FUNCTIONS: ClassVar = {}
        FUNCTION_PARSERS: ClassVar = {"CAST": parser.Parser.FUNCTION_PARSERS["CAST"]}
        NO_PAREN_FUNCTIONS: ClassVar = {}
        NO_PAREN_FUNCTION_PARSERS: ClassVar = {"CASE": parser.Parser.NO_PAREN_FUNCTION_PARSERS["CASE"]}


def parse(query: str) -> exp.Query:
    """Return the tree of one ADQL query.

    Raises
    ------
    QueryFault
        It is no ADQL; the message gives the line and column.
    """
    if len(query) > LONGEST_QUERY:
        raise QueryFault(
            f"The query has {len(query)} characters; {LONGEST_QUERY} are allowed. Send long lists with UPLOAD and join."
        )
    dialect = ADQL()
    try:
        words = dialect.tokenize(query)
        if words and words[0].token_type not in (TokenType.SELECT, TokenType.WITH, TokenType.L_PAREN):
            raise QueryFault(
                f"The query begins with {words[0].text!r}, not with SELECT or WITH. Only SELECT is allowed."
            )
        trees = [tree for tree in dialect.parser().parse(words, query) if tree is not None]
    except ParseError as error:
        raise QueryFault(_located(error, query)) from error
    except TokenError as error:
        raise QueryFault(f"The query cannot be read: {str(error).splitlines()[0]}.") from error
    except RecursionError as error:
        raise QueryFault("The query is nested too deeply; write it with fewer parentheses, or with WITH.") from error
    if len(trees) != 1:
        raise QueryFault(f"QUERY holds {len(trees)} statements; send one SELECT.")
    if not isinstance(trees[0], exp.Query):
        raise QueryFault("A query begins with SELECT or WITH. Only SELECT is allowed.")
    return trees[0]


_REMEDIES = (
    (r"\blimit\s+\d", "ADQL has TOP: SELECT TOP 10 ..."),
    (r"\bover\s*\(", "ADQL has no window functions."),
    (r"\bwith\s+recursive\b", "WITH RECURSIVE is not part of ADQL 2.1."),
    (r"/\*", "Comments begin with -- and end with the line."),
)


def _located(error: ParseError, query: str) -> str:
    """Return a parse error in one line, with its place and, where one is known, the remedy."""
    first = error.errors[0] if error.errors else {"line": 1, "col": 1, "description": "it cannot be parsed"}
    described = re.sub(r" but got <Token.*| for <class.*", "", str(first["description"])).rstrip(".")
    described = described.replace("Invalid expression / Unexpected token", "Unexpected word or sign")
    described = described.replace("Required keyword: 'expression' missing", "An expression is missing")
    near = f" near {first['highlight']!r}" if first.get("highlight") else ""
    remedies = [remedy for pattern, remedy in _REMEDIES if re.search(pattern, query, re.IGNORECASE)]
    return " ".join([f"Line {first['line']}, column {first['col']}: {described}{near}.", *remedies])
