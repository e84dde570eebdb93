"""A checkpoint: stores the state of a start, so that a repeated call finds the execution. Pure."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, Optional, Tuple, Union

from flowmaestro_core.arguments import (
    check_callback,
    check_choice,
    check_seconds,
    file_path,
    rerun_statuses,
)
from flowmaestro_core.records import OnUnknown, PathLike
from flowmaestro_core.types import ExecutionStatus

SETTLE_AFTER = 60.0
"""Seconds after which the server can be relied on to list an execution that it has accepted.

A start goes out, and its attempts end, within half of them. The other half, 30 s, is for the server
and the gateways before it."""


class Checkpoint:
    """Stores the state of one run outside of the process, so that a repeated call finds the run.

    Pass it as `checkpoint=` to `workflows.run` or `workflows.execute`. The SDK saves a small state
    before it starts the execution and another one when it knows the id. The same call with the
    same checkpoint, in any process on any machine, then gets that execution instead of starting
    a second one. One checkpoint stands for one unit of work: a task, a flow run, a date.

    A call with the same checkpoint and inputs gets the execution that was started, or raises
    `StartUnknownError` if that cannot be found out. Apart from `rerun` and `on_unknown="start"`, a
    second start can only happen in these cases:

    * The store lost a save.
    * Two processes load at the same moment, and the store cannot compare and swap.
    * A process stalls between its save and its request, or the server lists the execution late,
      together for longer than half of `settle_after`. A hook that is slow to return counts, too.
    * Processes with the same checkpoint pass different `settle_after`.
    * The transport ignores the timeout of the request, and the request takes longer than half of
      `settle_after`.

    Args:
        load: called without arguments; returns the state that was saved last, or `None` if there
            is none. On an async client it may be a coroutine function.
        save: called with the state, a dict of about 400 bytes as JSON (more with a long base URL or
            long ids), which must replace the previous one. When it returns, the state must survive
            this process and machine. The state's `serial` is 1, then 2, and so on. A store that can
            compare must replace only the state with `serial - 1`, and raise `CheckpointConflict`
            otherwise, so that two processes cannot both start. On an async client it may be a
            coroutine function.
        rerun: the statuses (`"failed"`, `"cancelled"`) of an ended execution that is started
            again. Pass `("failed",)` where an engine retries failed tasks.
        on_unknown: what to do if it cannot be found out whether the execution was started:
            `"error"` raises `StartUnknownError`; `"start"` starts it, perhaps for the second time.
        settle_after: seconds after which the server can be relied on to list an execution that it
            has accepted. A call that finds an unfinished start waits that long.

    Raises `TypeError` or `ValueError`, naming the argument that is wrong.

    """

    __slots__ = ("load", "on_unknown", "path", "rerun", "save", "settle_after")

    load: Optional[Callable[[], Any]]
    """The function that loads the state; `None` for a file."""
    save: Optional[Callable[[Dict[str, Any]], Any]]
    """The function that saves the state; `None` for a file."""
    path: Optional[str]
    """The path of the file, if the checkpoint is one."""

    def __init__(
        self,
        load: Callable[[], Any],
        save: Callable[[Dict[str, Any]], Any],
        *,
        rerun: Iterable[ExecutionStatus] = (),
        on_unknown: OnUnknown = "error",
        settle_after: float = SETTLE_AFTER,
    ) -> None:
        for name, value in (("load", load), ("save", save)):
            if value is None:
                raise TypeError(f"{name} must be a function, not NoneType")
            check_callback(name, value)
        self.load, self.save, self.path = load, save, None
        self._set(rerun, on_unknown, settle_after)

    @classmethod
    def file(
        cls,
        path: Union[str, PathLike],
        *,
        rerun: Iterable[ExecutionStatus] = (),
        on_unknown: OnUnknown = "error",
        settle_after: float = SETTLE_AFTER,
    ) -> Checkpoint:
        """Make a checkpoint whose state is stored in a file.

        The file is replaced atomically. On POSIX, only its owner may read it. Its directory must
        exist. `PATH.lock` is locked while the state is loaded or saved, but not during the run.
        `PATH.new` is written, and then takes the place of the file.

        Args:
            path: the path of the file. It does not end with `.new` or `.lock`.
            rerun: the statuses (`"failed"`, `"cancelled"`) of an ended execution that is started
                again.
            on_unknown: what to do if it cannot be found out whether the execution was started:
                `"error"` raises `StartUnknownError`; `"start"` starts it, perhaps for the second
                time.
            settle_after: seconds after which the server lists every execution that it has accepted.
                A call that finds an unfinished start waits that long.

        Raises `TypeError` or `ValueError`, naming the argument that is wrong.

        """
        made = cls.__new__(cls)
        made.load = made.save = None
        made.path = file_path("path", path)
        if made.path.endswith((".new", ".lock")):  # It would be removed, and the run started again.
            raise ValueError("path must not end with .new or .lock: another checkpoint may use it")
        made._set(rerun, on_unknown, settle_after)
        return made

    def _set(
        self, rerun: Iterable[ExecutionStatus], on_unknown: OnUnknown, settle_after: float
    ) -> None:
        self.rerun: Tuple[ExecutionStatus, ...] = rerun_statuses("rerun", rerun)
        check_choice("on_unknown", on_unknown, "error", "start")
        self.on_unknown: OnUnknown = on_unknown
        check_seconds("settle_after", settle_after)
        self.settle_after: float = settle_after

    def __repr__(self) -> str:
        """Return the settings as text, without the functions: a `partial` may hold a password."""
        where = "" if self.path is None else f"file {self.path!r}, "
        return (
            f"<Checkpoint: {where}rerun={self.rerun!r}, on_unknown={self.on_unknown!r}, "
            f"settle_after={self.settle_after:g}>"
        )


def check_checkpoint(value: Any) -> None:
    """Raise `TypeError` unless `value` is a `Checkpoint`."""
    if isinstance(value, Checkpoint):
        return
    kind = type(value).__name__
    instead = ""
    if isinstance(value, (str, bytes)) or hasattr(value, "__fspath__"):
        instead = "; to keep it in a file, pass Checkpoint.file(path)"
    raise TypeError(f"checkpoint must be a Checkpoint, not {kind}{instead}")
