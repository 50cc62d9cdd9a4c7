from datetime import UTC, datetime, timedelta

import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from inzitu.errors import ParameterFault
from inzitu.vo.dali import Parameters, UploadRequest, maxrec, moment, response_format, uploads, written

NAMES = st.sampled_from(["LANG", "lang", "Lang", "QUERY"])


@given(st.lists(st.tuples(NAMES, st.text(max_size=3))))
def test_names_have_no_case_values_keep_their_order_and_empty_ones_are_none(pairs: list[tuple[str, str]]) -> None:
    given_values = Parameters(pairs)
    expected = tuple(value for name, value in pairs if name.lower() == "lang" and value)
    assert given_values.all("lAnG") == expected
    assert ("LANG" in given_values) == bool(expected)
    assert not given_values.without("lang").all("LANG")


def test_a_parameter_that_may_stand_once_stands_once() -> None:
    assert Parameters([("A", "1"), ("a", "1")]).one("A") == "1"
    with pytest.raises(ParameterFault, match="PHASE is given as 'RUN' and 'ABORT'; give it once"):
        Parameters([("PHASE", "RUN"), ("phase", "ABORT")]).one("phase")


@pytest.mark.parametrize("text", ["1.5", " 1", "1_0", "٣", "0x1", "9" * 19, "one"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(ParameterFault, match="is no whole number"):
        Parameters([("LAST", text)]).integer("LAST")


def test_a_number_below_its_least_value_is_refused() -> None:
    with pytest.raises(ParameterFault, match="LAST=-1 is below its least value, 1"):
        Parameters([("LAST", "-1")]).integer("LAST", at_least=1)


def test_uploads_come_repeated_or_joined_and_by_file_or_address() -> None:
    given_values = Parameters(
        [("UPLOAD", "training,param:a;targets,param:b"), ("upload", "more, http://example.org/t.vot")]
    )
    training, targets, more = uploads(given_values)
    assert (training.name, training.file, targets.file) == ("training", "a", "b")
    assert more == UploadRequest("more", "http://example.org/t.vot")
    assert more.file is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("training", "is no pair"),
        ("training,", "is no pair"),
        ("1st,param:a", "is no pair"),
        ("a b,param:a", "is no pair"),
        ("t,param:", "comes by param:FILE"),
        ("t,file:///etc/passwd", "comes by param:FILE"),
        ("t,param:a;T,param:b", "two tables 'T'"),
    ],
)
def test_a_wrong_upload_is_refused_with_its_words(value: str, message: str) -> None:
    with pytest.raises(ParameterFault, match=message):
        uploads(Parameters([("UPLOAD", value)]))


def test_maxrec_is_brought_down_to_the_hard_limit() -> None:
    def of(*pairs: tuple[str, str]) -> int:
        return maxrec(Parameters(pairs), default=10, hard=100)

    assert (of(), of(("MAXREC", "0")), of(("maxrec", "50")), of(("MAXREC", "1000"))) == (10, 0, 50, 100)
    with pytest.raises(ParameterFault, match="MAXREC=-1"):
        of(("MAXREC", "-1"))


def test_responseformat_goes_before_format() -> None:
    assert response_format(Parameters([("FORMAT", "csv"), ("RESPONSEFORMAT", "fits")])) == "fits"
    assert response_format(Parameters([("format", "csv")])) == "csv"
    assert response_format(Parameters()) is None


# Before 1972 the seconds of UTC had another length.
@given(st.datetimes(min_value=datetime(1972, 1, 2), max_value=datetime(2026, 12, 31)))
def test_a_moment_written_is_read_back_by_us_and_by_astropy(at: datetime) -> None:
    at = at.replace(tzinfo=UTC)
    text = written(at)
    assert text.endswith("Z")
    assert abs(moment(text) - at) <= timedelta(milliseconds=1)
    theirs = Time(text.removesuffix("Z"), format="isot", scale="utc")
    assert theirs.isot == text.removesuffix("Z")


def test_dates_and_whole_minutes_are_moments() -> None:
    assert moment("2026-11-21") == datetime(2026, 11, 21, tzinfo=UTC)
    assert moment("2026-11-21T03:15") == moment("2026-11-21T03:15:00.000Z") == datetime(2026, 11, 21, 3, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2026-13-01", "tomorrow", "2026-11-21T03:15:00+02:00", "20261121", "2026-11-21T25:00:00"]
)
def test_what_is_no_moment_in_utc_is_refused(text: str) -> None:
    with pytest.raises(ParameterFault, match=r"AFTER=.* is no moment in UTC, such as"):
        Parameters([("AFTER", text)]).moment("after")
