"""What an error in a query says: where, what, and what was perhaps meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from sqlglot import exp

from inzitu.errors import QueryFault


def fault(node: exp.Expr | None, message: str) -> QueryFault:
    """Return a fault that says where in the query it is."""
    place = _place(node) if node is not None else None
    return QueryFault(f"Line {place[0]}, column {place[1]}: {message}" if place else message)


def _place(node: exp.Expr) -> tuple[int, int] | None:
    """Return line and column where a node begins, as far as the parser has kept them."""
    places = [
        (part.meta["line"], part.meta["col"] - (part.meta["end"] - part.meta["start"]))
        for part in node.walk()
        if "line" in part.meta and "end" in part.meta
    ]
    return min(places, default=None)


def meant(name: str, known: Iterable[str]) -> str:
    """Return what to try in place of a name that is not known."""
    names = list(dict.fromkeys(known))
    close = get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.6)
    if close:
        return f" Did you mean {next(n for n in names if n.lower() == close[0])}?"
    few = names[:20]
    return (
        f" There {'are' if len(names) != 1 else 'is'} {', '.join(few)}{', ...' if len(names) > 20 else ''}."
        if few
        else ""
    )


def only(node: exp.Expr, parts: set[str], what: str) -> None:
    """Refuse a node that has more than it may: a clause or word that the parser knows and the language does not.

    Raises
    ------
    QueryFault
        It has.
    """
    for key, value in node.args.items():
        if value and key not in parts:
            raise fault(node, f"{key.strip('_').upper()} is not part of {what}.")
