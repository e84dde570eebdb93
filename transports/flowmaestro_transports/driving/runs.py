"""The handles of batches.

They have the attributes `in_flight` and `progress`. A handle also owns the journal of its batch. It
releases the journal when the batch ends or fails, and when the handle is closed or collected. That
touches the disk.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Callable, ClassVar, Deque, Optional, Tuple

from flowmaestro_core.errors import JournalError, StreamError
from flowmaestro_core.executions.batch import BatchMachine
from flowmaestro_core.executions.outcome import BatchProgress, RunOutcome, day_ends, still_runs
from flowmaestro_transports.driving.iterators import AsyncHandle, BaseHandle, SyncHandle
from flowmaestro_transports.driving.stores import AsyncKeeper, Kept, SyncKeeper
from flowmaestro_transports.observing.observers import Observers
from flowmaestro_transports.observing.sdk_log import sdk_logger
from flowmaestro_transports.primitives.claims import Claimant
from flowmaestro_transports.primitives.fork_guard import ForkGuard

__tracebackhide__ = True  # pytest shows the lines of the test instead.

MOST_RECENT = 20
"""How many outcomes the HTML of a notebook shows: what fits on a screen."""


class _Outcomes(BaseHandle):
    """The common part of both handles of batches: what other handles do not have."""

    _noun = "batch"
    _keeps: ClassVar[Any]
    """The class of its keeper."""
    _keeper: Any = None

    def __init__(
        self,
        machine: BatchMachine,
        transport: Any,
        observers: Optional[Observers],
        kept: Optional[Kept],
    ) -> None:
        self._process = ForkGuard()
        self._recent: Deque[RunOutcome] = deque(maxlen=MOST_RECENT)
        listener: Any = _listener(machine, self._recent)
        keeper = None if kept is None else self._keeps(kept, transport)
        super().__init__(machine, transport, listener, observers, keeper)  # type: ignore[call-arg]
        # From here on the handle closes the journal. Before, the handle has no machine to ask for
        # its last save.
        self._keeper = keeper

    @property
    def in_flight(self) -> Tuple[RunOutcome, ...]:
        """The outcomes of executions that still run, or have ended but were not delivered.

        Each has its execution id. They can also be read after `close()`, and after an exception has
        ended the iteration.
        """
        runs: Tuple[RunOutcome, ...] = self._machine.in_flight
        return runs

    @property
    def progress(self) -> BatchProgress:
        """The progress of the batch, at any time and from any thread."""
        progress: BatchProgress = self._machine.progress
        return progress

    def _check_process(self) -> None:
        """Raise an error in a child after `os.fork`: the child would start the rows a second time.

        It is a `JournalError` if the batch has a journal, else a `StreamError`.
        """
        if self._process.forked:
            if self._keeper is not None:
                raise JournalError(
                    "The journal is in use by the parent process, which continues the batch",
                    "journal_busy",
                )
            raise StreamError(
                "This batch belongs to the parent process, which continues it", code="stream_closed"
            )

    def _describe(self) -> str:
        """Return the state and the progress of the batch, for the repr."""
        progress = self.progress
        of_all = "" if progress.total is None else f" of {progress.total}"
        said = [super()._describe(), f"{progress.done}{of_all} done"]
        if progress.failed:
            said.append(f"{progress.failed} failed")
        if progress.in_flight:
            said.append(f"{progress.in_flight} running")
        return ", ".join(said)

    def __len__(self) -> int:
        """Return the number of rows. Raises `TypeError` if that is not known."""
        total: Optional[int] = self._machine.batch.total
        if total is None:
            raise TypeError(
                "the number of rows is not known: inputs is an iterator without a length"
            )
        return total

    def __bool__(self) -> bool:
        return True

    def _repr_html_(self) -> str:
        from flowmaestro_core.showing.html import batch_html

        return batch_html(self._machine.progress, self._recent)


def _listener(machine: BatchMachine, recent: Deque[RunOutcome]) -> Callable[[Any], Any]:
    """Return the driver's listener, which calls the user's `on_start` and `progress`.

    The listener calls `on_start` for a started row, and `progress` for any other item. It skips a
    callback that the user did not set. It also appends each outcome to `recent`, and logs once if
    the requests that the key has left today will not suffice.
    """
    batch = machine.batch
    has_warned = False

    def hear(item: Any) -> Any:
        nonlocal has_warned
        if isinstance(item, RunOutcome) and still_runs(item):
            return batch.on_start and batch.on_start(item)
        if isinstance(item, RunOutcome):
            recent.append(item)
            if item.replayed and batch.progress is None:
                return None  # It has cost no request.
        progress = machine.progress
        if progress.day_ends_after is not None and not has_warned:
            has_warned = True
            sdk_logger().warning("%s: %s", machine.operation, day_ends(progress))
        return batch.progress and batch.progress(progress)

    return hear


class RunOutcomes(_Outcomes, SyncHandle[Any]):
    """Iterates over the outcomes of a batch. Close it, or use `with`, to leave early."""

    _keeps = SyncKeeper

    def __next__(self) -> RunOutcome:
        """Return the next outcome. Raises `StopIteration` after the last one.

        Raises the error that ended the batch. Raises `StreamError` (code `stream_closed`) if this
        handle has failed before, was closed before the last outcome, or was made by the parent
        process. In a child after `os.fork`, a batch with a journal raises `JournalError` instead.
        """
        try:
            while True:
                self._check_process()
                item: Any = super().__next__()
                if isinstance(item, RunOutcome) and not still_runs(item):
                    return item
        finally:
            if self._driver.closed:
                self._leave()

    def close(self) -> None:
        """Stop. Running executions continue, and stay in `in_flight`. May be called twice.

        If another thread is in `next` or in a callback, this does not wait for it. That thread
        releases the journal afterwards.
        """
        super().close()
        me = Claimant()
        try:
            if self._readers.enter(me):
                # Otherwise, the thread that advances releases the journal.
                self._leave()
        finally:
            self._readers.leave(me)

    def _leave(self) -> None:
        """Save which rows were not started, if the batch has a journal. Release the journal.

        The batch must not advance afterwards. In a child after `os.fork`, do nothing.
        """
        if self._keeper is not None and not self._process.forked:
            self._keeper.close(self._machine.last_save())


class AsyncRunOutcomes(_Outcomes, AsyncHandle[Any]):
    """Iterates over outcomes with `async for`. Close it, or use `async with`, to leave early."""

    _keeps = AsyncKeeper

    async def __anext__(self) -> RunOutcome:
        """Return the next outcome. Raises `StopAsyncIteration` after the last one.

        Raises the error that ended the batch. Raises `StreamError` (code `stream_closed`) if this
        handle has failed before, was closed before the last outcome, or was made by the parent
        process. In a child after `os.fork`, a batch with a journal raises `JournalError` instead.
        """
        # Unlike the sync form: only a coroutine can be dropped while it waits.
        try:
            while True:
                self._check_process()
                item: Any = await super().__anext__()
                if isinstance(item, RunOutcome) and not still_runs(item):
                    return item
        except GeneratorExit:  # The coroutine is collected and cannot await.
            self._drop_journal()
            raise
        finally:
            if self._driver.closed:
                await self._leave()

    async def close(self) -> None:
        """Stop. Running executions continue, and stay in `in_flight`. May be called twice.

        If another task is in `anext` or in a callback, that task releases the journal afterwards.
        """
        # Unlike the sync form: threads need a lock where a flag is enough for tasks.
        await super().close()
        if not self._busy:
            await self._leave()

    aclose = close  # Unlike the sync form: contextlib.aclosing calls this name.

    def __del__(self) -> None:
        # Unlike the sync form: the base's `__del__` does not close the journal.
        self._drop_journal()
        super().__del__()

    def _drop_journal(self) -> None:
        """Release the journal without waiting.

        If it is a file, save which rows were not started. If it is the caller's store, these rows
        are in doubt in the next call.
        """
        # Unlike the sync form: only an async handle may have to be released without waiting.
        keeper, self._keeper = self._keeper, None
        if keeper is not None and not self._process.forked:
            keeper.drop(self._machine.last_save())

    async def _leave(self) -> None:
        """Save which rows were not started, if the batch has a journal. Release the journal.

        The batch must not advance afterwards. In a child after `os.fork`, do nothing.
        """
        if self._keeper is not None and not self._process.forked:
            await self._keeper.close(self._machine.last_save())
