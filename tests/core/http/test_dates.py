from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_to_datetime
from typing import Optional

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowmaestro_core.http.dates import http_date, parse_http_date

MOMENTS = st.datetimes(
    min_value=datetime(1000, 1, 1),
    max_value=datetime(9999, 12, 31),
    timezones=st.just(timezone.utc),
).map(lambda moment: moment.replace(microsecond=0))

# Of RFC 9110, 5.6.7.
EXAMPLE = 784111777.0


@pytest.mark.parametrize(
    "text", ["  Sun, 06 Nov 1994 08:49:37 GMT ", "sun, 06 nov 1994 08:49:37 gmt"]
)
def test_spaces_around_a_date_and_the_case_of_its_letters_do_not_count(text: str) -> None:
    assert parse_http_date(text) == EXAMPLE


@given(moment=MOMENTS)
def test_http_dates_agree_with_the_standard_library(moment: datetime) -> None:
    fixdate = format_datetime(moment, usegmt=True)
    assert parse_http_date(fixdate) == parsedate_to_datetime(fixdate).timestamp()
    assert http_date(moment.timestamp() + 0.5) == fixdate
    assert parse_http_date(fixdate) == moment.timestamp()


@given(moment=MOMENTS)
def test_an_asctime_date_is_parsed(moment: datetime) -> None:
    assert parse_http_date(moment.ctime()) == moment.timestamp()


@given(
    moment=st.datetimes(
        min_value=datetime(1970, 1, 1),
        max_value=datetime(2069, 12, 31),
        timezones=st.just(timezone.utc),
    ).map(lambda moment: moment.replace(microsecond=0))
)
@example(datetime(1970, 1, 1, tzinfo=timezone.utc))
@example(datetime(2069, 12, 31, tzinfo=timezone.utc))
def test_a_year_of_two_digits_is_near(moment: datetime) -> None:
    text = moment.strftime("%A, %d-%b-%y %H:%M:%S GMT")
    assert parse_http_date(text) == moment.timestamp()


def test_a_leap_second_is_the_end_of_its_minute() -> None:
    last = parse_http_date("Sat, 31 Dec 2016 23:59:59 GMT")
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT") == last


@pytest.mark.parametrize(
    "text",
    [
        "",
        "120",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 +0100",
        "Sun, 06 Nov 1994 08:49:37 GMT trailing",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, ०६ Nov 1994 08:49:37 GMT",
        "1994-11-06T08:49:37Z",
    ],
)
def test_anything_else_is_no_date(text: str) -> None:
    assert parse_http_date(text) is None


@given(text=st.text())
def test_parsing_an_http_date_never_raises(text: str) -> None:
    found: Optional[float] = parse_http_date(text)
    assert found is None or isinstance(found, float)


def test_the_first_and_the_last_moment() -> None:
    assert parse_http_date("Mon, 01 Jan 0001 00:00:00 GMT") == -62135596800.0
    end = datetime(9999, 12, 31, tzinfo=timezone.utc) + timedelta(hours=23, minutes=59, seconds=59)
    assert parse_http_date("Fri, 31 Dec 9999 23:59:59 GMT") == end.timestamp()
