"""States as a batch saves them, for tests of stores."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List

from flowmaestro_core.store import HEADER_KEY, VERSION


def a_header(serial: int, **more: Any) -> Dict[str, Any]:
    return {
        "key": HEADER_KEY,
        "v": VERSION,
        "serial": serial,
        "api_root": "https://api.test",
        "workflow_id": "wf_1",
        "keyed": False,
        "token": "token",
        "rows": 0,
        "last_number": 0,
        "at": 5.0,
        "after": None,
        **more,
    }


def a_state(key: str, state: str, number: int = 1, **more: Any) -> Dict[str, Any]:
    """The state of one row. A started or ended one has the execution `ex_{number}`."""
    made = {
        "key": key,
        "v": VERSION,
        "state": state,
        "digest": f"{number:032x}",
        "number": 0 if state == "open" else number,
        "reruns": 0,
        "refusal": "",
        "execution_id": f"ex_{number}" if state in ("started", "ended") else None,
    }
    if state == "ended":
        made["outcome"] = {"id": f"ex_{number}", "status": "completed", "outputs": {}}
    return {**made, **more}


class Saves:
    """Saves states with a header whose serial counts from 1."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._serials: Iterator[int] = iter(range(1, 1_000_000))

    def __call__(self, *states: Dict[str, Any], **header: Any) -> None:
        self._store.save([a_header(next(self._serials), **header), *states])


def by_key(states: List[Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
    return {state["key"]: state for state in states}
