"""Keepers: they load and save the state of a start with a checkpoint.

A keeper calls the user's `load` and `save`, or reads and writes a file, in the thread or task of
the driver.
"""

from __future__ import annotations

import inspect
import json
import os
from contextlib import suppress
from typing import Any, Callable, Dict, Optional, cast

from flowmaestro_core.checkpoint import Checkpoint, LoadedState
from flowmaestro_core.errors import CheckpointConflict, CheckpointError
from flowmaestro_transports.contract import wall_clock_of
from flowmaestro_transports.primitives.callbacks import refuse_awaitable
from flowmaestro_transports.primitives.file_lock import open_lock_file

LOCK_TIMEOUT = 10.0
"""Seconds to wait for the lock of a file. Other processes hold it only while they load or save."""
LOCK_INTERVAL = 0.05
"""Seconds between two attempts to get the lock."""
Load = Callable[[], Any]
Save = Callable[[Dict[str, Any]], Any]


class CheckpointFile:
    """The state of a start, in a file that is replaced as a whole.

    A lock file beside it is locked while the state is loaded or saved. `save` compares serial
    numbers. If two processes have loaded the same state, the one that saves second gets a
    `CheckpointConflict`.
    """

    def __init__(self, path: str) -> None:
        # Replace the target of a symbolic link, not the link.
        self._path = os.path.realpath(path)

    def load(self) -> Optional[Dict[str, Any]]:
        """Return the state; `None` if there is no file.

        Raises `BlockingIOError` if the lock is held already, `CheckpointError` if the file is not a
        JSON object, and `OSError` if it cannot be read.
        """
        with open_lock_file(f"{self._path}.lock"):
            return self._read()

    def save(self, state: Dict[str, Any]) -> None:
        """Replace the state, durably.

        Raises `CheckpointConflict` unless the serial number in the file is one less than that of
        `state`; no file counts as 0. Raises the errors of `load`, and `OSError` if the file cannot
        be written.
        """
        with open_lock_file(f"{self._path}.lock"):
            serial = (self._read() or {}).get("serial", 0)
            if serial != state["serial"] - 1:
                raise CheckpointConflict
            self._replace(json.dumps(state).encode())

    def _read(self) -> Optional[Dict[str, Any]]:
        state: Any = None
        try:
            with open(self._path, "rb") as file:
                state = json.loads(file.read())
        except FileNotFoundError:
            return None
        except ValueError:  # It is not JSON, or not UTF-8.
            pass
        if not isinstance(state, dict):
            raise CheckpointError(f"The checkpoint {self._path} is damaged: not a JSON object")
        return cast("Dict[str, Any]", state)

    def _replace(self, content: bytes) -> None:
        new = f"{self._path}.new"
        with suppress(FileNotFoundError):  # It is left from a process that died while it wrote.
            os.unlink(new)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._path)
        if os.name == "posix":  # The new name must survive a power loss, too.
            directory = os.open(os.path.dirname(self._path), os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


class _Keeper:
    """Base of the keepers, which load and save the state of a checkpoint.

    It holds the functions that load and save, and makes the errors to raise. A subclass adds `load`
    and `save`, which call these functions.
    """

    def __init__(self, checkpoint: Checkpoint, transport: Any) -> None:
        self._transport = transport
        self._path = checkpoint.path
        if checkpoint.load is not None and checkpoint.save is not None:
            self._load: Load = checkpoint.load
            self._save: Save = checkpoint.save
        else:
            file = CheckpointFile(checkpoint.path or "")
            self._load, self._save = file.load, file.save

    def _wall_time(self) -> float:
        return wall_clock_of(self._transport)()

    def _stamped(self, state: Dict[str, Any]) -> Dict[str, Any]:
        return {**state, "at": round(self._wall_time(), 3)}

    def _error(self, name: str, cause: Exception) -> Exception:
        """Return the error to raise after the function `name`, `load` or `save`, raised `cause`.

        If `cause` is a `CheckpointError`, or a `CheckpointConflict` that `save` raised, return
        `cause` itself. Otherwise return a new `CheckpointError`.
        """
        # A conflict says something only about a state to save.
        expected = (CheckpointConflict, CheckpointError) if name == "save" else CheckpointError
        if isinstance(cause, expected):
            return cause
        said = f"{name} raised {type(cause).__name__}: {cause}"
        if self._path is not None:
            said = f"the file {self._path}: {cause}"
        error = CheckpointError(f"The checkpoint cannot be used: {said}")
        error.__cause__ = cause
        return error

    def _busy(self) -> CheckpointError:
        return CheckpointError(
            f"The checkpoint {self._path} is locked by another process for {LOCK_TIMEOUT:g}s",
            "checkpoint_busy",
        )

    def _is_busy(self, cause: Exception) -> bool:
        """Return whether `cause` means that the lock of the file is held already.

        Return False if the checkpoint is not a file: the user's function may raise
        `BlockingIOError` for another reason.
        """
        return self._path is not None and isinstance(cause, BlockingIOError)


class SyncKeeper(_Keeper):
    """The keeper of a sync driver: loads and saves the state of a checkpoint.

    Both methods raise `CheckpointError` if the function of the user raised, if the file cannot be
    used, or if its lock was not free in time, and `TypeError` if the function returned an
    awaitable. A `CheckpointConflict` of `save` is raised unchanged.
    """

    def load(self) -> LoadedState:
        """Return the state that was saved last, and the time at which it was loaded."""
        state = self._call("load", self._load)
        return LoadedState(state, self._wall_time())

    def save(self, state: Dict[str, Any]) -> None:
        """Save a state, with the time.

        Raises `CheckpointConflict` if the store says that another call has saved a state meanwhile.
        """
        self._call("save", lambda: self._save(self._stamped(state)))

    def _call(self, name: str, function: Callable[[], Any]) -> Any:
        """Return the result of `function`, which loads or saves the state.

        While somebody else holds the lock of the file, `function` is called again, for up to
        `LOCK_TIMEOUT` seconds. Then the error is raised.
        """
        give_up_at = self._transport.now() + LOCK_TIMEOUT
        while True:
            try:
                returned = function()
            except Exception as cause:
                if not self._is_busy(cause):
                    failure = self._error(name, cause)
                    break
            else:
                refuse_awaitable("load or save", returned)
                return returned
            if self._transport.now() >= give_up_at:
                failure = self._busy()
                break
            self._transport.sleep(LOCK_INTERVAL)
        # Raised outside of `except`, which would chain the cause a second time.
        raise failure


class AsyncKeeper(_Keeper):
    """The keeper of an async driver: loads and saves the state of a checkpoint.

    The functions of the user may be coroutine functions. The methods raise the errors of
    `SyncKeeper`, but await an awaitable instead of raising `TypeError`.
    """

    async def load(self) -> LoadedState:
        """Return the state that was saved last, and the time at which it was loaded."""
        state = await self._call("load", self._load)
        return LoadedState(state, self._wall_time())

    async def save(self, state: Dict[str, Any]) -> None:
        """Save a state, with the time.

        Raises `CheckpointConflict` if the store says that another call has saved a state meanwhile.
        """
        await self._call("save", lambda: self._save(self._stamped(state)))

    async def _call(self, name: str, function: Callable[[], Any]) -> Any:
        """Return the result of `function`, which loads or saves the state.

        While somebody else holds the lock of the file, `function` is called again, for up to
        `LOCK_TIMEOUT` seconds. Then the error is raised.
        """
        give_up_at = self._transport.now() + LOCK_TIMEOUT
        while True:
            try:
                returned = function()
                if inspect.isawaitable(returned):
                    returned = await returned
            except Exception as cause:
                if not self._is_busy(cause):
                    failure = self._error(name, cause)
                    break
            else:
                return returned
            if self._transport.now() >= give_up_at:
                failure = self._busy()
                break
            await self._transport.sleep(LOCK_INTERVAL)
        # Raised outside of `except`, which would chain the cause a second time.
        raise failure
