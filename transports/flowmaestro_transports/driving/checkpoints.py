"""The stores of a start with a checkpoint: a file, or two functions of the user.

Such a store holds one state, which is the header and the start in one.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union, cast

from flowmaestro_core.checkpoint import Checkpoint
from flowmaestro_core.errors import CheckpointConflict, CheckpointError
from flowmaestro_transports.driving.stores import Kept
from flowmaestro_transports.primitives.file_lock import open_lock_file


def kept_by(checkpoint: Checkpoint) -> Kept:
    """Return the store of a checkpoint, for a keeper."""
    store: Union[CheckpointFile, CheckpointFunctions]
    if checkpoint.load is None or checkpoint.save is None:
        store = CheckpointFile(checkpoint.path or "")
    else:
        store = CheckpointFunctions(checkpoint.load, checkpoint.save)
    path = checkpoint.path
    return Kept(store, CheckpointError, "The checkpoint", path, states=_alone, file=path or "")


def _alone(state: Any) -> Tuple[Any]:
    return (state,)


class CheckpointFunctions:
    """The state of a start, kept by two functions of the user, which may be coroutine functions."""

    def __init__(self, load: Callable[[], Any], save: Callable[[Dict[str, Any]], Any]) -> None:
        self._load = load
        self._save = save

    def load(self, keys: Sequence[str], outcomes: bool) -> Any:
        """Return the state, or an awaitable that returns it."""
        return self._load()

    def save(self, states: List[Dict[str, Any]]) -> Any:
        """Save the only one of `states`."""
        return self._save(states[0])


class CheckpointFile:
    """The state of a start, in a file that is replaced as a whole.

    A lock file beside it is locked while the state is loaded or saved. `save` compares serial
    numbers. If two processes have loaded the same state, the one that saves second gets a
    `CheckpointConflict`.
    """

    def __init__(self, path: str) -> None:
        # Replace the target of a symbolic link, not the link.
        self._path = os.path.realpath(path)

    def load(self, keys: Sequence[str], outcomes: bool) -> Optional[Dict[str, Any]]:
        """Return the state; `None` if there is no file.

        Raises `BlockingIOError` if the lock is held already, `CheckpointError` if the file is not a
        JSON object, and `OSError` if it cannot be read.
        """
        with open_lock_file(f"{self._path}.lock"):
            return self._read()

    def save(self, states: List[Dict[str, Any]]) -> None:
        """Replace the state by the only one of `states`, durably.

        Raises `CheckpointConflict` unless the serial number in the file is one less than that of
        `state`; no file counts as 0. Raises the errors of `load`, and `OSError` if the file cannot
        be written.
        """
        (state,) = states
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
