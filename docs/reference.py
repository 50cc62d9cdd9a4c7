"""Writes the two pages of the reference that the code says itself: the commands, and the resources over HTTP.

``python docs/reference.py`` writes `reference/cli.md` and `reference/http.md`; tests/docs holds them against the code.
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from fastapi.routing import APIRoute

from inzitu.cli import app as commands
from inzitu.manifest import Manifest
from inzitu.web import pages
from inzitu.web.app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HERE = Path(__file__).parent
SERVICES = {
    "jobs": "Jobs and what can be asked for",
    "tap-async": "Asynchronous queries",
    "tap": "Queries",
    "provenance": "Provenance",
    "artefacts": "Artefacts and models",
}


def cli_page() -> str:
    """Return the page of the commands."""
    parts = [
        "# Commands\n\n`inzitu COMMAND --help` says the same in a terminal. A fault is one line on standard error, and "
        "the exit status 1.\n"
    ]
    for path, command in _commands(typer.main.get_command(commands), ()):
        parts.append(f"## {' '.join(path)}\n\n{_plain(command.help)}\n")
        if rows := [_parameter(each) for each in command.params]:
            parts.append(_table(("", "default", "what"), rows))
    return "\n".join(parts)


def http_page() -> str:
    """Return the page of the resources."""
    app = create_app(Manifest.load(HERE.parent / "manifest.yaml"))
    parts = [
        "# Resources over HTTP\n\n`/openapi.json` says the same to a program. Names of parameters are in any case; "
        "those of a form may stand in the query as well. `HEAD` is answered wherever `GET` "
        "is. [Jobs](uws.md), [queries](../use/adql.md) and [provenance](provenance.md) have pages of their own.\n"
    ]
    operations = [
        (operation["tags"][0], (f"`{method.upper()} {path}`", _asked(operation), _plain(operation["description"])))
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    ]
    order = list(SERVICES)
    for tag, rows in groupby(sorted(operations, key=lambda item: order.index(item[0])), key=lambda item: item[0]):
        parts.append(f"## {SERVICES[tag]}\n")
        parts.append(_table(("resource", "parameters", "what"), (row for _, row in rows)))
    shown = [route for route in pages.router.routes if isinstance(route, APIRoute)]
    parts.append("## Pages, for a browser\n")
    parts.append(
        _table(
            ("resource", "what"),
            ((f"`{min(page.methods or ())} {page.path}`", _plain(page.endpoint.__doc__)) for page in shown),
        )
    )
    return "\n".join(parts)


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))
    if path and not hasattr(command, "commands"):
        yield path, command


def _parameter(parameter: Any) -> tuple[str, str, str]:
    """Return the row of an argument or an option."""
    argument = parameter.param_type_name == "argument"
    name = (
        (parameter.metavar or parameter.name.upper())
        if argument
        else "`, `".join((*parameter.opts, *parameter.secondary_opts))
    )
    default = "needed" if parameter.required else "" if parameter.default is None else f"`{parameter.default}`".lower()
    if parameter.envvar:
        default = f"`${parameter.envvar}`, else {default}"
    return f"`{name}`", "" if default in ("`false`", "`()`") else default, _plain(parameter.help)


def _asked(operation: dict[str, Any]) -> str:
    """Return the names of what a resource takes, from its query or its form."""
    names = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        names += content["schema"].get("properties", {})
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))


def _plain(text: str | None) -> str:
    """Return the first paragraphs of a docstring, each as one line."""
    said = re.split(r"\n\n(?:Raises|Parameters|Returns)\n", text or "")[0].strip()
    return "\n\n".join(" ".join(part.split()) for part in said.split("\n\n"))


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    (HERE / "reference" / "cli.md").write_text(cli_page(), encoding="utf-8")
    (HERE / "reference" / "http.md").write_text(http_page(), encoding="utf-8")
