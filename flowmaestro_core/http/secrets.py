"""What must not be seen: which header fields are secret, and what of a URL may be shown.

The one rule for every repr, log line, error and recording; `scrubber.py` applies it to what others
say.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import List, Tuple, TypeVar, Union

T = TypeVar("T")

REDACTED = "***"
"""What is shown in the place of a secret."""

SHORTEST_SECRET = 8
"""Characters; what is shorter is left alone in the texts of others, where it may be any word."""

_SECRET = re.compile(
    r"auth|bearer|cookie|credential|jwt|(?<!idempotency.)key|pass(w|phrase|code)|private|pwd"
    r"|secret|session|signature|token|(?<![a-z])(otp|pass)$",
    re.IGNORECASE,
)
_CREDENTIALS = re.compile(r"^([^:/]+://)([^/]*)@")
_QUERY_VALUE = re.compile(r"=[^&]*")


@lru_cache(maxsize=128)
def is_secret_field(name: str) -> bool:
    """Whether the header field `name` may carry a credential, as far as its name tells.

    So do `Authorization`, `X-API-Key`, `Cookie`, a webhook's signature, and whatever custom
    name holds a word such as token, secret or key; `Idempotency-Key` does not.
    """
    return _SECRET.search(name) is not None


def showable_value(name: str, value: T) -> Union[T, str]:
    """The value of the header field `name`, or `***` where that may be a credential."""
    return REDACTED if is_secret_field(name) else value


def credentials_in(url: str) -> List[Tuple[str, str]]:
    """What `url` bears, as header fields: the password before its host, the values of its query."""
    location, _, query = url.partition("?")
    found = _CREDENTIALS.match(location)
    pairs: List[Tuple[str, str]] = []
    for part in query.partition("#")[0].split("&"):
        name, _, value = part.partition("=")
        pairs.append((name, value))
    if found is not None:
        pairs.append(("password", found[2].partition(":")[2] or found[2]))
    return pairs


def showable_url(url: str) -> str:
    """`url` without credentials and without the values in its query, whose names are kept."""
    if "?" not in url and "@" not in url:
        return url
    location, mark, query = url.partition("?")
    return _CREDENTIALS.sub(r"\1", location) + mark + _QUERY_VALUE.sub("=" + REDACTED, query)
