"""A scenario: what the caller does, how the world is, and what may go wrong in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Optional, Tuple

Rows = Tuple[Dict[str, Any], ...]
SETTLE_AFTER = 60.0
"""Seconds: the default of the SDK."""
OTHER = '{"other": 1}'
"""The inputs of other people's executions, unless they are equal to ours."""


@dataclass(frozen=True, eq=False)
class Scenario:
    """What the caller does, and how the world is before anything goes wrong.

    Attributes:
        name: by which it is chosen.
        kind: `batch`; `checkpoint`: one run of `rows[0]` that is only started; or `run`: such a run
            that is followed to its end, with a timeout.
        rows: the rows of a batch.
        changed: the rows of all calls but the first; `None` if they are the same.
        settings: arguments of `run_many`, or of `Checkpoint`.
        timeout: the seconds for each row of a batch, or for a run that is followed. By default,
            they are fewer than those of two waits for the list.
        faults: the bound of the full run.
        again: so many calls are made even if the ones before have ended well.
        most_calls: so many calls at most; `None` if another one follows each that a fault has
            ended. An error of a call without a fault ends the path as well.
        processes: so many may make the same call at the same time.
        compares: whether the store compares and swaps.
        is_locked: whether the store is locked while a process uses it.
        is_new: the workflow has no execution yet.
        nameless_baseline: the newest execution has no usable id.
        statuses: those of an execution, the usual one first.
        has_inputs: whether the list shows the inputs of executions.
        others: other clients may start executions with equal inputs.
        keys: a call may have the API key of another workspace.
        stranger: the first call has, and gets a 429.
        is_busy: before the second call and during a lookup, a hundred others may start executions.
        old: the inputs of the execution that the workflow has, unless it `is_new`.
        rest: the seconds between two calls.
        settles: the `settle_after` of the first call, and of the others.
        by_engine: a task engine has announced the first start, and may announce it anew.
        recovers: a server that has failed on a start usually accepts the same one later.
        is_clear: each lookup can tell what was started.
        broken: the assumptions of the docs that do not hold.

    """

    name: str
    kind: str = "batch"
    rows: Rows = ({"n": 1},)
    changed: Optional[Rows] = None
    settings: Tuple[Tuple[str, Any], ...] = ()
    timeout: float = 100.0
    faults: int = 2
    again: int = 0
    most_calls: Optional[int] = None
    processes: int = 1
    compares: bool = True
    is_locked: bool = False
    is_new: bool = False
    nameless_baseline: bool = False
    statuses: Tuple[str, ...] = ("completed", "failed")
    has_inputs: bool = True
    others: bool = False
    keys: bool = False
    stranger: bool = False
    is_busy: bool = False
    old: str = OTHER
    rest: float = 0.0
    settles: Tuple[float, float] = (SETTLE_AFTER, SETTLE_AFTER)
    by_engine: bool = False
    recovers: bool = False
    is_clear: bool = False
    broken: FrozenSet[str] = frozenset()

    @property
    def late(self) -> float:
        """The seconds that the docs allow from a save to its request, and from there to the list.

        They are half of `settle_after`; here, one less.
        """
        return min(self.settles) / 2 - 1

    @property
    def rerun(self) -> Tuple[str, ...]:
        """The statuses of executions that a later call replaces."""
        found: Tuple[str, ...] = dict(self.settings).get("rerun", ())
        return found
