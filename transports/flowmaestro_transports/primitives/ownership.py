"""Ownership of resources that must be released: see *Ownership* in `docs/architecture.md`.

This module does no I/O, except that it closes resources.
"""

from __future__ import annotations

from typing import List, Protocol, TypeVar

T = TypeVar("T")


class Closable(Protocol):
    """An object that can be closed. Closing it twice is harmless."""

    def close(self) -> None:
        """Close this object."""


C = TypeVar("C", bound=Closable)


class Owned(List[T]):
    """The resources that one owner must close or return: mostly one or none.

    A signal handler may raise an exception between any two bytecodes. A resource that only a local
    variable refers to is then lost: a connection is never closed, a slot is never returned. So each
    resource in use is in at least one `Owned`, a connection from the moment that it is connected.
    It moves to another in one call of C, which no signal handler and no other thread can interrupt.
    The code that owns the list releases its items in a `finally`. That `finally` is written twice,
    one inside the other, because the exception may come during the first one. Releasing an empty
    list has no effect.
    """

    __slots__ = ()

    def move_to(self, owner: Owned[T], index: int = -1) -> bool:
        """Move the item at `index`, the last by default, to the end of `owner`.

        Return False if there is no such item.
        """
        try:
            # `extend` calls `pop` from C: no bytecode lies between the two.
            owner.extend(map(self.pop, (index,)))
        except IndexError:
            return False
        return True

    def close_all(self: Owned[C]) -> None:
        """Close all items, the last one first. An item stays in the list until it was closed."""
        while self:
            self[-1].close()
            self.pop()
