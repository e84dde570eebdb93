"""Who must release what, at any moment: see *Ownership* in `docs/architecture.md`.

Has no side effects but what closing a thing has.
"""

from __future__ import annotations

from typing import List, Protocol, TypeVar

T = TypeVar("T")


class Closable(Protocol):
    """An object that can be closed. Closing it twice is harmless."""

    def close(self) -> None:
        """Close it."""


C = TypeVar("C", bound=Closable)


class Owned(List[T]):
    """The things that one owner holds, and must close or give back: mostly one or none.

    A signal handler may raise an exception between any two bytecodes. A thing that only a local
    variable refers to is then lost: a connection that nobody closes, a slot that nobody gives
    back. So each thing is always in exactly one `Owned`, and moves to another in one call of C,
    which no signal handler and no other thread can interrupt. Whoever owns the list releases what
    is in it, in a `finally`. That `finally` is written twice, one inside the other, because the
    exception may come during the first one; to release an empty list again does nothing.
    """

    __slots__ = ()

    def move_to(self, owner: Owned[T], index: int = -1) -> bool:
        """Move the thing at `index`, the last by default, to the end of `owner`.

        Return False if there is none.
        """
        try:
            # `extend` calls `pop` from C: no bytecode lies between the two.
            owner.extend(map(self.pop, (index,)))
        except IndexError:
            return False
        return True

    def close_all(self: Owned[C]) -> None:
        """Close everything, the last thing first. A thing stays until it has been closed."""
        while self:
            self[-1].close()
            self.pop()
