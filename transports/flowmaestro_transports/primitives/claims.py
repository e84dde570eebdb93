"""Claims on a resource of which only so many may be in use at once.

Does no I/O.
"""

from __future__ import annotations

from typing import Generic, List, TypeVar
from weakref import ReferenceType, ref

C = TypeVar("C", bound=object)


class Claimant:
    """An object that makes a claim: a local variable of the call that claims."""

    __slots__ = ("__weakref__",)


class Claims(Generic[C]):
    """The claims on a resource, in the order of their making: the first `limit` of them hold it.

    A claim ends with `leave`, or with its claimant. An exception from a signal handler may come
    between any two bytecodes, so a `finally` that calls `leave` may not run. Nothing refers to the
    claimant of such a call, so its claim ends once the exception has been handled.

    Threads may share it. Each step is one call of C, so it needs no lock, which such an exception
    might leave locked.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._alive: List[ReferenceType[C]] = []
        """One reference to each claimant; it removes itself when its claimant has died."""

    def __len__(self) -> int:
        """Return how many claims there are, with those that wait."""
        return len(self._alive)

    def enter(self, claimant: C) -> bool:
        """Add a claim. Return whether it holds the resource already. Call `leave` in any case."""
        self._alive.append(ref(claimant, self._alive.remove))
        return len(self._alive) <= self._limit or self.holds(claimant)

    def holds(self, claimant: C) -> bool:
        """Return whether the claim is among the first `limit` ones."""
        return any(it is claimant for it in self.holders())

    def holders(self) -> List[C]:
        """Return the claimants that hold the resource."""
        return self.claimants()[: self._limit]

    def claimants(self) -> List[C]:
        """Return all claimants, with those that wait, in the order of their claims."""
        claimants = [claim() for claim in list(self._alive)]
        return [claimant for claimant in claimants if claimant is not None]

    def leave(self, claimant: C) -> bool:
        """End a claim, if it has not ended. Return whether there are other claims."""
        claim = ref(claimant)  # equal to the reference that `enter` has made
        if claim in self._alive:
            self._alive.remove(claim)
        return bool(self._alive)
