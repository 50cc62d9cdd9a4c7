import io
from datetime import UTC, datetime

import pyvo.io.vosi

from inzitu.vo.vosi import availability
from vo.schemas import complaints

SINCE = datetime(2026, 11, 21, 3, 15, tzinfo=UTC)


def test_availability_is_valid_and_pyvo_reads_it() -> None:
    document = availability(up_since=SINCE, notes=["2 jobs wait", "anonymous"])
    read = pyvo.io.vosi.parse_availability(io.BytesIO(document))
    assert read.available
    assert list(read.notes) == ["2 jobs wait", "anonymous"]
    assert b"2026-11-21T03:15:00.000Z" in document
    assert complaints(document) == []


def test_a_service_that_is_down_says_so() -> None:
    assert b"<available>false</available>" in availability(up_since=SINCE, available=False)
