"""The folders of this user, and the file in which a command remembers the last execution.

This file, `executions.json`, is in this user's folder for state. The file holds ids and API roots,
and no key. If it cannot be read or written, nothing is remembered, and the file stays as it is. If
it is malformed, it counts as empty.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Generator, Optional

from flowmaestro_transports.primitives.file_lock import open_lock_file

try:  # Imported now: after an execution has started, that would delay its first events.
    from platformdirs import user_config_path, user_state_path
except ImportError:
    user_config_path = user_state_path = None  # type: ignore[assignment]

_FILE = "executions.json"
LONGEST_WAIT = 5.0
"""Seconds to wait for another command that changes a file. A stopped one may never end."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Error numbers of file systems without locks, such as some of clusters. Files are changed there
without a lock."""


def user_folder(kind: str) -> Path:
    """Return the folder of this user for `"state"` or `"config"`, which may not exist yet.

    Raises `RuntimeError` if this user has no home folder, or a variable names a relative path.
    """
    of = user_state_path if kind == "state" else user_config_path
    folder = _folder(kind) if of is None else of("flowmaestro", appauthor=False)
    if not folder.is_absolute():  # Some versions of platformdirs return `~/...` without a home.
        raise RuntimeError(f"{folder} is not an absolute path")
    return folder


def _folder(kind: str) -> Path:
    # platformdirs comes with the extra `cli`; these are its folders, in short.
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Application Support"
    else:
        home = ".local/state" if kind == "state" else ".config"
        root = Path(os.environ.get(f"XDG_{kind.upper()}_HOME") or Path.home() / home)
    return root / "flowmaestro"


def state_folder() -> Path:
    """Return the folder of this user for state, as `user_folder` does."""
    return user_folder("state")


def change_private(path: Path, change: Callable[[], str]) -> None:
    """Replace a file by the text that `change` returns, in one step.

    On POSIX, only this user may read the new file. `change` may read the old one: no other command
    changes it meanwhile. A symbolic link stays, and the file that it leads to is replaced. Missing
    folders are created. Raises `OSError` if the file cannot be written, if it is not a regular
    file, and if another command has been changing it for `LONGEST_WAIT` seconds.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():  # To replace /dev/null would harm the whole system.
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    with _locked(path):
        with suppress(FileNotFoundError):  # Left by a crash. It may hold a key.
            draft.unlink()
        text = change()
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                # After a power loss, the file could be empty without it.
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:  # The draft may hold a key.
            with suppress(OSError):
                draft.unlink()
            raise


@contextmanager
def _locked(path: Path) -> Generator[None, None, None]:
    """Let no other command change the file `path` within a `with` block."""
    name = f"{path}.lock"
    began = time.monotonic()
    lock = None
    while lock is None:
        try:
            lock = open_lock_file(name)
        except BlockingIOError:
            if time.monotonic() - began > LONGEST_WAIT:
                text = "another command is changing it"
                raise OSError(errno.EAGAIN, text, str(path)) from None
            time.sleep(0.01)  # A change takes about a millisecond.
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            break
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(name)
        if lock is not None:
            lock.close()


def remember_execution(api_root: str, execution_id: str) -> None:
    """Remember the execution as the last one at this API root, for `last_execution`."""
    with suppress(OSError, RuntimeError):  # RuntimeError: there is no home folder.
        path = state_folder() / _FILE
        change_private(path, lambda: json.dumps({**_executions(), api_root: execution_id}))


def last_execution(api_root: str) -> Optional[str]:
    """Return the id of the last execution that was remembered for this API root, or `None`."""
    found = None
    with suppress(OSError, RuntimeError):
        found = _executions().get(api_root)
    return found if isinstance(found, str) else None


def _executions() -> Dict[str, Any]:
    """Return the id of the last execution of each API root, by root.

    Return `{}` if the file is missing or malformed. Raises `OSError` if it cannot be read, and
    `RuntimeError` as `state_folder` does.
    """
    try:
        found = json.loads((state_folder() / _FILE).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]
