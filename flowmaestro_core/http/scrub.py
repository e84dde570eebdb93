"""What others say, as it may be shown: a server can repeat the secrets that it was sent.

Only for what has gone wrong, and for who watches; the data of a good reply is the caller's.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple, cast

from flowmaestro_core.http.messages import TransportFailure
from flowmaestro_core.http.secrets import REDACTED, SHORTEST_SECRET, is_secret_field

LONGEST_TEXT = 1000
"""Characters that an error keeps of a message, a code or an id."""


class SecretScrubber:
    """Blots out what repeats a secret value of the header fields `sent`, with `***`.

    A value is known again as it is, without its scheme (RFC 9110, 11.4: the credentials of
    `Bearer`), and with its characters escaped as in JSON; not in any other disguise.
    """

    def __init__(self, sent: Iterable[Tuple[str, str]]) -> None:
        self._secrets = [
            secret
            for name, value in sent
            if is_secret_field(name)
            for secret in (value, value.partition(" ")[2].strip())
            if len(secret) >= SHORTEST_SECRET
        ]

    def and_of(self, sent: Tuple[Tuple[str, str], ...]) -> SecretScrubber:
        """These, and those of `sent`."""
        if not sent:
            return self
        both = SecretScrubber(sent)
        both._secrets += self._secrets
        return both

    def blotted(self, text: str) -> str:
        """`text` without the secrets."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
            if "\\" in text:
                text = re.sub(_however_escaped(secret), REDACTED, text)
        return text

    def blotted_json(self, value: Any) -> Any:
        """Decoded JSON without the secrets, changed in place; a text is given back anew."""
        root = [value]
        waiting: List[Any] = [root]
        while waiting:  # no recursion: JSON can be nested deeper than Python calls
            holder = waiting.pop()
            places: List[Tuple[Any, Any]]
            if isinstance(holder, dict):
                members = cast("Dict[str, Any]", holder)
                places = [(self.blotted(name), item) for name, item in members.items()]
                members.clear()
                members.update(places)
            else:
                places = list(enumerate(cast("List[Any]", holder)))
            for place, item in places:
                if isinstance(item, str):
                    holder[place] = self.blotted(item)
                elif isinstance(item, (dict, list)):
                    waiting.append(item)
        return root[0]

    def line(self, text: str) -> str:
        """`text` without the secrets, as one printable line of a bounded length."""
        blotted = self.blotted(text)[:LONGEST_TEXT]
        if blotted.isprintable():
            return blotted
        escaped = (char if char.isprintable() else ascii(char)[1:-1] for char in blotted)
        return "".join(escaped)[:LONGEST_TEXT]

    def showable(self, failure: TransportFailure) -> TransportFailure:
        """`failure` itself where a traceback may show it; else one like it, without its causes."""
        message = self.line(failure.message)
        if message == failure.message and not self._heard_in(failure):
            return failure
        return TransportFailure(failure.phase, message, timed_out=failure.timed_out)

    def _heard_in(self, error: BaseException) -> bool:
        return any(self.blotted(text) != text for text in map(str, _chain(error)))


def _however_escaped(secret: str) -> str:
    """A pattern of a text of visible ASCII characters, escaped as JSON may do it."""
    return "".join(rf"(?:\\?{re.escape(char)}|\\u00(?i:{ord(char):02x}))" for char in secret)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """What a traceback shows with `error`: its causes and theirs."""
    seen: List[BaseException] = []
    cause: Optional[BaseException] = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
