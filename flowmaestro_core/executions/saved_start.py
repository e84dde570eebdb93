"""The saved state of a start with a checkpoint: its format, and the check of a loaded one. Pure."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Literal, NamedTuple, Optional, Tuple, cast

from flowmaestro_core.errors import CheckpointError
from flowmaestro_core.http.urls import is_id

VERSION = 1
"""The version of the saved state's format. Later versions of the SDK must read it."""
_TOO_GREAT = 10**12
"""Numbers of a state must be less than this: an `int` of JSON may be too great for a `float`, or
have more digits than Python writes."""


class StartIdentity(NamedTuple):
    """The start that a checkpoint belongs to.

    A state that was saved for another start is refused. Exception: if nothing was started, the
    inputs may differ.

    Attributes:
        api_root: the API root of the client.
        workflow_id: the workflow that is started.
        digest: the digest of its inputs, as hexadecimal digits.

    """

    api_root: str
    workflow_id: str
    digest: str


class SavedStart(NamedTuple):
    """The state of one start, as a checkpoint stores it.

    Attributes:
        state: `open`: nothing was started. `starting`: the request may have been sent.
            `started`: the execution was started, and its id is known.
        token: a random text, from which the `Idempotency-Key` is made.
        after: the id of the baseline, an execution older than the start: the newest one when the
            list was read, or the one that `rerun` replaces. Empty if there was none; `None` if it
            is not known: it was not read yet, the user's task engine made this state, or the server
            listed an execution without an id.
        execution_id: the id of the started execution; `None` or empty before it is known.
        reruns: how often an ended execution was replaced by a new one because of `rerun`.
        serial: the number of this state among all that were saved, from 1; 0 if the SDK has not
            saved it.
        at: of a loaded state: when it was saved, in Unix seconds by the clock of the process that
            saved it.

    """

    state: Literal["open", "starting", "started"]
    token: str
    after: Optional[str] = None
    execution_id: Optional[str] = None
    reruns: int = 0
    serial: int = 0
    at: float = 0.0

    @property
    def announcement(self) -> Tuple[int, float]:
        """A pair that differs from that of every other announcement of the start.

        It is the serial number and 0.0. A state that the user's task engine made (`read_state`) has
        no serial number: then it is 0 and the time `at`.
        """
        return self.serial, 0.0 if self.serial else self.at

    def as_dict(self, of: StartIdentity) -> Dict[str, Any]:
        """Return the dict that is passed to `save`, without the time `at`.

        `of` is the start that the state belongs to. The code that carries out the
        `SaveState` adds `at`, because a machine reads no clock.
        """
        kept = self._asdict()
        del kept["at"]
        return {"v": VERSION, **of._asdict(), **kept}


def read_state(value: Any, of: StartIdentity, token: str) -> SavedStart:
    """Check the state that `load` returned, and return it as a `SavedStart`.

    `of` is the start that the state must belong to. `None` becomes an `open` state. A state that
    has no token for this start gets `token`.

    `{"v": 1, "state": "starting", "at": t}` is a state that a task engine may make. It stands for a
    start at `t` (Unix time) or later, of which nothing else is known.

    Raises `CheckpointError` (`checkpoint_unusable` or `checkpoint_mismatch`).
    """
    if value is None:
        return SavedStart("open", token)
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise _unusable(f"load returned a {kind}, not the dict that was saved, or None")
    state = cast("Dict[str, Any]", value)
    version: Any = state.get("v")
    if not _is_count(version):
        raise _unusable('the state has no version "v"')
    if version > VERSION:
        raise _unusable(f"the state has version {version}, and this SDK reads {VERSION}: update it")
    if set(state) <= {"v", "state", "at"} and state.get("state") == "starting":
        if not _is_time(state.get("at")):
            raise _unusable('"at" of the state must be Unix seconds')
        return SavedStart("starting", token, at=state["at"])
    for name, check in _CHECKS.items():
        if not check(state.get(name)):
            raise _unusable(f"{name!r} of the state is missing or malformed")
    if state["state"] == "started" and not is_id(state.get("execution_id") or ""):
        raise _unusable("'execution_id' of the state is missing or malformed")
    differs = [name for name, wanted in of._asdict().items() if state[name] != wanted]
    known: Dict[str, Any] = {name: state.get(name) for name in SavedStart._fields}
    saved = SavedStart(**known)
    if saved.state == "open" and differs == ["digest"]:
        # Nothing was started with the other inputs; the token of the state belongs to those.
        return saved._replace(token=token)
    if differs:
        raise _mismatch(differs[0], state, of)
    return saved


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_token(value: Any) -> bool:
    """Return whether `value` is a text of 1 to 100 printable ASCII characters but no space."""
    return isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]{1,100}", value) is not None


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _TOO_GREAT


def _is_time(value: Any) -> bool:
    # This is False for NaN, too.
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) < _TOO_GREAT


_CHECKS: Dict[str, Callable[[Any], bool]] = {
    "state": lambda value: value in ("open", "starting", "started"),
    "api_root": _is_text,
    "workflow_id": _is_text,
    "digest": _is_text,
    "token": _is_token,
    "after": _is_text_or_none,
    "execution_id": _is_text_or_none,
    "reruns": _is_count,
    "serial": _is_count,
    "at": _is_time,
}


def _unusable(what: str) -> CheckpointError:
    return CheckpointError(f"The checkpoint cannot be used: {what}", "checkpoint_unusable")


def _mismatch(name: str, state: Dict[str, Any], of: StartIdentity) -> CheckpointError:
    if name == "digest":
        what = "other inputs"
    else:
        what = f"another {name}: {state[name]}, not {getattr(of, name)}"
    error = CheckpointError(
        f"The checkpoint belongs to {what}; use one checkpoint for each unit of work",
        "checkpoint_mismatch",
    )
    error.execution_id = state.get("execution_id") or None
    return error
