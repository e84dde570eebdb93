"""Redact secrets in texts, by the list in `flowmaestro_core.http.secrets`.

Used for data that is stored or shown, such as cassettes and failed assertions. Pure.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import FrozenSet, Iterable, Iterator, List, NamedTuple, Optional, Pattern, Set
from urllib.parse import unquote_plus

from flowmaestro_core.http.messages import Headers
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_core.http.secrets import (
    API_SECRET,
    REDACTED,
    SHORTEST_SECRET,
    is_secret_field,
    is_secret_member,
    showable_url,
)

_TORN_ESCAPE = re.compile(rb"(?<!\\)((?:\\\\)*)\\u[0-9a-fA-F]{0,3}$")
_TOKEN = re.compile(rb'"(?:[^"\\\r\n]|\\.)*"?|[{}\[\],:]|-?\d[\w.+-]*')
_DOCUMENT = re.compile(rb'"(?:\s|\\[nrt])*[{\[]')
_URL = re.compile(rb':(?:\\?/){2}[^\s"<>]+')
_USER = re.compile(rb":(?:\\?/){2}([^/?#\\]*@)")
_PARAMETER = re.compile(rb"(?:[?&;#]|\\u0026)([^=?&;#\\]+)=((?:(?!\\u0026)[^&;#])+)")
_FORM = re.compile(rb"[\w.%+*\[\]-]+=[^\s&]*(?:&[\w.%+*\[\]-]+=[^\s&]*)*&?\s*")
_FIELD = re.compile(rb"([^=&]+)=([^\s&]+)")


class _Span(NamedTuple):
    """A secret part of a text, and its replacement."""

    start: int
    end: int
    instead: bytes = REDACTED.encode()


def redacted_text(text: str, secrets: Iterable[bytes] = ()) -> str:
    """Return a text, such as a body, redacted. `secrets` are redacted in it, too."""
    data = text.encode("utf-8", "surrogatepass")
    return b"".join(redacted([data], set(secrets))).decode("utf-8", "surrogatepass")


def redacted(pieces: List[bytes], secrets: Set[bytes]) -> Iterator[bytes]:
    """Yield the pieces of a body, redacted, even where a secret extends over several pieces.

    Redacted are `secrets`, API keys, secrets of webhooks, credentials in URLs, and values under
    secret names in JSON and in a form.
    """
    data = b"".join(pieces)
    return replace_spans(
        pieces, [*find_secrets(data, secrets), *_members(data, secrets), *_in_form(data)]
    )


def shown_url(url: str, secrets: Iterable[bytes] = ()) -> str:
    """Return a URL without its user part, and with API keys and values of its query redacted.

    The values of a few parameters that are never secret are kept, such as `page` and `status`. The
    fragment is redacted, and so are `secrets`, such as the values that `secrets_of` returns.
    """
    return redacted_text(showable_url(url), secrets)


def secrets_of(headers: Headers) -> Set[bytes]:
    """Return the values of secret header fields, with and without their scheme.

    Values of fewer than `SHORTEST_SECRET` characters are left out.
    """
    values = [value for name, value in headers.pairs if is_secret_field(name)]
    parts = [*values, *(value.partition(" ")[2] for value in values)]
    return {part.encode("utf-8", "replace") for part in parts if len(part) >= SHORTEST_SECRET}


def find_secrets(data: bytes, secrets: Set[bytes]) -> List[_Span]:
    """Return the spans of `secrets`, API keys, secrets of webhooks, and credentials in URLs."""
    spans = [_Span(*found.span()) for found in _pattern(frozenset(secrets)).finditer(data)]
    return [*spans, *_in_urls(data)]


# One client sends the same secrets with each of its requests, and a pattern takes a millisecond.
@lru_cache(maxsize=16)
def _pattern(secrets: FrozenSet[bytes]) -> Pattern[bytes]:
    """Return a pattern of API keys, secrets of webhooks, and `secrets` in all their encodings."""
    scrubber = SecretScrubber(
        more=lambda: [secret.decode("utf-8", "replace") for secret in secrets]
    )
    looks = [API_SECRET, *map(re.escape, sorted(secrets)), scrubber.pattern.pattern]
    return re.compile(b"|".join(looks))


def _in_urls(data: bytes) -> Iterator[_Span]:
    """Yield the spans of user parts (`user:password@`) and of secret parameters in URLs."""
    for url in _URL.finditer(data):
        user = _USER.match(data, *url.span())
        if user is not None:
            yield _Span(*user.span(1), instead=b"")
        for parameter in _PARAMETER.finditer(data, *url.span()):
            if is_secret_field(unquote_plus(parameter[1].decode("utf-8", "replace"))):
                yield _Span(*parameter.span(2))


def _in_form(data: bytes) -> Iterator[_Span]:
    """Yield the spans of secret values in a form (`name=value&...`)."""
    if _FORM.fullmatch(data):
        for field in _FIELD.finditer(data):
            name = unquote_plus(field[1].decode("utf-8", "replace"))
            if is_secret_field(name) or is_secret_member(name):
                yield _Span(*field.span(2))


def _members(data: bytes, secrets: Set[bytes]) -> Iterator[_Span]:
    """Yield the spans of strings and numbers under secret names, at any depth.

    Text around JSON is skipped, and the JSON may be truncated. A string that is itself a JSON
    object or array is one span if it has secrets.
    """
    name, secret, depth = "", False, 0
    secret_from = fields_at = 0
    value: Optional[re.Match[bytes]] = None
    for token in _TOKEN.finditer(data + b"\n,"):  # The comma ends the last value.
        mark = token[0][:1]
        if mark not in b"{}[],:":
            if value is None:
                value = token
            continue
        if mark == b":" and value is not None and value[0].startswith(b'"'):
            name = _name(value[0])
            is_secret = is_secret_field if depth == fields_at > 0 else is_secret_member
            secret = is_secret(name)
        elif value is not None:
            yield from _value(value) if secret or secret_from else _document(value, secrets)
        value = None
        if mark == b":":
            continue
        if mark in b"{[":
            depth += 1
            secret_from = secret_from or (depth if secret else 0)
            if name.lower() == "headers":
                fields_at = depth
        elif mark in b"}]":
            secret_from = 0 if depth <= secret_from else secret_from
            fields_at = 0 if depth <= fields_at else fields_at
            depth = max(0, depth - 1)
        name, secret = "", False


def _value(found: re.Match[bytes]) -> Iterator[_Span]:
    start, end = found.span()
    if not found[0].startswith(b'"'):
        yield _Span(start, end, b'"%s"' % REDACTED.encode())
    else:
        closed = end - start > 1 and found[0].endswith(b'"')
        if end - closed > start + 1:
            yield _Span(start + 1, end - closed)


def _document(found: re.Match[bytes], secrets: Set[bytes]) -> Iterator[_Span]:
    """Yield the span of `found`, a JSON string, if its text begins like JSON and has secrets.

    The string may be truncated. The replacement is the string with those secrets redacted.
    """
    if _DOCUMENT.match(found[0]) is None:
        return
    closed = len(found[0]) > 1 and found[0].endswith(b'"')
    literal = found[0] if closed else _TORN_ESCAPE.sub(rb"\1", found[0]) + b'"'
    try:
        inner = str(json.loads(literal))
    except ValueError:
        return
    shown = redacted_text(inner, secrets)
    if shown != inner:
        yield _Span(found.start() + 1, found.end() - closed, json.dumps(shown).encode()[1:-1])


def _name(literal: bytes) -> str:
    try:
        return str(json.loads(literal))
    except ValueError:
        return literal.decode("utf-8", "replace")


def replace_spans(pieces: Iterable[bytes], spans: Iterable[_Span]) -> Iterator[bytes]:
    """Yield the pieces with each span replaced by its replacement (`***`, for most).

    A span may begin in one piece and end in a later one. Spans that overlap count as one, with the
    replacement of the first.
    """
    merged: List[_Span] = []
    for span in sorted(spans):
        if merged and span.start < merged[-1].end:
            merged[-1] = merged[-1]._replace(end=max(merged[-1].end, span.end))
        else:
            merged.append(span)
    offset = 0
    for piece in pieces:
        kept, at, end = bytearray(), offset, offset + len(piece)
        for span in merged:
            if span.end > offset and span.start < end:
                kept += piece[at - offset : max(span.start, at) - offset]
                if span.start >= offset:
                    kept += span.instead
                at = max(at, min(span.end, end))
        kept += piece[at - offset :]
        yield bytes(kept)
        offset = end
