"""VOSI 1.1: whether the service is up. Capabilities and tables are TAP's (`inzitu.vo.tap`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vo_models.vosi.availability.models import Availability

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


def availability(*, up_since: datetime, available: bool = True, notes: Iterable[str] = ()) -> bytes:
    """Return the availability document."""
    document = Availability(available=available, up_since=up_since, note=list(notes))
    # Here everything but `available` is optional in the schema, and an empty moment would be invalid.
    content = document.to_xml(skip_empty=True, encoding="UTF-8", xml_declaration=True)
    return content if isinstance(content, bytes) else content.encode()
