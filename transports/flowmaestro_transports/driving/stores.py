"""Keepers: they carry out `Load` and `Save` with a store, in the thread or task of the driver.

A keeper calls the methods of the journal, of the checkpoint, or of the caller's store.
"""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    ContextManager,
    NamedTuple,
    Optional,
    Tuple,
    Type,
    Union,
)

from flowmaestro_core.actions import Load, Save
from flowmaestro_core.errors import (
    CheckpointConflict,
    CheckpointError,
    FlowMaestroError,
    JournalError,
)
from flowmaestro_core.records import JournalPlan
from flowmaestro_core.store import Loaded
from flowmaestro_transports.contract import DuringBlock, wall_clock_of
from flowmaestro_transports.primitives.checks import refuse_awaitable

if TYPE_CHECKING:
    from flowmaestro_transports.driving.journal import Journal

__tracebackhide__ = True  # pytest shows the lines of the test instead.

LOCK_TIMEOUT = 10.0
"""Seconds to wait for the lock of a store. Other processes hold it only while they load or save,
for milliseconds. One that was stopped meanwhile may hold it for ever."""
LOCK_INTERVAL = 0.05
"""Seconds between two attempts to get the lock: about as long as a slow disk takes for a save."""


class Kept(NamedTuple):
    """A store, and what a keeper must know of it.

    Attributes:
        store: has the methods `load`, `save` and `known`.
        error: the class of its errors.
        subject: the subject of its errors, such as `The checkpoint`.
        path: of the file that the store locks while it loads or saves; `None` for any other store.
        journal: the store, if it is a file that must be closed; else `None`.
        states: makes a tuple of states from what `load` returned.
        file: the path of the file that is the store; `""` for any other store.

    """

    store: Any
    error: Type[FlowMaestroError] = JournalError
    subject: str = "The journal"
    path: Optional[str] = None
    journal: Optional[Journal] = None
    states: Callable[[Any], Tuple[Any, ...]] = tuple
    file: str = ""

    def close(self, last: Optional[Save] = None) -> None:
        """Release the store. If it is a file, save `last` before. May be called twice."""
        if self.journal is not None:
            self.journal.close(last)


def journal_kept_by(plan: JournalPlan) -> Kept:
    """Open the journal of a batch: a file, or the caller's store. Raises `JournalError`."""
    if not isinstance(plan.store, str):
        return Kept(plan.store)
    from flowmaestro_transports.driving.journal import Journal

    journal = Journal(plan.store)
    return Kept(journal, journal=journal, file=plan.store)


class _StoreFailed(Exception):
    """A method of the store has raised. `args` holds the error to report."""


class _Keeper:
    """Base of the keepers. It makes the calls and the errors to report."""

    def __init__(self, kept: Kept, transport: Any) -> None:
        self._kept = kept
        self._store = kept.store
        self._transport = transport
        self._during: Optional[DuringBlock] = getattr(transport, "during", None)

    def _block(self, action: Union[Load, Save]) -> ContextManager[object]:
        """Return the block of the transport in which to carry out `action`."""
        return nullcontext() if self._during is None else self._during(action, self._kept.file)

    def drop(self, last: Optional[Save]) -> None:
        """Release the store, without waiting. If it is a file, save `last` before."""
        self._kept.close(last)

    def _wall_time(self) -> float:
        return wall_clock_of(self._transport)()

    def _error(self, name: str, cause: Exception) -> FlowMaestroError:
        """Return the error to report after the method `name` of the store has raised `cause`.

        An error of the SDK's own class, and a `CheckpointConflict` of `save`, are reported as they
        are. A conflict says something only about states to save.
        """
        kept = self._kept
        if isinstance(cause, kept.error) or (
            name == "save" and isinstance(cause, CheckpointConflict)
        ):
            return cause
        said = f"{name} raised {type(cause).__name__}: {cause}"
        if kept.path is not None:
            said = f"the file {kept.path}: {cause}"
        error: FlowMaestroError = kept.error(f"{kept.subject} cannot be used: {said}")
        error.__cause__ = cause
        return error

    def _is_busy(self, cause: Exception) -> bool:
        """Return whether `cause` means that the lock of the file is held already.

        Return False if the store is not a file: the caller's method may raise `BlockingIOError` for
        another reason.
        """
        return self._kept.path is not None and isinstance(cause, BlockingIOError)

    def _busy(self) -> CheckpointError:
        return CheckpointError(
            f"{self._kept.subject} {self._kept.path} is locked by another process for "
            f"{LOCK_TIMEOUT:g}s",
            "checkpoint_busy",
        )


class SyncKeeper(_Keeper):
    """The keeper of a sync driver.

    `load` and `save` raise `TypeError` if a method of the store returned an awaitable. They return
    any other failure, for the machine.
    """

    def load(self, action: Load) -> Union[Loaded, FlowMaestroError]:
        """Return what the store holds, or the error to report."""
        keys, ids = list(action.keys), list(action.execution_ids)
        try:
            states, known = (), {}
            with self._block(action):
                if keys:
                    states = self._call(
                        "load", lambda: self._store.load(keys, action.outcomes), self._kept.states
                    )
                if ids:
                    known = self._call("known", lambda: self._store.known(ids), dict)
        except _StoreFailed as failed:
            error: FlowMaestroError = failed.args[0]
            return error
        return Loaded(states, known, self._wall_time())

    def save(self, action: Save) -> Optional[FlowMaestroError]:
        """Save the states. Return the error to report, if there is one."""
        try:
            with self._block(action):
                self._call("save", lambda: self._store.save(list(action.states)))
        except _StoreFailed as failed:
            error: FlowMaestroError = failed.args[0]
            return error
        return None

    def close(self, last: Optional[Save]) -> None:
        """Save `last`, if possible, and release the store. No error is raised."""
        if last is not None and self._kept.journal is None:
            self.save(last)
        self.drop(last)

    def _call(self, name: str, method: Callable[[], Any], kind: Any = None) -> Any:
        """Return the result of `method`, the method `name` of the store, as a `kind`.

        While somebody else holds the lock of the file, `method` is called again, for up to
        `LOCK_TIMEOUT` seconds.
        """
        give_up_at = self._transport.now() + LOCK_TIMEOUT
        while True:
            try:
                returned = method()
                is_awaitable = inspect.isawaitable(returned)
                if not is_awaitable:
                    return returned if kind is None else kind(returned)
            except Exception as cause:
                if not self._is_busy(cause):
                    failure = self._error(name, cause)
                    break
            else:
                refuse_awaitable(name, returned)
            if self._transport.now() >= give_up_at:
                failure = self._busy()
                break
            self._transport.sleep(LOCK_INTERVAL)
        # Raised outside of `except`, which would chain the cause a second time.
        raise _StoreFailed(failure)


class AsyncKeeper(_Keeper):
    """The keeper of an async driver. The methods of the store may be coroutine functions."""

    async def load(self, action: Load) -> Union[Loaded, FlowMaestroError]:
        """Return what the store holds, or the error to report."""
        keys, ids = list(action.keys), list(action.execution_ids)
        try:
            states, known = (), {}
            with self._block(action):
                if keys:
                    states = await self._call(
                        "load", lambda: self._store.load(keys, action.outcomes), self._kept.states
                    )
                if ids:
                    known = await self._call("known", lambda: self._store.known(ids), dict)
        except _StoreFailed as failed:
            error: FlowMaestroError = failed.args[0]
            return error
        return Loaded(states, known, self._wall_time())

    async def save(self, action: Save) -> Optional[FlowMaestroError]:
        """Save the states. Return the error to report, if there is one."""
        try:
            with self._block(action):
                await self._call("save", lambda: self._store.save(list(action.states)))
        except _StoreFailed as failed:
            error: FlowMaestroError = failed.args[0]
            return error
        return None

    async def close(self, last: Optional[Save]) -> None:
        """Save `last`, if possible, and release the store. No error is raised."""
        if last is not None and self._kept.journal is None:
            await self.save(last)
        self.drop(last)

    async def _call(self, name: str, method: Callable[[], Any], kind: Any = None) -> Any:
        """Return the result of `method`, the method `name` of the store, as a `kind`.

        While somebody else holds the lock of the file, `method` is called again, for up to
        `LOCK_TIMEOUT` seconds.
        """
        # Unlike the sync form: it awaits a coroutine of the store.
        give_up_at = self._transport.now() + LOCK_TIMEOUT
        while True:
            try:
                returned = method()
                if inspect.isawaitable(returned):
                    returned = await returned
                return returned if kind is None else kind(returned)
            except Exception as cause:
                if not self._is_busy(cause):
                    failure = self._error(name, cause)
                    break
            if self._transport.now() >= give_up_at:
                failure = self._busy()
                break
            await self._transport.sleep(LOCK_INTERVAL)
        # Raised outside of `except`, which would chain the cause a second time.
        raise _StoreFailed(failure)
