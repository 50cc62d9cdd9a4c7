"""Drawings: a PROV document as a graph, laid out by Graphviz where the machine has it.

Entities are ovals, activities boxes, agents houses, in the colours of the W3C primer; arrows point to where things
came from.
"""

from __future__ import annotations

import shutil
import subprocess

from prov.model import ProvActivity, ProvAgent, ProvDocument, ProvElement, ProvRecord, ProvRelation

MOST_NODES = 600
"""Nodes of the largest graph that is drawn: beyond it nobody can read it and the layout takes minutes."""

SECONDS = 30
"""Longest time for the layout [s]."""

_STYLES = {
    ProvActivity: 'shape=box, fillcolor="#9FB1FC", color="#0000FF"',
    ProvAgent: 'shape=house, fillcolor="#FED37F", color="#808080"',
}
_ENTITY = 'shape=oval, fillcolor="#FFFC87", color="#808080"'


def draw(document: ProvDocument, kind: str) -> bytes:
    """Return a drawing of a document.

    Parameters
    ----------
    kind
        svg or png.

    Raises
    ------
    ValueError
        The document has more than `MOST_NODES` elements.
    OSError
        Graphviz is not installed, or failed.
    """
    nodes = sum(1 for _ in document.get_records(ProvElement))
    if nodes > MOST_NODES:
        raise ValueError(f"the record has {nodes} nodes and at most {MOST_NODES} are drawn: ask for a smaller DEPTH")
    program = shutil.which("dot")
    if program is None:
        raise OSError("drawings of the record need Graphviz (the program dot), which is not installed here")
    try:
        done = subprocess.run(
            [program, f"-T{kind}"], input=to_dot(document).encode(), capture_output=True, timeout=SECONDS, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"the record takes more than {SECONDS} s to draw: ask for a smaller DEPTH") from error
    except subprocess.CalledProcessError as error:
        raise OSError(f"Graphviz could not draw the record: {error.stderr.decode(errors='replace')}") from error
    return done.stdout


def to_dot(document: ProvDocument) -> str:
    """Return a document as a graph in the DOT language."""
    nodes = {str(record.identifier): _node(record) for record in document.get_records(ProvElement)}
    edges = [edge for record in document.get_records(ProvRelation) if (edge := _edge(record, nodes)) is not None]
    return "\n".join(["digraph provenance {", 'rankdir="BT"; node [style=filled];', *nodes.values(), *edges, "}"])


def _node(record: ProvRecord) -> str:
    style = next((style for kind, style in _STYLES.items() if isinstance(record, kind)), _ENTITY)
    name = str(record.identifier)
    label = str(record.label) if str(record.label) != name else name.split(":", 1)[-1][:20]
    return f"{_quoted(name)} [label={_quoted(label)}, tooltip={_quoted(name)}, {style}];"


def _edge(record: ProvRecord, nodes: dict[str, str]) -> str | None:
    """Return the relation as an arrow, or None if one of its ends is not in the document."""
    ends = [str(value) for _, value in record.formal_attributes[:2]]
    if not set(ends) <= nodes.keys():
        return None
    label = next(iter(sorted(map(str, record.get_attribute("prov:role")))), _relation(record))
    return f'{_quoted(ends[0])} -> {_quoted(ends[1])} [label={_quoted(label)}, fontsize=10, color="#606060"];'


def _relation(record: ProvRecord) -> str:
    return type(record).__name__.removeprefix("Prov")


def _quoted(text: str) -> str:
    clean = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ").replace("\r", " ")
    return f'"{clean}"'
