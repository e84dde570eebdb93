"""What is written `***` in a cassette, wherever it stands: keys, secrets, credentials.

Header fields and query parameters are secret by the core's rule for names, those inside bodies
included: the parameters of any URL, and the members of a `headers` object, such as a webhook's.
So is what stands before the `@` of a URL. Of bodies, be they JSON, events with JSON, or the
torn-off beginning of either, the other members of objects are by a rule of their own: whatever
stands under a name such as `secret` or `access_token`. What is secret in the header fields,
percent-encoded or in base64 as well, and whatever looks like a key of the API or the secret of a
webhook, is secret everywhere.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple, cast
from urllib.parse import quote, unquote_plus

from flowmaestro.testing.cassettes.exchange import Exchange
from flowmaestro.testing.played import Quiet, Step
from flowmaestro_core.http import Headers, Request, ResponseHead, TransportFailure
from flowmaestro_core.secrecy import REDACTED, SHORTEST_SECRET, is_secret_field

Redact = Callable[[str], Iterable[str]]
"""The user's own rule: it gets a URL, the value of a header field, a body or the message of a
failure, and says which parts of that are secret."""

_OF_THE_API = re.compile(rb"(?:fm_(?:live|test)|whsec)_[\w-]+")
_SECRET_MEMBER = re.compile(
    r"secret|credential|passw|passphrase|passcode|authorization|cookie|signature|bearer"
    r"|(?:api|private|access|signing|encryption)key|(?:access|auth|bearer|id|refresh|session)token"
)
_TOKEN = re.compile(rb'"(?:[^"\\\r\n]|\\.)*"?|[{}\[\],:]|-?\d[\w.+-]*')
_ESCAPES = "surrogateescape"
_URL = re.compile(rb':(?:\\?/){2}[^\s"<>]+')
_USER = re.compile(rb":(?:\\?/){2}([^/?#\\]*@)")
_PARAMETER = re.compile(rb"(?:[?&;#]|\\u0026)([^=?&;#\\]+)=((?:(?!\\u0026)[^&;#])+)")


class _Span(NamedTuple):
    """A part of a text that is not to be seen, and what is seen in its place."""

    start: int
    end: int
    instead: bytes = REDACTED.encode()


class Redaction:
    """The rules, with the user's own."""

    def __init__(self, redact: Optional[Redact] = None) -> None:
        if redact is not None and not callable(redact):
            raise TypeError(f"redact must be a function from a text to its secrets, not {redact!r}")
        self._redact = redact

    def request(self, request: Request) -> Request:
        """The request as it may be seen."""
        secrets = self._secrets([request.headers], [request.url, _text(request.body)])
        body = b"".join(_hidden([request.body], secrets))
        headers = _headers(request.headers, secrets)
        return Request(request.method, _plain(request.url, secrets), headers, body)

    def exchange(self, exchange: Exchange) -> Exchange:
        """The exchange as it may be seen; pieces of a body keep their boundaries."""
        steps, request = exchange.steps, exchange.request
        heads = [step for step in steps if isinstance(step, ResponseHead)]
        body = b"".join(step for step in steps if isinstance(step, bytes))
        texts = [request.url, _text(request.body), _text(body)]
        texts += [step.message for step in steps if isinstance(step, TransportFailure)]
        secrets = self._secrets([request.headers, *(head.headers for head in heads)], texts)
        # By its own secrets alone, as when it is made again.
        return Exchange(self.request(request), tuple(_steps(steps, secrets)))

    def _secrets(self, headers: Iterable[Headers], texts: Iterable[str]) -> Set[bytes]:
        """The secrets that are known by what they are, not by where they stand."""
        pairs = [pair for fields in headers for pair in fields.pairs]
        found = [part for name, value in pairs if is_secret_field(name) for part in _parts(value)]
        known = {_bytes(text) for text in found if len(text) >= SHORTEST_SECRET}
        for text in [*texts, *(value for _, value in pairs)]:
            known.update(_bytes(secret) for secret in self._own(text))
        return known - {b""}

    def _own(self, text: str) -> List[str]:
        if self._redact is None:
            return []
        given: Any = self._redact(text)
        several = isinstance(given, Iterable) and not isinstance(given, str)
        found: List[Any] = list(cast("Iterable[Any]", given)) if several else [None]
        if not all(isinstance(secret, str) for secret in found):
            raise TypeError(f"redact must return texts to be hidden, such as a list, not {given!r}")
        return found


def is_secret_member(name: str) -> bool:
    """Whether the member `name` of a JSON object may be a credential, as far as its name tells.

    Stricter than the rule for header fields, as the service itself calls the pieces of a text
    tokens, and the session of a user is no secret.
    """
    return _SECRET_MEMBER.search(re.sub(r"[^a-z]", "", name.lower())) is not None


def _steps(steps: Iterable[Step], secrets: Set[bytes]) -> Iterator[Step]:
    steps = list(steps)
    pieces = iter(_hidden([step for step in steps if isinstance(step, bytes)], secrets))
    for step in steps:
        if isinstance(step, Quiet):
            yield step
        elif isinstance(step, ResponseHead):
            yield ResponseHead(step.status, _headers(step.headers, secrets))
        elif isinstance(step, TransportFailure):
            message = _plain(step.message, secrets)
            yield TransportFailure(step.phase, message, timed_out=step.timed_out)
        else:
            piece = next(pieces)
            if piece:  # or all that it held was the end of a secret
                yield piece


def _headers(headers: Headers, secrets: Set[bytes]) -> Headers:
    return Headers(
        (name, REDACTED if is_secret_field(name) else _plain(value, secrets))
        for name, value in headers.pairs
    )


def _plain(text: str, secrets: Set[bytes]) -> str:
    """A text that is no body: only what is secret everywhere."""
    data = _bytes(text)
    return _text(b"".join(_cut_out([data], _known(data, secrets))))


def _hidden(pieces: List[bytes], secrets: Set[bytes]) -> Iterator[bytes]:
    """The pieces of a body."""
    data = b"".join(pieces)
    return _cut_out(pieces, [*_known(data, secrets), *_members(data)])


def _known(data: bytes, secrets: Set[bytes]) -> List[_Span]:
    """What is secret wherever it stands."""
    looks = {look for secret in secrets for look in _disguised(secret)}
    patterns = [_OF_THE_API, *(re.compile(re.escape(look)) for look in looks)]
    spans = [_Span(*found.span()) for pattern in patterns for found in pattern.finditer(data)]
    return [*spans, *_in_urls(data)]


def _disguised(secret: bytes) -> Iterator[bytes]:
    """A secret as it is, percent-encoded, and in base64, wherever in that it begins."""
    yield secret
    yield quote(secret, safe="").encode()
    if len(secret) >= SHORTEST_SECRET:
        for shift, shared in enumerate((0, 2, 3)):  # the first and last may hold a neighbour's bits
            whole = (shift + len(secret)) * 8 // 6
            yield base64.b64encode(bytes(shift) + secret)[shared:whole]
            yield base64.urlsafe_b64encode(bytes(shift) + secret)[shared:whole]


def _in_urls(data: bytes) -> Iterator[_Span]:
    """Who uses a URL, and its parameters with secret names."""
    for url in _URL.finditer(data):
        user = _USER.match(data, *url.span())
        if user is not None:
            yield _Span(*user.span(1), instead=b"")
        for parameter in _PARAMETER.finditer(data, *url.span()):
            if is_secret_field(unquote_plus(_text(parameter[1]))):
                yield _Span(*parameter.span(2))


def _members(data: bytes) -> Iterator[_Span]:
    """The texts and numbers under secret names; what is no JSON between them is passed over."""
    name, secret, depth = "", False, 0
    secret_from = fields_at = 0
    value: Optional[re.Match[bytes]] = None
    for token in _TOKEN.finditer(data):
        mark = token[0][:1]
        if mark not in b"{}[],:":
            if value is None:
                value = token
            continue
        if mark == b":" and value is not None and value[0].startswith(b'"'):
            name = _name(value[0])
            is_secret = is_secret_field if depth == fields_at > 0 else is_secret_member
            secret = is_secret(name)
        elif value is not None and (secret or secret_from):
            yield from _value(value)
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
    if value is not None and (secret or secret_from):
        yield from _value(value)


def _value(found: re.Match[bytes]) -> Iterator[_Span]:
    start, end = found.span()
    if not found[0].startswith(b'"'):
        yield _Span(start, end, b'"%s"' % REDACTED.encode())
    else:
        closed = end - start > 1 and found[0].endswith(b'"')
        if end - closed > start + 1:
            yield _Span(start + 1, end - closed)


def _name(literal: bytes) -> str:
    try:
        return str(json.loads(literal))
    except ValueError:
        return literal.decode("utf-8", "replace")


def _cut_out(pieces: Iterable[bytes], spans: Iterable[_Span]) -> Iterator[bytes]:
    """The pieces without the spans; what is seen instead stands where a span begins."""
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


def _parts(value: str) -> Tuple[str, ...]:
    """A secret field's value, and what follows the scheme in it (RFC 9110, 11.4)."""
    scheme, space, rest = value.partition(" ")
    return (value, rest) if space else (scheme,)


def _text(data: bytes) -> str:
    return data.decode("utf-8", _ESCAPES)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", _ESCAPES)
