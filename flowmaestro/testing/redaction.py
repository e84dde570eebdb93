"""Redact secrets in texts, by the list in `flowmaestro_core.http.secrets`.

Used for data that is stored or shown, such as cassettes and failed assertions. Pure.
"""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_left, bisect_right
from itertools import islice
from typing import Dict, Generator, Iterable, Iterator, List, NamedTuple, Optional, Set
from urllib.parse import unquote_plus

from flowmaestro_core.http.messages import Headers
from flowmaestro_core.http.secrets import (
    API_SECRET,
    REDACTED,
    SHORTEST_SECRET,
    is_secret_field,
    is_secret_member,
    showable_url,
)

_TORN_ESCAPE = re.compile(rb"(?<!\\)((?:\\\\)*)\\u[0-9a-fA-F]{0,3}$")
_STRING = re.compile(rb'"((?:[^"\\\r\n]|\\.)*)("?)(\s*:\s*)?')
"""A string, perhaps truncated: its text, its closing quote, and the colon of a name."""
_TOKEN = re.compile(rb'"(?:[^"\\\r\n]|\\.)*"?(\s*:)?|[{}\[\]]|-?\d[\w.+-]*')
_SPACE = re.compile(rb"\s*")
_BRACKET = re.compile(rb'"(?:[^"\\\r\n]|\\.)*"?|[{}\[\]]')
_PAIR = re.compile(rb'\[\s*"((?:[^"\\\r\n]|\\.)*)"\s*,\s*("(?:[^"\\\r\n]|\\.)*"?)')
"""A list that begins with two strings, such as a header field and its value."""
_DOCUMENT = re.compile(rb"(?:\s|\\[nrt])*[{\[]")
_MOST_VALUES = 1_000
"""Values below one secret name, and strings with JSON, that are redacted one by one.

To redact 1,000 strings with JSON takes 0.05 s.
"""
_MOST_SCANS = 2
"""How many times the text may be looked at for containers within each other."""
_QUOTED = b'"%s"' % REDACTED.encode()
_SHORTEST_DOCUMENT = 7
"""Bytes of the shortest JSON text with a secret: `{"k":1}`."""
_URL = re.compile(rb':(?:\\?/){2}[^\s"<>]+')
_USER = re.compile(rb":(?:\\?/){2}([^/?#\\]*@)")
_PARAMETER = re.compile(rb"(?:[?&;#]|\\u0026)([^=?&;#\\]+)=((?:(?!\\u0026)[^&;#])+)")
_FORM = re.compile(rb"[\w.%+*\[\]-]+=[^\s&]*(?:&[\w.%+*\[\]-]+=[^\s&]*)*&?\s*")
_FIELD = re.compile(rb"([^=&]+)=([^\s&]+)")
_KEY = re.compile(API_SECRET)
_SCHEME = re.compile(
    rb"authorization[\"'\s]*[:=][\"'\s]*(?:bearer|basic)\s+([^\s\"'\\,;]+)|\bbearer\s+([\w.~+/-]{20,}=*)",
    re.IGNORECASE,
)
"""Credentials with their scheme in any text (RFC 6750, 2.1; RFC 7617, 2)."""
_ANSWERS = re.compile(
    rb'^event: ?message:token\r?$(?:\r?\n.+)*|^.*"type"\s*:\s*"message:token".*$', re.MULTILINE
)
"""Events whose `token` is a part of an agent's answer, and not a secret."""
_ESCAPED = re.compile(rb"(?:\\+u[0-9a-fA-F]{4})+|(?:%(?:25)?[0-9a-fA-F]{2})+|\\+")
_UNIT = re.compile(rb"u([0-9a-fA-F]{4})")
_BYTE = re.compile(rb"%(?:25)?([0-9a-fA-F]{2})")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_HINTS = (
    b"auth",
    b"bearer",
    b"cookie",
    b"credential",
    b"jwt",
    b"key",
    b"otp",
    b"pass",
    b"private",
    b"pwd",
    b"secret",
    b"session",
    b"signature",
    b"token",
)
"""Every secret name contains one of these in lower case. Looking for them takes 3 ms for 1 MiB."""


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
    """Return the spans of secrets that are recognised wherever they stand.

    These are `secrets`, API keys, secrets of webhooks, credentials after `Authorization:` or
    `Bearer`, and credentials in URLs.
    """
    spans = [_Span(*found.span()) for found in _KEY.finditer(data)]
    lower = data.lower()
    if b"bearer" in lower or b"authorization" in lower:
        spans += [_Span(*found.span(found.lastindex or 0)) for found in _SCHEME.finditer(data)]
    return [*spans, *_known(data, secrets), *_in_urls(data)]


def _known(data: bytes, secrets: Set[bytes]) -> Iterator[_Span]:
    r"""Yield the spans of `secrets`: in plain text, with escapes, or in base64.

    Escapes are those of JSON (`\"`, `\u0026`) and of URLs (`%26`), up to three times. Each request
    may have secrets of its own, and to compile an expression takes 5 ms. So the text is unescaped
    once, and the secrets are searched in it as they are.
    """
    plain = _unescaped(data)
    places: Optional[_Places] = None
    in_base64 = plain.translate(_URL_SAFE)
    for secret in secrets:
        needles = [(plain, secret.replace(b"\\", b""))]
        needles += [(in_base64, it) for it in _base64(secret)]
        for text, needle in needles:
            at = text.find(needle) if needle else -1
            while at >= 0:
                places = places or _Places(data)
                yield _Span(places.of(at), places.of(at + len(needle), is_end=True))
                at = text.find(needle, at + len(needle))


def _base64(secret: bytes) -> Iterator[bytes]:
    """Yield what base64 makes of a secret, at each of its three positions in a group of bytes.

    The characters at both ends, which may hold bits of a neighbour, are left out.
    """
    if len(secret) >= SHORTEST_SECRET:
        for shift, shared in enumerate((0, 2, 3)):
            whole = (shift + len(secret)) * 8 // 6
            yield base64.b64encode(bytes(shift) + secret)[shared:whole]


def _unescaped(data: bytes) -> bytes:
    """Return a text without escapes and without backslashes."""
    if b"%" in data or b"\\u" in data:
        return _ESCAPED.sub(_unescape, data)
    return data.replace(b"\\", b"")


def _unescape(found: re.Match[bytes]) -> bytes:
    text = found[0]
    if text.startswith(b"%"):
        plain = bytes(int(byte, 16) for byte in _BYTE.findall(text))
    else:
        units = b"".join(bytes.fromhex(unit.decode()) for unit in _UNIT.findall(text))
        plain = units.decode("utf-16-be", "surrogatepass").encode("utf-8", "surrogatepass")
    return plain.replace(b"\\", b"")


class _Places:
    """The places of a text's bytes in the same text with escapes."""

    def __init__(self, data: bytes) -> None:
        self._ends = [0]
        """The offset after each escape, in the text without escapes."""
        self._behind = [0]
        """The offset after each escape, in the text with escapes."""
        self._sizes = [0]
        """The size of what each escape stands for."""
        for found in _ESCAPED.finditer(data):
            size = len(_unescape(found))
            plain = self._ends[-1] + found.start() - self._behind[-1] + size
            self._ends.append(plain)
            self._behind.append(found.end())
            self._sizes.append(size)

    def of(self, offset: int, *, is_end: bool = False) -> int:
        """Return where the byte at `offset` begins; with `is_end`, where the one before it ends.

        An escape of several characters counts as one: it begins and ends with the first and last.
        """
        find = bisect_left if is_end else bisect_right
        index = find(self._ends, offset) - 1
        following = index + 1
        inside = following < len(self._ends) and (
            offset > self._ends[following] - self._sizes[following]
        )
        if inside:
            return self._behind[following] if is_end else self._start(following)
        return self._behind[max(index, 0)] + offset - self._ends[max(index, 0)]

    def _start(self, index: int) -> int:
        """Return where an escape begins in the text with escapes."""
        before = self._ends[index] - self._sizes[index] - self._ends[index - 1]
        return self._behind[index - 1] + before


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
    searched = _unescaped(data).lower()
    hints = [hint for hint in _HINTS if hint in searched]
    documents = _Documents(data, hints, secrets)
    verdicts: Dict[bytes, str] = {}
    at: Optional[int] = 0 if hints else None
    while at is not None:
        at = yield from _strings(documents, at, verdicts)


def _strings(
    documents: _Documents, start: int, verdicts: Dict[bytes, str]
) -> Generator[_Span, None, Optional[int]]:
    """Yield the spans of strings from `start` on, up to the end of the first secret container.

    Return where this object or array ends; `None` at the end of the data. `verdicts` has the names
    so far.
    """
    data = documents.data
    for found in _STRING.finditer(data, start):
        if found.end(3) < 0:
            if found.end(1) - found.start(1) >= _SHORTEST_DOCUMENT:
                yield from documents.spans(found)
            continue
        verdict = verdicts.get(found[1])
        if verdict is None:
            verdict = verdicts[found[1]] = _verdict(found[1], documents.hints)
        if not verdict or (verdict == "token" and documents.is_answer(found.start())):
            continue
        after = found.end()
        if data[after : after + 1] not in (b"{", b"["):
            if verdict != "headers":
                yield from _scalar(data, after)
            continue
        end = _end_of(data, after)
        documents.scannable -= end - after
        if documents.scannable < 0:
            yield _Span(after, end, _QUOTED)
        elif verdict == "headers":
            yield from _fields(data, after, end)
            continue
        else:
            yield from _secret(data, after, end)
        return end
    return None


def _verdict(name: bytes, hints: List[bytes]) -> str:
    """Return `"secret"`, `"headers"` or `"token"` for such a name of a member, else `""`."""
    plain = _unescaped(name).lower()
    if plain in (b"headers", b"token"):
        return plain.decode()
    if any(hint in plain for hint in hints) and is_secret_member(_name(b'"%s"' % name)):
        return "secret"
    return ""


def _scalar(data: bytes, start: int) -> Iterator[_Span]:
    """Yield the span of the string or number at `start`, if there is one."""
    found = _TOKEN.match(data, start)
    if found is not None and found[0][:1] not in b"{}[]":
        yield from _value(found)


def _secret(data: bytes, start: int, end: int) -> Iterator[_Span]:
    """Yield the spans of the strings and numbers in the object or array from `start` to `end`.

    If there are more than `_MOST_VALUES`, yield the span of the whole value.
    """
    spans: List[_Span] = []
    for found in _TOKEN.finditer(data, start, end):
        if found.end(1) < 0 and found[0][:1] not in b"{}[]":
            spans += _value(found)
            if len(spans) > _MOST_VALUES:
                yield _Span(start, end, _QUOTED)
                return
    yield from spans


def _end_of(data: bytes, start: int) -> int:
    """Return where the object or array that begins at `start` ends; it may be truncated."""
    depth = 0
    for found in _BRACKET.finditer(data, start):
        mark = found[0][:1]
        if mark in b"{[":
            depth += 1
        elif mark in b"}]":
            depth -= 1
            if not depth:
                return found.end()
    return len(data)


def _fields(data: bytes, start: int, end: int) -> Iterator[_Span]:
    """Yield the spans of secret header fields in an object, or in a list of pairs.

    It extends from `start` to `end`. Members of an object are judged as members of any object, too;
    their spans come twice.
    """
    depth = 0
    for found in _TOKEN.finditer(data, start, end):
        mark = found[0][:1]
        if mark in b"{[":
            depth += 1
            pair = _PAIR.match(data, found.start()) if mark == b"[" and depth == 2 else None
            if pair is not None and is_secret_field(_name(b'"%s"' % pair[1])):
                yield from _text_of(pair, 2)
        elif mark in b"}]":
            depth -= 1
        elif depth == 1 and found.end(1) >= 0:
            name = found[0][: found.start(1) - found.start()]
            if is_secret_field(_name(name)):
                space = _SPACE.match(data, found.end())
                after = found.end() if space is None else space.end()
                if data[after : after + 1] in (b"{", b"["):
                    yield from _secret(data, after, _end_of(data, after))
                else:
                    yield from _scalar(data, after)


def _text_of(found: re.Match[bytes], group: int) -> Iterator[_Span]:
    """Yield the span of the text in a string, without its quotes."""
    start, end = found.span(group)
    closed = end - start > 1 and found[group].endswith(b'"')
    if end - closed > start + 1:
        yield _Span(start + 1, end - closed)


def _value(found: re.Match[bytes]) -> Iterator[_Span]:
    if found[0].startswith(b'"'):
        yield from _text_of(found, 0)
    else:
        yield _Span(*found.span(), _QUOTED)


class _Documents:
    """The strings in `data` that are JSON objects or arrays themselves."""

    def __init__(self, data: bytes, hints: List[bytes], secrets: Set[bytes]) -> None:
        self.data = data
        self.hints = hints
        self._secrets = secrets
        self._answers = [it.span() for it in _ANSWERS.finditer(data)] if b"token" in hints else []
        self._left = _MOST_VALUES
        self.scannable = _MOST_SCANS * len(data)
        """Bytes in secret containers that may still be looked at.

        Containers within each other would take time that grows with the square of their number.
        After that, a container is replaced as a whole.
        """

    def is_answer(self, at: int) -> bool:
        """Return whether the place is in an event with a part of an agent's answer."""
        index = bisect_right(self._answers, (at, len(self.data)))
        return index > 0 and at < self._answers[index - 1][1]

    def spans(self, found: re.Match[bytes]) -> Iterator[_Span]:
        """Yield the span of a JSON string, if its text begins like JSON and has secrets.

        The string may be truncated. The replacement is the string with those secrets redacted.
        After `_MOST_VALUES` such strings, a string that may have secrets is replaced as a whole.
        """
        start, end = found.span(1)
        if _DOCUMENT.match(self.data, start, end) is None:
            return
        plain = _unescaped(found[1]).lower()
        if not any(hint in plain for hint in self.hints):
            return  # What is secret wherever it stands is found in the whole text.
        self._left -= 1
        if self._left < 0:
            yield _Span(start, end)
            return
        text = found[1] if found[2] else _TORN_ESCAPE.sub(rb"\1", found[1])
        try:
            inner = str(json.loads(b'"%s"' % text))
        except ValueError:
            return
        shown = redacted_text(inner, self._secrets)
        if shown != inner:
            yield _Span(start, end, json.dumps(shown).encode()[1:-1])


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
    offset = first = 0
    for piece in pieces:
        kept, at, end = bytearray(), offset, offset + len(piece)
        while first < len(merged) and merged[first].end <= offset:
            first += 1
        for span in islice(merged, first, None):
            if span.start >= end:
                break
            kept += piece[at - offset : max(span.start, at) - offset]
            if span.start >= offset:
                kept += span.instead
            at = max(at, min(span.end, end))
        kept += piece[at - offset :]
        yield bytes(kept)
        offset = end
