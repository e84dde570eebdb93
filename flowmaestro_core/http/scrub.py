"""Redaction of secrets in texts of servers and proxies, which can repeat the secrets sent to them.

A machine redacts its errors before they are raised (`clean`). A recording is redacted when it is
written. The data of a successful reply is left as it is, because it belongs to the caller. Pure.
"""

from __future__ import annotations

import re
from typing import Callable, Iterable, Iterator, List, Optional, Pattern, Tuple, TypeVar

from flowmaestro_core.errors import FlowMaestroError, set_args
from flowmaestro_core.http.messages import Fields, Headers, TransportFailure
from flowmaestro_core.http.secrets import REDACTED, SHORTEST_SECRET, is_secret_field

E = TypeVar("E", bound=FlowMaestroError)

LONGEST_TEXT = 1000
"""Characters that an error keeps of a server's message, of a code or of an id: about ten lines of a
terminal. A server may repeat a whole input in its message."""
LONGEST_DETAILS = 500
"""Characters that the `details` of an error keep of an error body that is not JSON. The title and
the heading of a proxy's error page are among them."""

LONGEST_BODY = 4000
"""Characters that the `body` of an error keeps of an error body, whatever it is: the start of a
page for whoever debugs a proxy. An error may be logged or kept for each of thousands of rows."""

_MARK = REDACTED.encode()
_LONGEST_CHARACTER = 26
"""Bytes of the longest encoding of one character that is recognised: `\\ud83d\\ude00`, with the
backslashes doubled three times."""
_ENCODING, _ERRORS = "utf-8", "surrogatepass"


def no_secrets() -> Tuple[str, ...]:
    """Return `()`: the secrets of a transport that sends none of its own."""
    return ()


class SecretScrubber:
    r"""Replaces secrets by `***`, wherever they stand, with one compiled pattern.

    A value in `sent` is secret if `is_secret_field` recognises the name of its field. It is
    redacted with and without its scheme (RFC 9110, 11.4: `Bearer`). A value shorter than
    `SHORTEST_SECRET` is not redacted. `more` returns further secrets, of any length; it is called
    for each text. A secret is recognised in plain text, with characters escaped as in JSON (`\"`,
    `\/`, `\u0026`) or in a URL (`%26`), and, from `SHORTEST_SECRET` bytes on, in base64.
    """

    def __init__(self, sent: Fields = (), more: Callable[[], Iterable[str]] = no_secrets) -> None:
        self._sent = sent
        self._more = more
        self._compiled: Tuple[List[str], Pattern[bytes]] = [], re.compile(b"(?!)")

    def with_secrets_of(self, sent: Fields) -> SecretScrubber:
        """Return a scrubber that also redacts the secrets in `sent`; `self` if `sent` is empty."""
        return SecretScrubber(self._sent + sent, self._more) if sent else self

    @property
    def secrets(self) -> List[str]:
        """All secrets, the longest first."""
        found = {
            part for name, value in self._sent if is_secret_field(name) for part in _parts(value)
        }
        return sorted({*found, *self._more()} - {""}, key=lambda it: (-len(it), it))

    @property
    def pattern(self) -> Pattern[bytes]:
        """A pattern that finds the secrets in UTF-8, in time linear to the length of the text."""
        secrets = self.secrets
        known, pattern = self._compiled
        if known != secrets:
            encodings = b"|".join(found for secret in secrets for found in _encodings(secret))
            pattern = re.compile(encodings or b"(?!)")
            self._compiled = secrets, pattern
        return pattern

    @property
    def _max_match_size(self) -> int:
        """The most bytes that one secret takes in a text, if the secret has few backslashes."""
        return _LONGEST_CHARACTER * max(map(len, self.secrets), default=0)

    def beginning(self, data: bytes, size: int) -> bytes:
        """Return the first `size` bytes, redacted.

        If `data` is longer, bytes at the end that may be the beginning of a secret are dropped.
        """
        shown = self.pattern.sub(_MARK, data[:size])
        return shown if len(data) <= size else shown[: max(0, len(shown) - self._max_match_size)]

    def text(self, text: str, limit: int = LONGEST_TEXT) -> str:
        """Redact `text`. Return at most the first `limit` characters of the result."""
        seen = text[: 4 * (limit + self._max_match_size)]
        shown = self.pattern.sub(_MARK, seen.encode(_ENCODING, _ERRORS)).decode(_ENCODING, _ERRORS)
        if len(seen) < len(text):  # A secret may begin before the cut and end after it.
            shown = shown[: max(0, len(shown) - self._max_match_size)]
        return shown[:limit]

    def headers(self, headers: Headers) -> Headers:
        """Return the header fields of a response, without `Set-Cookie`.

        Values are redacted and truncated. A name that holds a secret, in any letters, is redacted,
        too: proxies write names in lower case.
        """
        secrets = [secret.lower() for secret in self.secrets if len(secret) >= SHORTEST_SECRET]

        def shown(name: str) -> str:
            lowered = name.lower()
            return REDACTED if any(map(lowered.__contains__, secrets)) else self.text(name)

        return Headers(
            tuple(
                (shown(name), REDACTED if is_secret_field(name) else self.text(value))
                for name, value in headers.pairs
                if name.lower() not in ("set-cookie", "set-cookie2")
            )
        )

    def line(self, text: str) -> str:
        """Return `text`, redacted, as one printable line of at most `LONGEST_TEXT` characters.

        A character that is not printable, such as a line end, becomes an escape sequence.
        """
        shown = self.text(text)
        if shown.isprintable():
            return shown
        escaped = (char if char.isprintable() else ascii(char)[1:-1] for char in shown)
        return "".join(escaped)[:LONGEST_TEXT]

    def clean(self, error: E) -> E:
        """Redact and truncate the texts of `error`, in place. Return `error`.

        These are its message, its code, its request id, and its `details` if they are a text.
        Other `details` are decoded from an error body that `error_from_response` has redacted
        already. A `TransportFailure` as the cause is replaced by its `showable` form. Another cause
        that would show a secret is removed.
        """
        # Twice the limit: a message holds a text of the server and our own words around it.
        error.message = self.text(error.message, 2 * LONGEST_TEXT)
        error.code = self.text(error.code)
        error.request_id = error.request_id and self.line(error.request_id)
        if isinstance(error.details, str):
            error.details = type(error.details)(self.text(error.details, LONGEST_DETAILS))
        set_args(error)
        cause = error.__cause__
        if isinstance(cause, TransportFailure):
            error.__cause__ = self.showable(cause)
        elif cause is not None and self._is_leaked_by(cause):
            error.__cause__ = None
        return error

    def showable(self, failure: TransportFailure) -> TransportFailure:
        """Return `failure` if it can be shown, else a redacted copy without its causes.

        It can be shown if neither it nor its causes hold a secret, and if its message is short and
        printable (`line`).
        """
        message = self.line(failure.message)
        if message == failure.message and not self._is_leaked_by(failure):
            return failure
        return TransportFailure(
            failure.phase, message, timed_out=failure.timed_out, permanent=failure.permanent
        )

    def _is_leaked_by(self, error: BaseException) -> bool:
        """Return whether a traceback with `error` would show a secret."""
        texts = (text for each in _chain(error) for text in (str(each), repr(each)))
        find = self.pattern.search
        return any(find(text.encode(_ENCODING, _ERRORS)) for text in texts)


def _parts(value: str) -> Iterator[str]:
    for part in (value, value.partition(" ")[2].strip()):
        if len(part) >= SHORTEST_SECRET:
            yield part


def _encodings(secret: str) -> Iterator[bytes]:
    """Yield patterns that find a secret: in plain text or escaped, and in base64.

    A secret of less than `SHORTEST_SECRET` bytes gets no pattern for base64.
    """
    import base64  # Only errors need it.

    yield b"".join(map(_character, re.findall(r"\\+|[^\\]", secret, re.DOTALL)))
    data = secret.encode(_ENCODING, _ERRORS)
    if len(data) >= SHORTEST_SECRET:
        # The first and the last character may hold bits of a neighbour: leave them out.
        for shift, shared in enumerate((0, 2, 3)):
            whole = (shift + len(data)) * 8 // 6
            found = re.escape(base64.b64encode(bytes(shift) + data)[shared:whole])
            yield found.replace(b"\\+", b"[+-]").replace(b"/", b"[/_]")


def _character(char: str) -> bytes:
    """Return a pattern that finds `char` as it is or escaped.

    `char` is one character, or a run of backslashes, each of which may be doubled three times.
    """
    if char.startswith("\\"):
        escaped = rb"\\{1,8}u005[Cc]|%(?:25)?5[Cc]|\\"
        return rb"(?:%s){%d,%d}" % (escaped, len(char), 8 * len(char))
    data, code = char.encode(_ENCODING, _ERRORS), ord(char)
    # UTF-16 code units (RFC 8259, 7), computed here: Python would load the codec from a file.
    units = [code]
    if code > 0xFFFF:
        units = [0xD7C0 + (code >> 10), 0xDC00 + (code & 0x3FF)]
    return b"(?:%s|%s|%s)" % (
        b"".join(rb"\\{1,8}u(?i:%04x)" % unit for unit in units),
        b"".join(b"%%(?:25)?(?i:%02x)" % byte for byte in data),
        (rb"\\{0,7}" if char in "\"'/" else b"") + re.escape(data),
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that a traceback of `error` shows.

    They are `error`, then its cause or context, then the cause or context of that one, and so on.
    """
    seen: List[BaseException] = []
    cause: Optional[BaseException] = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
