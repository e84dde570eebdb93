"""Redaction of a cassette: keys, secrets and credentials are replaced by `***`.

Header fields and query parameters are secret by the core's rule for names. The rule also covers
bodies: the parameters of every URL, and the members of a `headers` object, such as a webhook's.
The credentials before the `@` of a URL are removed. Bodies may be JSON or events with JSON, perhaps
truncated, or URL-encoded parameters. Other members of JSON objects are secret if a second list has
their name, such as `secret` or `access_token`. Only strings and numbers are redacted in JSON.

The value of a secret header field is redacted everywhere in its exchange, also where it is
percent-encoded or in base64. Exceptions are a value of fewer than 8 characters, and in the request
the values of the response. Everything that looks like an API key or a webhook secret is redacted.
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, Iterator, List, Optional, Set, Tuple, cast

from flowmaestro.testing.cassettes.jsonlines import RecordedExchange
from flowmaestro.testing.redaction import redacted
from flowmaestro.testing.virtual.playback import Quiet, ReplyStep
from flowmaestro_core.http.messages import Headers, Request, ResponseHead, TransportFailure
from flowmaestro_core.http.secrets import REDACTED, SHORTEST_SECRET, is_secret_field

Redact = Callable[[str], Iterable[str]]
"""A rule of the user: it gets a URL, the value of a header field, a body or the message of a
failure, and returns the parts of it that are secret."""

_ESCAPES = "surrogateescape"


class Redaction:
    """All rules of redaction, including that of the user."""

    def __init__(self, redact: Optional[Redact] = None) -> None:
        if redact is not None and not callable(redact):
            raise TypeError(f"redact must be a function from a text to its secrets, not {redact!r}")
        self._redact = redact

    def request(self, request: Request, *, everywhere: bool = True) -> Request:
        """Return the request, redacted.

        With `everywhere`, the values of its secret header fields are redacted in its URL and its
        body, too, except those of fewer than `SHORTEST_SECRET` characters.
        """
        fields = [request.headers] if everywhere else []
        secrets = self._secrets(fields, [request.url, _text(request.body)])
        body = b"".join(redacted([request.body], secrets))
        headers = _headers(request.headers, secrets)
        return Request(request.method, _plain(request.url, secrets), headers, body)

    def exchange(
        self, exchange: RecordedExchange, sent_beside: Iterable[str] = ()
    ) -> RecordedExchange:
        """Return the exchange, redacted; pieces of a body keep their boundaries.

        A piece that is then empty is left out. `sent_beside` are secrets that the transport sent,
        but that are not in the request: they are redacted in the response.
        """
        steps, request = exchange.steps, exchange.request
        heads = [step for step in steps if isinstance(step, ResponseHead)]
        body = b"".join(step for step in steps if isinstance(step, bytes))
        texts = [request.url, _text(request.body), _text(body)]
        texts += [step.message for step in steps if isinstance(step, TransportFailure)]
        secrets = self._secrets([request.headers, *(head.headers for head in heads)], texts)
        secrets.update(map(_bytes, sent_beside))
        # Only by its own secrets, because a replayed request must be redacted in the same way.
        return RecordedExchange(self.request(request), tuple(_steps(steps, secrets)))

    def _secrets(self, headers: Iterable[Headers], texts: Iterable[str]) -> Set[bytes]:
        """Return the secrets that are replaced everywhere in a request or a response.

        They are the values of secret fields in `headers` that have at least `SHORTEST_SECRET`
        characters, and what the user's function `redact` finds in header values and in `texts`.
        """
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
            raise TypeError(
                f"redact must return the texts to redact, such as a list, not {given!r}"
            )
        return found


def _steps(steps: Iterable[ReplyStep], secrets: Set[bytes]) -> Iterator[ReplyStep]:
    steps = list(steps)
    pieces = iter(redacted([step for step in steps if isinstance(step, bytes)], secrets))
    for step in steps:
        if isinstance(step, Quiet):
            yield step
        elif isinstance(step, ResponseHead):
            yield ResponseHead(step.status, _headers(step.headers, secrets))
        elif isinstance(step, TransportFailure):
            message = _plain(step.message, secrets)
            yield TransportFailure(
                step.phase, message, timed_out=step.timed_out, permanent=step.permanent
            )
        else:
            piece = next(pieces)
            if piece:  # A piece that held only the end of a secret is empty now.
                yield piece


def _headers(headers: Headers, secrets: Set[bytes]) -> Headers:
    return Headers(
        (_plain(name, secrets), REDACTED if is_secret_field(name) else _plain(value, secrets))
        for name, value in headers.pairs
    )


def _plain(text: str, secrets: Set[bytes]) -> str:
    """Return `text`, redacted: a URL, a header field's name or value, or a failure's message.

    `***` replaces `secrets` (plain, escaped or in base64), everything that looks like a key, and
    secret parameters of URLs. The user part of a URL is removed.
    """
    return _text(b"".join(redacted([_bytes(text)], secrets, is_body=False)))


def _parts(value: str) -> Tuple[str, ...]:
    """Return the value of a secret field and, if it has a scheme, the value without it.

    A scheme is a word before a space, such as `Bearer` (RFC 9110, 11.4).
    """
    scheme, space, rest = value.partition(" ")
    return (value, rest) if space else (scheme,)


def _text(data: bytes) -> str:
    return data.decode("utf-8", _ESCAPES)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", _ESCAPES)
