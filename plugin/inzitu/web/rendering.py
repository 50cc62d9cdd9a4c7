"""Templates to pages."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from inzitu.jobs.costs import duration, written
from inzitu.pipelines.declaration import as_sent
from inzitu.web.deployment import deployment_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import Request, Response

    from inzitu.jobs.job import Entry, Job
    from inzitu.pipelines import Pipeline


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """Return a page."""
    address = str(request.base_url).rstrip("/")
    page = _environment().get_template(template)
    content = page.render(
        manifest=deployment_of(request).manifest,
        base=request.scope.get("root_path", ""),
        address=address,
        version=metadata.version("inzitu"),
        status=status,
        **values,
    )
    return HTMLResponse(content, status_code=status)


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {
        "moment": _moment,
        "duration": duration,
        "amount": _amount,
        "took": _took,
        "figure": _figure,
        "place": _place,
        "parameters": _parameters,
    }
    return environment


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _took(job: Job | Entry) -> str:
    if job.started is None:
        return ""
    return duration(((job.ended or datetime.now(UTC)) - job.started).total_seconds())


def _amount(value: float | None, name: str) -> Markup:
    """Return an amount with its unit; the number itself comes up under the pointer."""
    if value is None:
        return Markup()
    return Markup('<span title="{}">{}</span>').format(f"{value:,.15g}", written(name, value))


def _figure(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1000 else f"{value:.6g}"
        case list():
            return ", ".join(map(_figure, value))
        case _:
            return str(value)


def _place(location: str) -> str:
    """Return an address whole, and of a path the end: how the host is arranged is nobody's business."""
    return location if "://" in location else "/".join(Path(location).parts[-2:])


def _parameters(pipeline: Pipeline) -> Iterator[tuple[str, str, str]]:
    """Yield each parameter's name, what it says, and its default."""
    for name, step in pipeline.fields():
        field = step.parameters.model_fields[name]
        yield name, field.description or "", as_sent(pipeline.defaults.get(name, field.default))
