"""Things that move from owner to owner, whatever a signal handler raises."""

from __future__ import annotations

from typing import Any, List

import pytest

from flowmaestro_transports.primitives.ownership import Owned


def test_thing_moves_from_one_owner_to_another() -> None:
    first, second = Owned(["a", "b", "c"]), Owned(["x"])
    assert first.move_to(second)
    assert first.move_to(second, 0)
    assert (first, second) == (["b"], ["x", "c", "a"])


def test_empty_owner_moves_nothing() -> None:
    first: Owned[str] = Owned()
    second = Owned(["x"])
    assert not first.move_to(second)
    assert second == ["x"]


class Thing:
    def __init__(self, log: List[str], name: str, error: Any = None) -> None:
        self._log, self._name, self._error = log, name, error

    def close(self) -> None:
        self._log.append(self._name)
        if self._error is not None:
            error, self._error = self._error, None
            raise error


def test_thing_whose_closing_is_interrupted_stays_and_is_closed_again() -> None:
    log: List[str] = []
    owned = Owned([Thing(log, "a"), Thing(log, "b", KeyboardInterrupt()), Thing(log, "c")])
    with pytest.raises(KeyboardInterrupt):
        owned.close_all()
    assert (len(owned), log) == (2, ["c", "b"])
    owned.close_all()
    assert (len(owned), log) == (0, ["c", "b", "b", "a"])
