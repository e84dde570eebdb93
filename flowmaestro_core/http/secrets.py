"""The list of names whose values are secret, and the redaction of header fields and URLs.

The list applies to every repr, log line, error and recording. `scrub.py` finds the secret values
in other texts.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import List, Pattern, Tuple, TypeVar, Union

T = TypeVar("T")

REDACTED = "***"
"""The text that replaces a secret."""

SHORTEST_SECRET = 8
"""Characters of the shortest header value that is redacted in a server's texts: a shorter one may
be an ordinary word."""

API_SECRET = rb"(?:fm_(?:live|test)|whsec)_[\w-]+"
"""A pattern of API keys and webhook secrets. `without_keys` redacts them wherever they stand."""

# Names are in snake_case. `_?` is for names that are also written as one word.
SECRET_NAMES = (
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "secret",
    "signature",
    "passw",
    "(pass|_pass_)(code|phrase|word)",
    "access_?key",
    "api_?key",
    "encryption_?key",
    "private_?key",
    "signing_?key",
    "access_?token",
    "auth_?token",
    "id_?token",
    "refresh_?token",
    "session_?token",
)
"""A name that holds one of these is secret, in header fields, URLs and JSON."""
SECRET_FIELDS = ("auth", "jwt", "key", "private", "pwd", "session", "token", "_otp$", "_pass$")
"""Further parts of secret names, for header fields and URL parameters only."""
SECRET_MEMBERS = (
    "token$",
    "_auth$",
    "_jwt$",
    "_key$",
    "_oauth$",
    "_otp$",
    "_pass$",
    "_pwd$",
    "account_?key$",
    "license_?key$",
    "master_?key$",
    "shared_?key$",
    "ssh_?key$",
    "storage_?key$",
    "subscription_?key$",
)
"""Further parts of secret names, for JSON only. Fewer names match than in header fields: the
service calls the pieces of a text tokens, and the session of a user is not a secret."""
HARMLESS_FIELDS = ("_idempotency_key$",)
"""Names of header fields and parameters that are not secret although they match a list above."""
HARMLESS_MEMBERS = (
    "^_idempotency_key$",
    "^_key$",
    "^_token$",
    "^_continuation_?token$",
    "^_next_?token$",
    "^_(next_|prev_|previous_)?page_?token$",
)
"""Names in JSON that are not secret although they match a list above."""

_WORD_ENDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z]+")
# One expression for each list: a text may have 100,000 different names.
_SECRET_NAME = re.compile("|".join(SECRET_NAMES))
_SECRET_FIELD, _HARMLESS_FIELD = (
    re.compile("|".join(names)) for names in (SECRET_FIELDS, HARMLESS_FIELDS)
)
_SECRET_MEMBER, _HARMLESS_MEMBER = (
    re.compile("|".join(names)) for names in (SECRET_MEMBERS, HARMLESS_MEMBERS)
)
_CREDENTIALS = re.compile(
    r"""
    \A(?!/[^/])                                        # A path has no credentials.
    (?:
        (?P<start>(?:[A-Za-z][A-Za-z0-9+.-]*:)?//)     # With or without a scheme:
        (?P<given>[^/]*|[^/:]*:(?![0-9]*(?:/|\Z)).*)@   # a password may have a slash; a port not.
    |
        (?!(?:[A-Za-z][A-Za-z0-9+.-]*:)?//)(?P<text>.*)@  # This is no URL: show the end alone.
    )
    """,
    re.DOTALL | re.VERBOSE,
)
"""The credentials of a URL, or of a text that was given in place of one."""
_KEY = re.compile(API_SECRET.decode())
_SHOWN_PARAMETER = re.compile(
    r"(page|per_page|limit|offset)=\d{1,9}|status=[a-z]{1,20}|workflow_id=[\w-]{1,40}", re.ASCII
)
"""The parameters of a query that are shown; all other values are redacted."""


@lru_cache(maxsize=128)  # The responses of a server and its proxies have some dozens of names.
def is_secret_field(name: str) -> bool:
    """Return whether the header field or parameter `name` may carry a credential.

    That is so for `Authorization`, `X-API-Key`, `Cookie` and a webhook's signature, and for every
    name that contains a text such as token, secret or key, except `Idempotency-Key`.
    """
    words = "_" + re.sub("[^a-z]+", "_", name.lower()).strip("_")
    return _is_secret(words, _SECRET_FIELD, _HARMLESS_FIELD)


@lru_cache(maxsize=1024)  # Outputs of workflows may have any names, so there are more of them.
def is_secret_member(name: str) -> bool:
    """Return whether the member `name` of a JSON object may be a credential."""
    words = "_" + _WORD_ENDS.sub("_", name).lower().strip("_")
    return _is_secret(words, _SECRET_MEMBER, _HARMLESS_MEMBER)


def _is_secret(words: str, secret: Pattern[str], harmless: Pattern[str]) -> bool:
    if _SECRET_NAME.search(words):
        return True
    return secret.search(words) is not None and harmless.search(words) is None


def showable_value(name: str, value: T) -> Union[T, str]:
    """Return the value of the header field `name`, or `***` if it may be a credential."""
    return REDACTED if is_secret_field(name) else value


def without_keys(text: str) -> str:
    """Return the text with API keys and webhook secrets replaced by `***`.

    These begin with `fm_live_`, `fm_test_` or `whsec_`.
    """
    return _KEY.sub(REDACTED, text)


def credentials_in(url: str) -> List[Tuple[str, str]]:
    """Return the password and all query parameters in `url`, as pairs of name and value.

    A user name without a password counts as the password. An empty or missing query is one pair of
    empty texts.
    """
    location, _, query = url.partition("?")
    found = _CREDENTIALS.match(location)
    pairs: List[Tuple[str, str]] = []
    for part in query.partition("#")[0].split("&"):
        name, _, value = part.partition("=")
        pairs.append((name, value))
    if found is not None:
        given = found["given"] or found["text"] or ""
        pairs.append(("password", given.partition(":")[2] or given))
    return pairs


def showable_url(url: str) -> str:
    """Return `url` without its credentials, and with its fragment and its query's values redacted.

    A few values that are never secret are kept, such as a number for `page`.
    """
    if not any(mark in url for mark in "?@#"):
        return url
    sent, fragment_mark, _ = url.partition("#")
    location, query_mark, query = sent.partition("?")
    shown = (
        _CREDENTIALS.sub(r"\g<start>", location)
        + query_mark
        + "&".join(map(_shown, query.split("&")))
    )
    return shown + fragment_mark + (REDACTED if fragment_mark else "")


def _shown(parameter: str) -> str:
    if not parameter or _SHOWN_PARAMETER.fullmatch(parameter):
        return without_keys(parameter)
    name, equals, _ = parameter.partition("=")
    return name + equals + REDACTED if equals else REDACTED
