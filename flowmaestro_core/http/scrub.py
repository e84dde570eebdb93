"""What others say, as it may be shown: a server or a proxy can repeat the secrets it was sent.

Errors are scrubbed where a machine fails (`Machine._fail`), recordings where they are written.
The data of a good reply is the caller's, and stays as it is. Pure.
"""

from __future__ import annotations

import base64
import re
from typing import Callable, Iterable, Iterator, List, Optional, Pattern, Tuple, TypeVar

from flowmaestro_core.errors import FlowMaestroError
from flowmaestro_core.http.messages import Fields, TransportFailure
from flowmaestro_core.http.secrets import REDACTED, SHORTEST_SECRET, is_secret_field

E = TypeVar("E", bound=FlowMaestroError)

LONGEST_TEXT = 1000
"""Characters that an error keeps of a message, a code or an id."""
LONGEST_DETAILS = 500
"""Characters that an error keeps of an error body that is no JSON."""

_MARK = REDACTED.encode()
_LONGEST_CHARACTER = 26
"""Bytes of one character as `\\ud83d\\ude00` whose backslashes are doubled three times, the longest
way to write it that is known again."""
_ENCODING, _ERRORS = "utf-8", "surrogatepass"


class SecretScrubber:
    r"""Replaces secrets by `***`, wherever they stand, with one compiled pattern.

    Secret are the values of the header fields `sent` whose names `is_secret_field` knows, with
    and without the scheme before them (RFC 9110, 11.4: `Bearer`), unless they are shorter than
    `SHORTEST_SECRET`; and what `more` gives, which is called for each text. A secret is known
    again as it is, with characters escaped as in JSON (`\"`, `\/`, `\u0026`) or in a URL (`%26`),
    and in base64.
    """

    def __init__(self, sent: Fields = (), more: Callable[[], Iterable[str]] = tuple) -> None:
        self._sent = sent
        self._more = more
        self._compiled: Tuple[List[str], Pattern[bytes]] = [], re.compile(b"(?!)")

    def and_of(self, sent: Fields) -> SecretScrubber:
        """A scrubber of these secrets and those of `sent`; itself if there are none in that."""
        return SecretScrubber(self._sent + sent, self._more) if sent else self

    @property
    def secrets(self) -> List[str]:
        """All of them, the longest first."""
        found = {
            part for name, value in self._sent if is_secret_field(name) for part in _parts(value)
        }
        return sorted({*found, *self._more()} - {""}, key=lambda it: (-len(it), it))

    @property
    def pattern(self) -> Pattern[bytes]:
        """Finds the secrets in UTF-8, in time linear to the text."""
        secrets = self.secrets
        known, pattern = self._compiled
        if known != secrets:
            looks = b"|".join(look for it in secrets for look in _looks(it))
            pattern = re.compile(looks or b"(?!)")
            self._compiled = secrets, pattern
        return pattern

    @property
    def _reach(self) -> int:
        """The most bytes that a secret can take in a text."""
        return _LONGEST_CHARACTER * max(map(len, self.secrets), default=0)

    def beginning(self, data: bytes, size: int) -> bytes:
        """The first `size` bytes at most, without secrets, and without one that the cut parts."""
        shown = self.pattern.sub(_MARK, data[:size])
        return shown if len(data) <= size else shown[: max(0, len(shown) - self._reach)]

    def text(self, text: str, limit: int = LONGEST_TEXT) -> str:
        """The first `limit` characters of `text`, without secrets."""
        seen = text[: 4 * (limit + self._reach)]
        shown = self.pattern.sub(_MARK, seen.encode(_ENCODING, _ERRORS)).decode(_ENCODING, _ERRORS)
        if len(seen) < len(text):  # the cut may go through a secret
            shown = shown[: max(0, len(shown) - self._reach)]
        return shown[:limit]

    def line(self, text: str) -> str:
        """The same as one printable line."""
        shown = self.text(text)
        if shown.isprintable():
            return shown
        escaped = (char if char.isprintable() else ascii(char)[1:-1] for char in shown)
        return "".join(escaped)[:LONGEST_TEXT]

    def clean(self, error: E) -> E:
        """`error` itself, changed in place: no secret in its texts or in those of its causes.

        The details of an error body are scrubbed before it is read (`error_from_response`).
        """
        error.message = self.text(error.message, 2 * LONGEST_TEXT)  # what it quotes, and our words
        error.args = (error.message,)
        error.code = self.text(error.code)
        error.request_id = error.request_id and self.line(error.request_id)
        if isinstance(error.details, str):
            error.details = type(error.details)(self.text(error.details, LONGEST_DETAILS))
        cause = error.__cause__
        if isinstance(cause, TransportFailure):
            error.__cause__ = self.showable(cause)
        elif cause is not None and self._repeated_by(cause):
            error.__cause__ = None
        return error

    def showable(self, failure: TransportFailure) -> TransportFailure:
        """`failure` itself where a traceback may show it; else one like it, without its causes."""
        message = self.line(failure.message)
        if message == failure.message and not self._repeated_by(failure):
            return failure
        return TransportFailure(
            failure.phase, message, timed_out=failure.timed_out, permanent=failure.permanent
        )

    def _repeated_by(self, error: BaseException) -> bool:
        """Whether a traceback with `error` would show a secret."""
        texts = (text for each in _chain(error) for text in (str(each), repr(each)))
        find = self.pattern.search
        return any(find(text.encode(_ENCODING, _ERRORS)) for text in texts)


def _parts(value: str) -> Iterator[str]:
    for part in (value, value.partition(" ")[2].strip()):
        if len(part) >= SHORTEST_SECRET:
            yield part


def _looks(secret: str) -> Iterator[bytes]:
    """Patterns of the ways to write a secret."""
    yield b"".join(map(_character, re.findall(r"\\+|[^\\]", secret, re.DOTALL)))
    data = secret.encode(_ENCODING, _ERRORS)
    if len(data) >= SHORTEST_SECRET:
        for shift, shared in enumerate((0, 2, 3)):  # the first and last may hold a neighbour's bits
            whole = (shift + len(data)) * 8 // 6
            found = re.escape(base64.b64encode(bytes(shift) + data)[shared:whole])
            yield found.replace(b"\\+", b"[+-]").replace(b"/", b"[/_]")


def _character(char: str) -> bytes:
    """A pattern of one character, or of a run of backslashes, each of which may be doubled."""
    if char.startswith("\\"):
        escaped = rb"\\{1,8}u005[Cc]|%(?:25)?5[Cc]|\\"
        return rb"(?:%s){%d,%d}" % (escaped, len(char), 8 * len(char))
    data, code = char.encode(_ENCODING, _ERRORS), ord(char)
    units = [code]  # of UTF-16 (RFC 8259, 7); its codec would be imported here, and read a file
    if code > 0xFFFF:
        units = [0xD7C0 + (code >> 10), 0xDC00 + (code & 0x3FF)]
    return b"(?:%s|%s|%s)" % (
        b"".join(rb"\\{1,8}u(?i:%04x)" % unit for unit in units),
        b"".join(b"%%(?:25)?(?i:%02x)" % byte for byte in data),
        (rb"\\{0,7}" if char in "\"'/" else b"") + re.escape(data),
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """What a traceback shows with `error`: its causes and theirs."""
    seen: List[BaseException] = []
    cause: Optional[BaseException] = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
