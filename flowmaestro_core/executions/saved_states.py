"""The states that a store keeps: how they are made, and the checks of loaded ones. Pure.

`flowmaestro_core/store.py` describes them. The store of a checkpoint has one start, so it has one
state, which is the header and the start in one: `SavedStart`.
"""

from __future__ import annotations

import re
from typing import (
    Any,
    Callable,
    Collection,
    Dict,
    Literal,
    Mapping,
    NamedTuple,
    NoReturn,
    Optional,
    Tuple,
    cast,
)

from flowmaestro_core.errors import CheckpointError, JournalError
from flowmaestro_core.http.urls import is_id
from flowmaestro_core.store import HEADER_KEY, VERSION, Loaded, Stage

_STAGES = ("open", "starting", "started", "ended")
_TOO_GREAT = 10**12
"""Numbers of a state must be less than this: an `int` of JSON may be too great for a `float`, or
have more digits than Python writes."""


class BatchIdentity(NamedTuple):
    """The batch that a journal belongs to. A journal of another one is refused."""

    api_root: str
    workflow_id: str
    keyed: bool


class Header(NamedTuple):
    """The header of a journal: see `flowmaestro_core/store.py`.

    A header that was never saved has the serial 0.
    """

    token: str
    at: float
    serial: int = 0
    rows: int = 0
    last_number: int = 0
    after: Optional[str] = None

    def as_dict(self, of: BatchIdentity) -> Dict[str, Any]:
        """Return the state to save, for the batch that the journal belongs to."""
        return {"key": HEADER_KEY, "v": VERSION, **of._asdict(), **self._asdict()}


class SavedRow(NamedTuple):
    """The state of one row: see `flowmaestro_core/store.py`. `outcome` is `None` if left out."""

    key: str
    state: Stage
    digest: str
    number: int = 0
    reruns: int = 0
    refusal: str = ""
    execution_id: Optional[str] = None
    outcome: Optional[Dict[str, Any]] = None

    def as_dict(self) -> Dict[str, Any]:
        """Return the state to save."""
        state = {"v": VERSION, **self._asdict()}
        if self.outcome is None:
            del state["outcome"]
        return state


def read_header(loaded: Loaded, of: BatchIdentity) -> Optional[Header]:
    """Return the header that a store returned, alone, for `HEADER_KEY`; `None` if there is none.

    Raises `JournalError` (`journal_unusable`) if it returned anything else, and
    (`journal_mismatch`) if the journal belongs to another batch than `of`.
    """
    states = _by_key(loaded.states, (HEADER_KEY,))
    if not states:
        return None
    state = states[HEADER_KEY]
    for name, check in _HEADER_CHECKS.items():
        if not check(state.get(name)):
            _refuse(f"a header whose {name!r} is missing or malformed")
    for name, value in of._asdict().items():
        if state[name] != value:
            what = name.replace("_", " ")
            had, wanted = state[name], value
            if name == "keyed":
                what, (had, wanted) = "rows", map(_known_by, (had, wanted))
            raise JournalError(
                f"The journal belongs to another batch: its {what}: {had}, not {wanted}",
                "journal_mismatch",
            )
    return Header(*(state[name] for name in Header._fields))


def read_rows(
    loaded: Loaded, keys: Collection[str], *, outcomes: bool, last_number: int = _TOO_GREAT
) -> Dict[str, SavedRow]:
    """Return the states of rows that a store returned for `keys`, by their keys.

    `outcomes` says that the outcomes were asked for. `last_number` is that of the loaded header.
    Raises `JournalError` (`journal_unusable`) if the store returned anything else, left out the
    outcome of every ended row, or returned a header that is older than a row.
    """
    rows: Dict[str, SavedRow] = {}
    has_ended = has_outcome = False
    for key, state in _by_key(loaded.states, keys).items():
        get = state.get
        row = rows[key] = SavedRow(
            key,
            get("state"),  # type: ignore[arg-type]
            get("digest"),  # type: ignore[arg-type]
            get("number"),  # type: ignore[arg-type]
            get("reruns"),  # type: ignore[arg-type]
            get("refusal"),  # type: ignore[arg-type]
            get("execution_id"),
        )
        # A loop over these checks would take a fifth of the time of reading a journal.
        is_sound = (
            row.state in _STAGES
            and isinstance(row.digest, str)
            and _is_count(row.number)
            and _is_count(row.reruns)
            and isinstance(row.refusal, str)
            and (is_id(row.execution_id) if row.execution_id else row.state in _STAGES[:2])
        )
        if not is_sound:
            _refuse_row(state)
        # Numbers would be given out twice, and a lookup could end before a row in doubt.
        if row.number > last_number:
            _refuse("a header that is older than the state of a row")
        if row.state == "ended" and outcomes:
            has_ended = True
            outcome = state.get("outcome")
            if outcome is not None:
                has_outcome = True
                if not _is_outcome(outcome):
                    _refuse("a state whose 'outcome' is not an ended execution")
                rows[key] = row._replace(outcome=outcome)
    if has_ended and not has_outcome:
        _refuse("no 'outcome' of the rows that have ended")
    return rows


def read_known(loaded: Loaded, ids: Collection[str]) -> Dict[str, int]:
    """Return the numbers of starts that a store returned for execution `ids`.

    Raises `JournalError` (`journal_unusable`) if it returned anything else.
    """
    for found, number in loaded.known.items():
        if found not in ids or not _is_count(number):
            _refuse("what is not an execution id that it was asked for and a number")
    return dict(loaded.known)


def _by_key(states: Tuple[Any, ...], keys: Collection[str]) -> Dict[str, Mapping[str, Any]]:
    """Return states by their keys.

    Raises `JournalError` unless each is a mapping of this version, with a key of `keys`.
    """
    found: Dict[str, Mapping[str, Any]] = {}
    for state in states:
        if not isinstance(state, (dict, Mapping)):  # A check for `dict` alone is quicker.
            _refuse(f"a {type(state).__name__} in place of a state")
        known = cast("Mapping[str, Any]", state)
        key, version = known.get("key"), known.get("v")
        if not isinstance(key, str) or key not in keys or key in found:
            _refuse("a state with another key than it was asked for")
        if not _is_count(version):
            _refuse('a state without a version "v"')
        if version != VERSION:
            _refuse(f"a state of version {version}, and this SDK reads {VERSION}: update it")
        found[key] = known
    return found


def _refuse_row(state: Mapping[str, Any]) -> NoReturn:
    names = ("state", "digest", "number", "reruns", "refusal")
    checks = (_is_stage, _is_text, _is_count, _is_count, _is_text)
    bad = [name for name, check in zip(names, checks) if not check(state.get(name))]
    name = bad[0] if bad else "execution_id"
    _refuse(f"a state whose {name!r} is missing or malformed")


def _known_by(keyed: bool) -> str:
    return "known by a key" if keyed else "known by their index"


def _refuse(what: str) -> NoReturn:
    raise journal_unusable(f"the store returned {what}")


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
        """Return the state to save, for the start that it belongs to."""
        return {"v": VERSION, **of._asdict(), **self._asdict()}


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
        raise checkpoint_unusable(f"load returned a {kind}, not the dict that was saved, or None")
    state = cast("Dict[str, Any]", value)
    version: Any = state.get("v")
    if not _is_count(version):
        raise checkpoint_unusable('the state has no version "v"')
    if version > VERSION:
        raise checkpoint_unusable(
            f"the state has version {version}, and this SDK reads {VERSION}: update it"
        )
    if set(state) <= {"v", "state", "at"} and state.get("state") == "starting":
        if not _is_time(state.get("at")):
            raise checkpoint_unusable('"at" of the state must be Unix seconds')
        return SavedStart("starting", token, at=state["at"])
    for name, check in _CHECKS.items():
        if not check(state.get(name)):
            raise checkpoint_unusable(f"{name!r} of the state is missing or malformed")
    if state["state"] == "started" and not is_id(state.get("execution_id") or ""):
        raise checkpoint_unusable("'execution_id' of the state is missing or malformed")
    differs = [name for name, wanted in of._asdict().items() if state[name] != wanted]
    known: Dict[str, Any] = {name: state.get(name) for name in SavedStart._fields}
    saved = SavedStart(**known)
    if saved.state == "open" and differs == ["digest"]:
        # Nothing was started with the other inputs; the token of the state belongs to those.
        return saved._replace(token=token)
    if differs:
        raise _mismatch(differs[0], state, of)
    return saved


def _is_stage(value: Any) -> bool:
    return value in _STAGES


def _is_outcome(value: Any) -> bool:
    return isinstance(value, dict) and {"id", "status", "outputs", "error"} <= value.keys()


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

_HEADER_CHECKS: Dict[str, Callable[[Any], bool]] = {
    "api_root": _is_text,
    "workflow_id": _is_text,
    "keyed": lambda value: isinstance(value, bool),
    "token": _is_token,
    "at": _is_time,
    "serial": lambda value: _is_count(value) and value > 0,
    "rows": _is_count,
    "last_number": _is_count,
    "after": _is_text_or_none,
}


def journal_unusable(why: str) -> JournalError:
    """Return the error of a batch whose store cannot be used."""
    return JournalError(f"The journal cannot be used: {why}")


def checkpoint_unusable(why: str) -> CheckpointError:
    """Return the error of a start whose checkpoint cannot be used."""
    return CheckpointError(f"The checkpoint cannot be used: {why}", "checkpoint_unusable")


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
