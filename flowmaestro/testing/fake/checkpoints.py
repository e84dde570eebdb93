"""A checkpoint in memory, for tests of tasks that are repeated. Does no I/O."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, List, Optional

from flowmaestro_core.checkpoint import SETTLE_AFTER, Checkpoint
from flowmaestro_core.errors import CheckpointConflict
from flowmaestro_core.records import OnUnknown
from flowmaestro_core.types import ExecutionStatus


class MemoryCheckpoint(Checkpoint):
    """A `Checkpoint` that stores its state in memory. In tests, it stands for a store of your own.

    Pass the same checkpoint to several calls to test a task that is repeated. It stores each state
    as JSON, so a state that JSON cannot express raises at `save`.

    Args:
        compares: whether `save` raises `CheckpointConflict` if another call has saved meanwhile,
            as a store with compare-and-swap does. `False` makes a store that does not notice.
        rerun: the statuses (`"failed"`, `"cancelled"`) of an ended execution that is started again.
        on_unknown: what to do if it cannot be found out whether the execution was started:
            `"error"` raises `StartUnknownError`; `"start"` starts it, perhaps for the second time.
        settle_after: seconds after which the server lists every execution that it has accepted. A
            call that finds an unfinished start waits that long.

    """

    def __init__(
        self,
        *,
        compares: bool = True,
        rerun: Iterable[ExecutionStatus] = (),
        on_unknown: OnUnknown = "error",
        settle_after: float = SETTLE_AFTER,
    ) -> None:
        super().__init__(
            self._load, self._save, rerun=rerun, on_unknown=on_unknown, settle_after=settle_after
        )
        self.compares = compares
        self._kept: List[str] = []
        self._last_loaded: Optional[str] = None
        self._loses = self._races = False

    @property
    def states(self) -> List[Dict[str, Any]]:
        """All states that were stored, the oldest first."""
        return [json.loads(state) for state in self._kept]

    @property
    def state(self) -> Optional[Dict[str, Any]]:
        """The state that was stored last; `None` if there is none."""
        return self.states[-1] if self._kept else None

    def lose_next_save(self) -> None:
        """Make the next `save` that does not raise return without storing its state."""
        self._loses = True

    def race_next_load(self) -> None:
        """Make the next `load` return what the last one returned; `None` if there was none.

        The next `run` with this checkpoint then behaves like a second process that loaded at the
        same moment as the last one.
        """
        self._races = True

    def _load(self) -> Optional[Dict[str, Any]]:
        if not self._races:
            self._last_loaded = self._kept[-1] if self._kept else None
        self._races = False
        return None if self._last_loaded is None else json.loads(self._last_loaded)

    def _save(self, state: Dict[str, Any]) -> None:
        held = self.state
        if self.compares and state["serial"] != (1 if held is None else held["serial"] + 1):
            raise CheckpointConflict
        if not self._loses:
            self._kept.append(json.dumps(state))
        self._loses = False
