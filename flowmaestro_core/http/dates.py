"""HTTP-dates (RFC 9110, 5.6.7) and ISO 8601 times.

The `email` package is not used, because it loads sockets.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Optional

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
_TIME = r"(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d)"
_FORMS = (
    rf"[a-z]{{3}}, (?P<day>\d\d) (?P<month>[a-z]{{3}}) (?P<year>\d{{4}}) {_TIME} GMT",
    rf"[a-z]{{6,9}}, (?P<day>\d\d)-(?P<month>[a-z]{{3}})-(?P<year>\d\d) {_TIME} GMT",
    rf"[a-z]{{3}} (?P<month>[a-z]{{3}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
)
"""IMF-fixdate, and the two obsolete forms that a recipient must still accept."""


def http_date(seconds: float) -> str:
    """Return Unix seconds as an IMF-fixdate, such as `Sun, 06 Nov 1994 08:49:37 GMT`."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment:%d} {month} {moment:%Y %H:%M:%S} GMT"


def parse_http_date(text: str) -> Optional[float]:
    """Return the Unix time of an HTTP-date in seconds, or `None` if `text` is not an HTTP-date.

    The name of the day is not compared with the date, and a leap second counts as the second before
    it. A year of two digits is put into 1970-2069. RFC 9110, 5.6.7, compares such a year with the
    current one, but the core has no clock.
    """
    matches = (re.fullmatch(form, text.strip(), re.IGNORECASE | re.ASCII) for form in _FORMS)
    match = next(filter(None, matches), None)
    if match is None:
        return None
    year, month = int(match["year"]), match["month"].capitalize()
    if len(match["year"]) == 2:
        year += 2000 if year < 70 else 1900
    day, hour, minute, second = (int(match[part]) for part in ("day", "h", "m", "s"))
    if second == 60:  # A leap second, which `datetime` does not have.
        second = 59
    try:
        date = year, _MONTHS.index(month) + 1, day
        moment = datetime(*date, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return None
    return moment.timestamp()


def parse_timestamp(text: str) -> float:
    """Return an ISO 8601 time as Unix seconds. A time without a zone is taken as UTC.

    A final `Z` and any number of decimals are accepted. Raises `ValueError` for any other text that
    `datetime.fromisoformat` does not read.
    """
    plain = re.sub(r"\.(\d{1,6})\d*", lambda found: "." + found[1].ljust(6, "0"), text)
    moment = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", plain))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp()
