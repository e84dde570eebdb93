"""The search for the recorded exchange to replay for a request.

A request is recognised by its method, its path below the API root, its query and its body, all of
them redacted, but not by its host or header fields. JSON bodies are compared as values. Of several
exchanges with the same request, the first that was not replayed yet is replayed.
"""

from __future__ import annotations

import difflib
import json
import threading
from pathlib import Path
from typing import Any, List, Sequence
from urllib.parse import parse_qsl, urlsplit

from flowmaestro.testing.cassettes.jsonlines import RecordedExchange
from flowmaestro.testing.cassettes.redaction import Redaction
from flowmaestro.testing.fake.model.replies import FakeReply
from flowmaestro.testing.fake.model.requests import path_below_root
from flowmaestro.testing.virtual.clock import VirtualClock
from flowmaestro.testing.virtual.playback import played
from flowmaestro_core.http.messages import Request


class CassetteMismatch(AssertionError):
    """A request has no exchange left in the cassette.

    It was never recorded, or was already replayed.
    """


class Player:
    """A simulated server that replays each exchange of a cassette once, on a clock of its own."""

    seed = 0

    def __init__(
        self, path: Path, exchanges: Sequence[RecordedExchange], redaction: Redaction
    ) -> None:
        self.clock: VirtualClock = VirtualClock()
        self.name: str = path.name
        self._path = path
        self._exchanges = list(exchanges)
        self._left = list(exchanges)
        self._redaction = redaction
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"the cassette {self.name}"

    @property
    def unplayed(self) -> List[RecordedExchange]:
        """The exchanges that were not replayed yet."""
        with self._lock:
            return list(self._left)

    def pop(self, request: Request) -> RecordedExchange:
        """Remove and return the first exchange that is left for an equal request.

        Raises `CassetteMismatch` if there is none.
        """
        shown = _shown(self._redaction.request(request))
        # The key of the replay may be a word that was not redacted when another key was recorded.
        plain = _shown(self._redaction.request(request, everywhere=False))
        with self._lock:
            for index, exchange in enumerate(self._left):
                if _shown(exchange.request) in (shown, plain):
                    return self._left.pop(index)
        raise CassetteMismatch(
            f"{self._difference(shown)}\n"
            f"To record this test again, delete {self._path} and use mode='once', or use "
            "mode='all'. With the fixture flowmaestro_cassette, run pytest with "
            "--flowmaestro-cassettes=all."
        )

    def handle(self, request: Request, now: float) -> FakeReply:
        """Return the response to this request, from the first exchange that is left for it.

        Raises `CassetteMismatch` if none is left.
        """
        return played(self.clock, self.pop(request).steps)

    def _difference(self, shown: List[str]) -> str:
        played = [it for it in self._exchanges if _shown(it.request) == shown]
        if played:
            lines = ", ".join(str(exchange.line) for exchange in played)
            count = f"{len(played)} time{'s' if len(played) > 1 else ''}"
            return (
                f"{self.name} holds this request {count} (line {lines}), and it was made once "
                "more:\n" + "\n".join(shown)
            )
        left = self.unplayed
        if not left:
            return (
                f"every exchange of {self.name} was replayed, and this request is not in it:\n"
                + ("\n".join(shown))
            )
        expected = left[0]
        changes = difflib.ndiff(_shown(expected.request), shown)
        return "\n".join(
            [
                f"{self.name} does not hold this request.",
                f"- expected next: the request in line {expected.line}",
                "+ the request that was made",
                *(line for line in changes if not line.startswith("?")),
            ]
        )


def _shown(request: Request) -> List[str]:
    """Return the parts by which a request is recognised, as lines to compare."""
    query = sorted(parse_qsl(urlsplit(request.url).query, keep_blank_values=True))
    parameters = [f"  {name}={value}" for name, value in query]
    return [f"{request.method} {path_below_root(request.url)}", *parameters, *_body(request.body)]


def _body(body: bytes) -> List[str]:
    if not body:
        return []
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "backslashreplace").split("\n")
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).splitlines()
