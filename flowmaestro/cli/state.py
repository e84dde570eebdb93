"""The state folder: what this user did last from this machine.

Reads and writes `executions.json` in the folder that `platformdirs` names. It holds ids and API
roots, and no key. A file that cannot be read or written is as good as none.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Optional

try:  # Now, and not after an execution has started: its first events would be missed.
    from platformdirs import user_state_path
except ImportError:
    user_state_path = None  # type: ignore[assignment]

_FILE = "executions.json"


def state_folder() -> Path:
    """Return the folder of this user for state, which may not exist yet."""
    if user_state_path is not None:
        return user_state_path("flowmaestro", appauthor=False)
    # platformdirs comes with the extra `cli`; these are its folders, in short.
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Application Support"
    else:
        root = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return root / "flowmaestro"


def remember_execution(api_root: str, execution_id: str) -> None:
    """Remember the execution as the last one that this user started at this API root."""
    with suppress(OSError, RuntimeError):  # RuntimeError: there is no home folder.
        folder = state_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = {**_executions(), api_root: execution_id}
        draft = folder / f"{_FILE}.{os.getpid()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(known, file)
        os.replace(draft, folder / _FILE)


def last_execution(api_root: str) -> Optional[str]:
    """Return the id of the last execution that this user started at this API root."""
    found = _executions().get(api_root)
    return found if isinstance(found, str) else None


def _executions() -> Dict[str, Any]:
    try:
        found = json.loads((state_folder() / _FILE).read_text("utf-8"))
    except (OSError, ValueError, RuntimeError):
        return {}
    return found if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]
