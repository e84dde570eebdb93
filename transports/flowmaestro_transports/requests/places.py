"""Giving connections of urllib3 up, from wherever the garbage collector happens to call.

A pool that bounds its connections has to be told of each that is gone. It is told under a lock,
which is not re-entrant: and an abandoned stream may be collected while this very thread is about
to put another connection back, and holds it.
"""

from __future__ import annotations

from typing import Any, List, Set


class Places:
    """The places in pools that are free again, but that a pool could not be told of yet."""

    def __init__(self) -> None:
        self._owed: List[Any] = []
        self.in_use: Set[Any] = set()
        """The replies whose bodies are open. They would else be garbage together with a body that
        nobody closed, and their sockets would warn before it is collected."""

    def give_up(self, raw: Any) -> None:
        """Close the connection of a reply of urllib3's, and have its pool make room for another.

        Only a pool that makes others wait needs to hear of that; ours do not.
        """
        self.in_use.discard(raw)
        raw.close()
        if getattr(getattr(raw, "_pool", None), "block", False):
            self._owed.append(raw)
            self.settle()

    def settle(self) -> None:
        """Tell the pools whose lock is free. To be called whenever nothing of theirs is under way.

        Whoever holds the lock brings or takes a connection, so that one circulates still, and
        the next call or the end of a reply comes by here.
        """
        for _ in range(len(self._owed)):
            try:
                raw = self._owed.pop(0)
            except IndexError:  # another thread has told it
                return
            lock = getattr(raw._pool.pool, "mutex", None)
            if lock is not None and lock.locked():  # by this thread, maybe
                self._owed.append(raw)
            else:
                raw.release_conn()
