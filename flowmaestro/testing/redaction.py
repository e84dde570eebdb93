"""Redact secrets in texts, by the list in `flowmaestro_core.http.secrets`.

Used for data that is stored or shown, such as cassettes and failed assertions. Pure.
"""

from __future__ import annotations

import base64
import json
import re
from functools import lru_cache
from itertools import chain
from typing import FrozenSet, Iterable, Iterator, List, NamedTuple, Pattern, Set
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

_TOKEN = re.compile(rb'"([^"\\\r\n]*(?:\\.[^"\\\r\n]*)*)("?)(\s*:\s*)?|[{}\[\]]|-?\d[\w.+-]*')
"""A string, perhaps truncated: its text, its closing quote, and the colon of a name; a bracket; or
a number."""
_NAME, _VALUE = 3, 2
"""The last group of a string that is a name, and of one that is a value."""
_DOCUMENT = re.compile(rb"(?:\s|\\[nrt])*[{\[]")
_TORN_ESCAPE = re.compile(rb"(?<!\\)((?:\\\\)*)\\u[0-9a-fA-F]{0,3}$")
_LONGEST_NAME = 200
"""Bytes of the longest name of a member that is judged by the list of secret names. A longer one is
secret if it has a hint: to judge it would take long, and the cache would keep it.
"""
_QUOTED = b'"%s"' % REDACTED.encode()
_URL = re.compile(rb':\\?/\\?/[^\s"<>@=:]*(?::(?!\\?/\\?/)[^\s"<>@=:]*)*[@=][^\s"<>]*')
"""A URL that may have credentials or parameters. Other URLs are passed over up to the next one."""
_USER = re.compile(rb":\\?/\\?/([^/?#\\]*@)")
_PARAMETER = re.compile(rb"(?:[?&;#]|\\u0026)([^=?&;#\\]+)=((?:(?!\\u0026)[^&;#])+)")
_FORM = re.compile(rb"[\w.%+*\[\]-]+=[^\s&]*(?:&[\w.%+*\[\]-]+=[^\s&]*)*&?\s*")
_FIELD = re.compile(rb"([^=&]+)=([^\s&]+)")
_KEY = re.compile(API_SECRET)
_SCHEME = re.compile(
    rb"authorization[\"'\s]*[:=][\"'\s]*(?:bearer|basic)\s+([^\s\"'\\,;]+)"
    rb"|bearer(?<!\wbearer)\s+([\w.~+/-]{20,}=*)"
)
"""Credentials with their scheme in any text (RFC 6750, 2.1; RFC 7617, 2), in lower case."""
_ANSWERS = re.compile(
    rb'^event: ?message:token\r?$(?:\r?\n.+)*|^.*"type"\s*:\s*"message:token".*$', re.MULTILINE
)
"""Events whose `token` is a part of an agent's answer, and not a secret."""
_HINT = re.compile(
    rb"auth|bearer|cookie|credential|jwt|key|otp|pass|private|pwd|secret|session|signature|token"
    rb"|headers|\\u"
)
"""What every secret name contains in lower case, the name of header fields, and an escape."""


_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class _Span(NamedTuple):
    """A secret part of a text, and its replacement."""

    start: int
    end: int
    instead: bytes = REDACTED.encode()


def redacted_text(text: str, secrets: Iterable[bytes] = ()) -> str:
    """Return a text, such as a body, redacted. `secrets` are redacted in it, too."""
    data = text.encode("utf-8", "surrogatepass")
    return b"".join(redacted([data], set(secrets))).decode("utf-8", "surrogatepass")


def redacted(pieces: List[bytes], secrets: Set[bytes], *, is_body: bool = True) -> Iterator[bytes]:
    """Yield the pieces of a body, redacted, even where a secret extends over several pieces.

    Redacted are `secrets`, API keys, secrets of webhooks, credentials after `Authorization:` or
    `Bearer` and in URLs, and with `is_body` values under secret names in JSON and in a form.
    """
    data = b"".join(pieces)
    found = chain(_known(data, secrets), _keys(data), _in_urls(data))
    yield from _replaced(
        pieces, chain(found, _members(data, secrets), _in_form(data)) if is_body else found
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


@lru_cache(maxsize=16)  # To compile takes 5 ms, and requests mostly have the same secrets.
def _pattern(secrets: FrozenSet[bytes]) -> Pattern[bytes]:
    """Return a pattern that finds the secrets: in plain text, with escapes, or in base64."""
    texts = [secret.decode("utf-8", "surrogateescape") for secret in secrets]
    return SecretScrubber(more=lambda: texts).pattern


def _known(data: bytes, secrets: Set[bytes]) -> Iterator[_Span]:
    """Yield the spans of the given secrets."""
    if any(_may_hold(data, secret) for secret in secrets):
        for found in _pattern(frozenset(secrets)).finditer(data):
            yield _Span(*found.span())


def _may_hold(data: bytes, secret: bytes) -> bool:
    """Return whether a text may hold a secret: it does not if this is False.

    Each request may have secrets of its own. Most texts hold none, and then nothing is compiled.
    """
    if secret in data or b"\\" in data or b"%" in data:
        return True
    in_base64 = data.translate(_URL_SAFE)
    # The characters at both ends may hold bits of a neighbour.
    needles = (base64.b64encode(bytes(shift) + secret)[4:-4] for shift in range(3))
    return any(needle in in_base64 for needle in needles)


def _keys(data: bytes) -> Iterator[_Span]:
    """Yield the spans of API keys, secrets of webhooks and credentials with their scheme."""
    for found in chain(_KEY.finditer(data), _SCHEME.finditer(data.lower())):
        yield _Span(*found.span(found.lastindex or 0))


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
    """Yield the spans of strings and numbers under secret names in JSON, at any depth.

    Text around JSON is skipped, and the JSON may be truncated. All strings and numbers below a
    secret name are secret. Below the name `headers`, the names of members are judged as those of
    header fields, and so is the first of two strings in a list.
    """
    if _HINT.search(data.lower()) is None:
        return
    answers = [it.span() for it in _ANSWERS.finditer(data)][::-1]  # the next one is the last
    around: List[str] = []  # For each open bracket, what `_meaning` says of what it holds.
    name, meaning = b"", ""
    for found in _TOKEN.finditer(data):
        mark = found[0][:1]
        inside = around[-1] if around else ""
        if found.lastindex == _NAME:
            while answers and answers[-1][1] <= found.start():
                answers.pop()
            is_answer = bool(answers) and answers[-1][0] <= found.start()
            meaning = inside if inside == "secret" else _meaning(found[1], inside, is_answer)
            continue
        if mark in (b"{", b"["):
            around.append(meaning or _within(inside, mark))
        elif mark in (b"}", b"]"):
            del around[-1:]
        elif meaning == "secret" or inside == "secret" or (inside == "pair" and _is_field(name)):
            yield from _value(found)
        elif found.lastindex == _VALUE:
            yield from _document(found, secrets)
        name, meaning = (found[1] or b"", "") if inside == "pair" and not name else (b"", "")


def _within(inside: str, mark: bytes) -> str:
    """Return what a bracket without a name opens, in what `inside` says."""
    if inside == "secret":
        return "secret"
    return "pair" if inside == "headers" and mark == b"[" else ""


def _meaning(name: bytes, inside: str, is_answer: bool) -> str:
    """Return `"secret"` or `"headers"` for what stands under a name, else `""`."""
    if _HINT.search(name.lower()) is None:
        return ""
    if len(name) > _LONGEST_NAME:
        return "secret"
    text = _decoded(name)
    if text.lower() == "headers":
        return "headers"
    if inside == "headers" and is_secret_field(text):
        return "secret"
    if text.lower() == "token" and is_answer:
        return ""
    return "secret" if is_secret_member(text) or text.lower() == "token" else ""


def _document(found: re.Match[bytes], secrets: Set[bytes]) -> Iterator[_Span]:
    """Yield the span of a string, if its text begins like JSON and has secrets.

    The string may be truncated. The replacement is the string with those secrets redacted. Strings
    within strings are shorter by their escapes, so the time is bounded by the length.
    """
    if not _DOCUMENT.match(found[1]):
        return
    text = found[1] if found[2] else _TORN_ESCAPE.sub(rb"\1", found[1])
    try:
        inner = str(json.loads(b'"%s"' % text)).encode("utf-8", "surrogatepass")
    except ValueError:
        return
    shown = b"".join(redacted([inner], secrets))
    if shown != inner:
        yield _Span(
            *found.span(1), json.dumps(shown.decode("utf-8", "surrogatepass")).encode()[1:-1]
        )


def _value(found: re.Match[bytes]) -> Iterator[_Span]:
    """Yield the span of a string, without its quotes, or of a number."""
    if found.lastindex is None:
        yield _Span(*found.span(), _QUOTED)
    elif found[1]:
        yield _Span(*found.span(1))


def _is_field(name: bytes) -> bool:
    return is_secret_field(_decoded(name))


def _decoded(name: bytes) -> str:
    """Return the name in a JSON string, whose text is given without its quotes."""
    try:
        return str(json.loads(b'"%s"' % name))
    except ValueError:
        return name.decode("utf-8", "replace")


def _replaced(pieces: Iterable[bytes], spans: Iterable[_Span]) -> Iterator[bytes]:
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
    offset = first = 0
    for piece in pieces:
        kept: List[bytes] = []
        at, end = offset, offset + len(piece)
        while first < len(merged) and merged[first].start < end:
            span = merged[first]
            kept.append(piece[at - offset : max(span.start, at) - offset])
            if span.start >= offset:
                kept.append(span.instead)
            at = max(at, min(span.end, end))
            if span.end > end:
                break  # The next piece has the rest of it.
            first += 1
        kept.append(piece[at - offset :])
        yield b"".join(kept)
        offset = end
