"""Which events a caller has had already, known by their ids, in bounded memory."""

from __future__ import annotations

from typing import Dict, List

REMEMBERED_IDS = 1024
FIRST_IDS = 16
"""Ids from the beginning of the stream that are never forgotten, to know a replay by."""


class SeenIds:
    """The ids of a stream, over all of its connections.

    On one connection nothing is a repeat, though several events may bear the same id; on a new
    one, what an earlier one brought is. The newest ids are remembered, for a server that repeats
    a little. One that ignores `Last-Event-ID` replays the stream from its beginning: a connection
    that begins with the stream's first ids, in their order, brings nothing new until the newest
    known id has come by, or as many ids as there were.
    """

    def __init__(self) -> None:
        self._first: List[str] = []
        self._first_earlier = 0
        """How many of them earlier connections have brought."""
        self._recent: Dict[str, None] = {}
        self._earlier: Dict[str, None] = {}
        """What was recent when this connection was made: a long replay does not push it out."""
        self._count = 0
        self._newest = ""
        self._matched = -1
        self._replayed = 0

    @property
    def replaying(self) -> bool:
        """Whether this connection repeats what has been, at ids that may be forgotten."""
        return self._replayed > 0

    def resume_from(self, last_event_id: str) -> str:
        """The id to resume from, when the connection ended at `last_event_id`."""
        return self._newest if self.replaying else last_event_id

    def reconnected(self) -> None:
        """A new connection begins."""
        for known in self._recent:
            _remember(self._earlier, known)
        self._first_earlier = len(self._first)
        self._matched = self._replayed = 0

    def is_new(self, event_id: str) -> bool:
        """Whether no earlier connection brought an event of this id, and remember it.

        Not to be asked of what ends a stream: that cannot have been.
        """
        known = event_id in self._earlier or event_id in self._first[: self._first_earlier]
        self._watch_for_replay(event_id)
        if known or self.replaying:
            newest_again = event_id == self._newest
            self._replayed = 0 if newest_again else max(self._replayed - 1, 0)
            return False
        self._count += 1
        self._newest = event_id
        if len(self._first) < FIRST_IDS:
            self._first.append(event_id)
        _remember(self._recent, event_id)
        return True

    def _watch_for_replay(self, event_id: str) -> None:
        if 0 <= self._matched < len(self._first):
            again = event_id == self._first[self._matched]
            self._matched = self._matched + 1 if again else -1
            if self._matched == FIRST_IDS:
                self._replayed = self._count - FIRST_IDS + 1


def _remember(ids: Dict[str, None], one: str) -> None:
    """Add an id, and forget the oldest of too many."""
    ids[one] = None
    if len(ids) > REMEMBERED_IDS:
        del ids[next(iter(ids))]
