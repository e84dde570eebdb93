"""The folders of this user, and the files in which commands remember executions and ids.

The files `executions.json`, for `watch --last`, and `ids.json`, for completion, are in this user's
folder for state. They hold ids, API roots and names of profiles, and no key. If one cannot be read
or written, nothing is remembered, and it stays as it is. If it is malformed, it counts as empty.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Generator, Iterable, List, Optional

from flowmaestro_transports.primitives.file_lock import open_lock_file

try:  # Imported now: after an execution has started, that would delay its first events.
    from platformdirs import user_config_path, user_state_path
except ImportError:
    user_config_path = user_state_path = None  # type: ignore[assignment]

_FILE = "executions.json"
_IDS = "ids.json"
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""The ids that completion offers: none of these signs means anything to a shell."""
MOST_IDS = 100
"""How many ids of a kind are remembered for each server and profile: the newest. A shell that
completes a word would have to list them."""
MOST_PLACES = 20
"""How many servers and profiles ids are remembered for: those used last."""
LARGEST_FILE = 1_048_576
"""Bytes of a larger file of ids are not read. Full, it has about 270,000."""
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


def remember_ids(place: str, kind: str, ids: Iterable[Any]) -> None:
    """Remember ids for completion, the newest first.

    `place` is a server and a profile (`session.place_of`), `kind` is `"workflows"` or
    `"executions"`. Values that are not an `ID` are left out.
    """
    new = [id for id in ids if isinstance(id, str) and ID.fullmatch(id)][:MOST_IDS]

    def merged(known: Dict[str, Dict[str, List[str]]]) -> Dict[str, Dict[str, List[str]]]:
        here = dict(known.get(place, {}))
        here[kind] = list(dict.fromkeys([*new, *here.get(kind, [])]))[:MOST_IDS]
        others = [each for each in known.items() if each[0] != place]
        return dict([*others, (place, here)][-MOST_PLACES:])

    with suppress(OSError, RuntimeError):
        known = _known_ids()
        if new and merged(known) != known:
            change_private(state_folder() / _IDS, lambda: json.dumps(merged(_known_ids())))


def known_ids(place: str, kind: str) -> List[str]:
    """Return the remembered ids of this kind, the newest first."""
    with suppress(OSError, RuntimeError):
        return _known_ids().get(place, {}).get(kind, [])
    return []


def _known_ids() -> Dict[str, Dict[str, List[str]]]:
    """Return what `ids.json` holds: ids by place and kind. Only values that are an `ID` are kept.

    A file that others may write, or that is large, counts as empty.
    """
    try:
        with open(state_folder() / _IDS, encoding="utf-8") as file:
            about = os.fstat(file.fileno())
            is_ours = not hasattr(os, "getuid") or about.st_uid == os.getuid()
            is_private = os.name != "posix" or not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if not (is_ours and is_private and about.st_size <= LARGEST_FILE):
                return {}
            found: Any = json.load(file)
        return {
            place: {
                kind: [id for id in ids if isinstance(id, str) and ID.fullmatch(id)]
                for kind, ids in kinds.items()
            }
            for place, kinds in found.items()
        }
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return {}
    except (AttributeError, TypeError):  # It is JSON of another form.
        return {}
