"""Redact secrets in texts, by the list in `flowmaestro_core.http.secrets`.

Used for data that is stored or shown, such as cassettes and failed assertions. Pure.
"""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_left, bisect_right
from itertools import accumulate, chain
from typing import Dict, Generator, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple
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
_TEXT = rb'"([^"\\\r\n]*(?:\\.[^"\\\r\n]*)*)'
_STRING = re.compile(_TEXT + rb'("?)(\s*:\s*)?')
"""A string, perhaps truncated: its text, its closing quote, and the colon of a name."""
_TOKEN = re.compile(_STRING.pattern + rb"|[{}\[\]]|-?\d[\w.+-]*")
"""A string, as above, a bracket or a number."""
_NAME, _VALUE = 3, 2
"""The last group of a string that is a name, and of one that is a value."""
_PAIR = re.compile(rb'\[\s*%s"\s*,\s*%s"?' % (_TEXT, _TEXT))
"""A list that begins with two strings, such as a header field and its value."""
_DOCUMENT = re.compile(rb"(?:\s|\\[nrt])*[{\[]")
_BEGINS_DOCUMENT = b"{[\\ \t\n\r\v\f"
"""The first byte of what `_DOCUMENT` matches."""
_MOST_STEPS = 20_000
"""Steps that a text may take: places that may be secret, and what stands below secret names.

A step takes 1 to 4 microseconds. Without a limit, 1 MiB of very short secrets would take a second.
A list of 100 webhooks takes about 1,000 steps.
"""
_BYTES_OF_A_STEP = 64
"""Bytes of JSON in a string whose search takes as long as a step.

Each level of JSON in strings within strings may have nearly as many bytes as the whole text.
"""
_LONGEST_NAME = 200
"""Bytes of the longest name of a member that is judged by the list of secret names. A longer one is
secret if it has a hint: to judge it would take long, and the cache would keep it.
"""
_STEPS_OF_A_NAME, _STEPS_OF_A_DOCUMENT = 6, 10
"""What it takes to judge a name by the list of secret names, and to decode JSON in a string."""
_QUOTED = b'"%s"' % REDACTED.encode()
_SHORTEST_DOCUMENT = 7
"""Bytes of the shortest JSON text with a secret: `{"k":1}`."""
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
_ESCAPE = re.compile(
    rb"(\\\\*u[dD][89abAB][0-9a-fA-F]{2}\\+u[dD][c-fC-F][0-9a-fA-F]{2}|\\\\*u[0-9a-fA-F]{4}"
    rb"|%(?:25)?[0-9a-fA-F]{2}|\\\\*)"
)
"""An escape of JSON, perhaps a pair of surrogates, or of a URL, or backslashes.

Each choice begins with a character, not with `+`: so a search takes a third of the time.
"""
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_HINT = re.compile(
    rb"auth|bearer|cookie|credential|jwt|key|otp|pass|private|pwd|secret|session|signature|token"
    rb"|headers"
)
"""What every secret name contains in lower case, and the name of header fields."""


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
    `Bearer` and in URLs, and with `is_body` values under secret names in JSON and in a form. A text
    that takes more than `_MOST_STEPS` is replaced as a whole.
    """
    data = b"".join(pieces)
    try:
        spans = _Search(data, secrets, _Steps()).spans(is_body)
    except _TooMany:
        spans = [_Span(0, len(data))]
    return _replaced(pieces, spans)


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


class _TooMany(Exception):
    """A text takes more than `_MOST_STEPS`."""


class _Steps:
    """Counts the steps of a text, and of the JSON texts in its strings."""

    def __init__(self) -> None:
        self._left = _MOST_STEPS

    def take(self, count: int = 1) -> None:
        """Count steps; raise `_TooMany` if there were too many."""
        self._left -= count
        if self._left < 0:
            raise _TooMany


class _Search:
    """Finds the secrets in one text. Each method passes over the text once, at most."""

    def __init__(self, data: bytes, secrets: Set[bytes], steps: _Steps) -> None:
        self._data = data
        self._secrets = secrets
        self._steps = steps
        self._plain = _unescaped(data)
        self._verdicts: Dict[bytes, str] = {}
        """For each name of a member so far: `"secret"`, `"headers"`, `"token"`, else `""`."""
        self._answers: List[Tuple[int, int]] = []
        """Where the events with parts of an agent's answer are."""

    def spans(self, is_body: bool) -> List[_Span]:
        """Return the spans of all secrets. They may overlap."""
        spans = [*self._keys(), *self._known(), *self._in_urls()]
        if is_body:
            spans += [*self._members(), *self._in_form()]
        return spans

    def _keys(self) -> Iterator[_Span]:
        """Yield the spans of API keys, secrets of webhooks and credentials with their scheme."""
        schemes = _SCHEME.finditer(self._data.lower())
        for each in chain(_KEY.finditer(self._data), schemes):
            self._steps.take()
            yield _Span(*each.span(each.lastindex or 0))

    def _known(self) -> Iterator[_Span]:
        r"""Yield the spans of the given secrets: in plain text, with escapes, or in base64.

        Escapes are those of JSON (`\"`, `\u0026`) and of URLs (`%26`), up to three times. Each
        request may have secrets of its own, and to compile an expression takes 5 ms. So the text is
        unescaped once, and the secrets are searched in it as they are.
        """
        places: Optional[_Places] = None
        in_base64 = self._plain.translate(_URL_SAFE) if self._secrets else b""
        for secret in self._secrets:
            needles = [(self._plain, secret.replace(b"\\", b""))]
            needles += [(in_base64, it) for it in _base64(secret)]
            for text, needle in needles:
                at = text.find(needle) if needle else -1
                while at >= 0:
                    self._steps.take()
                    places = places or _Places(self._data)
                    yield _Span(places.start(at), places.end(at + len(needle)))
                    at = text.find(needle, at + len(needle))

    def _in_urls(self) -> Iterator[_Span]:
        """Yield the spans of user parts (`user:password@`) and of secret parameters in URLs."""
        for url in _URL.finditer(self._data):
            self._steps.take()
            user = _USER.match(self._data, *url.span())
            if user is not None:
                yield _Span(*user.span(1), instead=b"")
            for parameter in _PARAMETER.finditer(self._data, *url.span()):
                self._steps.take()
                if is_secret_field(unquote_plus(parameter[1].decode("utf-8", "replace"))):
                    yield _Span(*parameter.span(2))

    def _in_form(self) -> Iterator[_Span]:
        """Yield the spans of secret values in a form (`name=value&...`)."""
        if _FORM.fullmatch(self._data):
            for field in _FIELD.finditer(self._data):
                self._steps.take()
                name = unquote_plus(field[1].decode("utf-8", "replace"))
                if is_secret_field(name) or is_secret_member(name):
                    yield _Span(*field.span(2))

    def _members(self) -> Iterator[_Span]:
        """Yield the spans of strings and numbers under secret names, at any depth.

        Text around JSON is skipped, and the JSON may be truncated. A string that is itself a JSON
        object or array is one span if it has secrets.
        """
        hinted = self._plain.lower()
        if _HINT.search(hinted) is None:
            return
        if b"token" in hinted:
            self._answers = [it.span() for it in _ANSWERS.finditer(self._data)]
        at: Optional[int] = 0
        while at is not None:
            at = yield from self._up_to_container(at)

    def _up_to_container(self, start: int) -> Generator[_Span, None, Optional[int]]:
        """Yield the spans from `start` on, up to the end of the first secret object or array.

        The object or array of header fields counts as one. Return where it ends; `None` at the end
        of the data.
        """
        verdicts = self._verdicts
        for found in _STRING.finditer(self._data, start):
            if found.lastindex == _VALUE:
                if found[1][:1] in _BEGINS_DOCUMENT and found[1]:
                    yield from self._document(found)
                continue
            if verdicts.get(found[1]) == "":
                continue  # Most names are not secret, and known: 1 MiB may have 100,000.
            verdict = self._verdict(found)
            if verdict:
                self._steps.take()
                after = found.end()
                if self._data[after : after + 1] in (b"{", b"["):
                    return (yield from self._container(after, verdict))
                value = _TOKEN.match(self._data, after)
                if value is not None and verdict == "secret":
                    yield from _value(value)
        return None

    def _container(self, start: int, verdict: str) -> Generator[_Span, None, Optional[int]]:
        """Yield the spans in an object or array, which is secret or has header fields.

        All strings and numbers in a secret one are secret. Header fields are members of the
        object, or pairs in a list; their names are judged as such. Return where the object or array
        ends, as above.
        """
        depth = secret = 0
        fields: List[int] = []  # The depths of objects with header fields that are open.
        for found in _TOKEN.finditer(self._data, start):
            self._steps.take()
            mark = found[0][:1]
            if found.lastindex == _NAME:
                is_field = bool(fields) and fields[-1] == depth and not secret
                verdict = "secret" if is_field and _is_field(found[1]) else self._verdict(found)
                continue
            if mark in b"{[":
                depth += 1
                if not secret and verdict == "secret":
                    secret = depth
                elif verdict == "headers":
                    fields.append(depth)
                elif mark == b"[" and fields and depth == fields[-1] + 1 and not secret:
                    pair = _PAIR.match(self._data, found.start())
                    if pair is not None and pair[2] and _is_field(pair[1]):
                        yield _Span(*pair.span(2))
            elif mark in b"}]":
                if depth == secret:
                    secret = 0
                if fields and depth == fields[-1]:
                    fields.pop()
                depth -= 1
                if depth <= 0:
                    return found.end()
            elif secret or verdict == "secret":
                yield from _value(found)
            elif found.lastindex == _VALUE:
                yield from self._document(found)
            verdict = ""
        return None

    def _verdict(self, found: re.Match[bytes]) -> str:
        """Return `"secret"`, `"headers"` or `""` for the name of a member."""
        name = found[1]
        verdict = self._verdicts.get(name)
        if verdict is None:
            verdict = ""
            plain = _unescaped(name).lower()
            if _HINT.search(plain) is not None:
                self._steps.take(_STEPS_OF_A_NAME)
                if len(name) > _LONGEST_NAME:
                    return "secret"
                if plain in (b"headers", b"token"):
                    verdict = plain.decode()
                elif is_secret_member(_decoded(name)):
                    verdict = "secret"
            self._verdicts[name] = verdict
        if verdict == "token":
            return "" if self._is_answer(found.start()) else "secret"
        return verdict

    def _is_answer(self, at: int) -> bool:
        """Return whether the place is in an event with a part of an agent's answer."""
        index = bisect_right(self._answers, (at, len(self._data)))
        return index > 0 and at < self._answers[index - 1][1]

    def _document(self, found: re.Match[bytes]) -> Iterator[_Span]:
        """Yield the span of a string, if its text begins like JSON and has secrets.

        The string may be truncated. The replacement is the string with those secrets redacted.
        """
        start, end = found.span(1)
        if end - start < _SHORTEST_DOCUMENT or not _DOCUMENT.match(self._data, start, end):
            return
        if _HINT.search(_unescaped(found[1]).lower()) is None:
            return  # What is secret wherever it stands is found in the whole text.
        self._steps.take(_STEPS_OF_A_DOCUMENT + (end - start) // _BYTES_OF_A_STEP)
        text = found[1] if found[2] else _TORN_ESCAPE.sub(rb"\1", found[1])
        try:
            inner = str(json.loads(b'"%s"' % text)).encode("utf-8", "surrogatepass")
        except ValueError:
            return
        spans = _Search(inner, self._secrets, self._steps).spans(is_body=True)
        if spans:
            shown = b"".join(_replaced([inner], spans)).decode("utf-8", "surrogatepass")
            yield _Span(start, end, json.dumps(shown).encode()[1:-1])


def _value(found: re.Match[bytes]) -> Iterator[_Span]:
    """Yield the span of a string, without its quotes, or of a number; nothing for a bracket."""
    if found.lastindex is None:
        if found[0] not in b"{}[]":
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


def _base64(secret: bytes) -> Iterator[bytes]:
    """Yield what base64 makes of a secret, at each of its three positions in a group of bytes.

    The characters at both ends, which may hold bits of a neighbour, are left out.
    """
    if len(secret) >= SHORTEST_SECRET:
        for shift, shared in enumerate((0, 2, 3)):
            whole = (shift + len(secret)) * 8 // 6
            yield base64.b64encode(bytes(shift) + secret)[shared:whole]


class _Meanings(Dict[bytes, bytes]):
    """The characters that escapes stand for. Backslashes are left out."""

    def __missing__(self, escape: bytes) -> bytes:
        if escape.startswith(b"%"):
            plain = bytes.fromhex(escape[-2:].decode())
        else:
            units = b"".join(bytes.fromhex(unit[:4].decode()) for unit in escape.split(b"u")[1:])
            plain = units.decode("utf-16-be", "surrogatepass").encode("utf-8", "surrogatepass")
        meaning = self[escape] = plain.replace(b"\\", b"")
        return meaning


def _unescaped(data: bytes) -> bytes:
    """Return a text without escapes and without backslashes."""
    if b"%" in data or b"\\u" in data:
        parts = _ESCAPE.split(data)
        parts[1::2] = map(_Meanings().__getitem__, parts[1::2])
        return b"".join(parts)
    return data.replace(b"\\", b"")


class _Places:
    """The places of a text's bytes in the same text with escapes.

    An escape of several characters counts as one: it begins and ends with the first and last.
    """

    def __init__(self, data: bytes) -> None:
        parts = _ESCAPE.split(data)
        self._escaped = [0, *accumulate(map(len, parts))]
        """Where each part begins in the text with escapes. Each second part is an escape."""
        parts[1::2] = map(_Meanings().__getitem__, parts[1::2])
        self._plain = [0, *accumulate(map(len, parts))]
        """Where each part begins in the text without escapes."""

    def start(self, offset: int) -> int:
        """Return where the byte at `offset` begins."""
        part = bisect_right(self._plain, offset) - 1
        return self._escaped[part] + (0 if part % 2 else offset - self._plain[part])

    def end(self, offset: int) -> int:
        """Return where the byte before `offset` ends."""
        part = bisect_left(self._plain, offset) - 1
        if part % 2:
            return self._escaped[part + 1]
        return self._escaped[part] + offset - self._plain[part]


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
