"""The states that a store keeps: how they are made, and the checks of loaded ones. Pure.

`flowmaestro_core/store.py` describes them. The store of a checkpoint has one start, so it has one
state, which is the header and the start in one: `SavedStart`. A `_Format` lists the fields of each
kind of state, with what a value must be, and checks those of a loaded state.
"""

from __future__ import annotations

import itertools
import re
from typing import (
    Any,
    Callable,
    Collection,
    Dict,
    Literal,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
    cast,
)

from flowmaestro_core.errors import CheckpointError, JournalError
from flowmaestro_core.http.urls import is_id
from flowmaestro_core.store import HEADER_KEY, VERSION, Loaded, Stage

_STAGES = ("open", "starting", "started", "ended")
_WITH_ID = _STAGES[2:]
_TOO_GREAT = 10**12
"""Numbers of a state must be less than this: an `int` of JSON may be too great for a `float`, or
have more digits than Python writes."""


class _Field(NamedTuple):
    """A field of a state: the types that its value may have, and a rule for it, if there is one."""

    types: Tuple[type, ...]
    rule: Optional[Callable[[Any], Any]] = None

    def allows(self, value: Any) -> bool:
        """Return whether a value is well-formed.

        A store may return values of a subclass, such as a `numpy.float64` or a member of an
        enumeration. But a `bool` is not a number.
        """
        if not isinstance(value, self.types) or (
            isinstance(value, bool) and bool not in self.types
        ):
            return False
        return self.rule is None or bool(self.rule(value))


class _Format:
    """The fields of one kind of state, in their order."""

    def __init__(self, **fields: _Field) -> None:
        self._fields = fields
        self._names = tuple(fields)
        # The types that JSON has are looked up at once, and only rules are called. To check one
        # field after another would take longer, and a journal may have 100,000 rows.
        self._types = set(itertools.product(*(field.types for field in fields.values())))
        self._rules = [
            (index, field.rule) for index, field in enumerate(fields.values()) if field.rule
        ]

    def read(
        self, state: Mapping[str, Any], returned: Callable[[str], Exception]
    ) -> Tuple[Any, ...]:
        """Return the values of the fields; `None` for a missing one, if it may be `None`.

        If one is malformed, raise what `returned` makes of a text that names it.
        """
        values = tuple(map(state.get, self._names))
        if tuple(map(type, values)) in self._types:
            for index, rule in self._rules:
                if not rule(values[index]):
                    break
            else:
                return values
        for (name, field), value in zip(self._fields.items(), values):
            if not field.allows(value):
                raise returned(_malformed(name))
        return values


def _malformed(name: str) -> str:
    return f"a state whose {name!r} is missing or malformed"


def _is_id_or_empty(value: Optional[str]) -> bool:
    return not value or is_id(value)


def _is_count(value: int) -> bool:
    return 0 <= value < _TOO_GREAT


def _is_positive(value: int) -> bool:
    return 0 < value < _TOO_GREAT


def _is_time(value: float) -> bool:
    return abs(value) < _TOO_GREAT  # False for NaN, too.


_NONE = type(None)
_TEXT = _Field((str,))
_TEXT_OR_NONE = _Field((str, _NONE))
_TOKEN = _Field((str,), re.compile(r"[\x21-\x7e]{1,100}").fullmatch)
"""Printable ASCII characters but no space, since it is part of a header field."""
_ID = _Field((str, _NONE), _is_id_or_empty)
_FLAG = _Field((bool,))
_COUNT = _Field((int,), _is_count)
_TIME = _Field((int, float), _is_time)
_VERSION = _Field((int,), VERSION.__eq__)
_SHARED = {"api_root": _TEXT, "workflow_id": _TEXT, "token": _TOKEN, "after": _TEXT_OR_NONE}
_HEADER = _Format(
    **_SHARED,
    at=_TIME,
    serial=_Field((int,), _is_positive),
    rows=_COUNT,
    last_number=_COUNT,
    keyed=_FLAG,
)
_ROW = _Format(
    state=_Field((str,), _STAGES.__contains__),
    digest=_TEXT,
    number=_COUNT,
    reruns=_COUNT,
    refusal=_TEXT,
    execution_id=_ID,
)
_CHECKPOINT = _Format(
    state=_Field((str,), _STAGES[:3].__contains__),
    **_SHARED,
    digest=_TEXT,
    execution_id=_ID,
    reruns=_COUNT,
    serial=_COUNT,
    at=_TIME,
)
_START_OF_AN_ENGINE = _Format(at=_TIME)


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
    _HEADER.read(state, lambda said: _returned(said.replace("state", "header", 1)))
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
    return Header(*(state.get(name) for name in Header._fields))  # type: ignore[arg-type]


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
        values = _ROW.read(state, _returned)
        stage, _, number, _, _, execution_id = values
        if not execution_id and stage in _WITH_ID:
            raise _returned(_malformed("execution_id"))
        # Numbers would be given out twice, and a lookup could end before a row in doubt.
        if number > last_number:
            raise _returned("a header that is older than the state of a row")
        outcome = None
        if stage == "ended" and outcomes:
            has_ended = True
            outcome = state.get("outcome")
            if outcome is not None:
                has_outcome = True
                if not _is_outcome(outcome):
                    raise _returned("a state whose 'outcome' is not an ended execution")
        rows[key] = SavedRow._make((key, *values, outcome))
    if has_ended and not has_outcome:
        raise _returned("no 'outcome' of the rows that have ended")
    return rows


def read_known(loaded: Loaded, ids: Collection[str]) -> Dict[str, int]:
    """Return the numbers of starts that a store returned for execution `ids`.

    Raises `JournalError` (`journal_unusable`) if it returned anything else.
    """
    for found, number in loaded.known.items():
        if found not in ids or not _COUNT.allows(number):
            raise _returned("what is not an execution id that it was asked for and a number")
    return dict(loaded.known)


def _by_key(states: Tuple[Any, ...], keys: Collection[str]) -> Dict[str, Mapping[str, Any]]:
    """Return states by their keys.

    Raises `JournalError` unless each is a mapping of this version, with a key of `keys`.
    """
    found: Dict[str, Mapping[str, Any]] = {}
    for state in states:
        if type(state) is not dict and not isinstance(state, Mapping):  # The first is quicker.
            raise _returned(f"a {type(state).__name__} in place of a state")
        known = cast("Mapping[str, Any]", state)
        key = known.get("key")
        if not isinstance(key, str) or key not in keys or key in found:
            raise _returned("a state with another key than it was asked for")
        version = known.get("v")
        if not _VERSION.allows(version):
            raise _returned(_other_version(version))
        found[key] = known
    return found


def _other_version(version: Any) -> str:
    if not _COUNT.allows(version):
        return 'a state without a version "v"'
    return f"a state of version {version}, and this SDK reads {VERSION}: update it"


def _is_outcome(value: Any) -> bool:
    return isinstance(value, dict) and {"id", "status", "outputs", "error"} <= value.keys()


def _known_by(keyed: bool) -> str:
    return "known by a key" if keyed else "known by their index"


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
        raise _loaded(f"a {kind}, not the dict that was saved, or None")
    state = cast("Dict[str, Any]", value)
    version = state.get("v")
    if not _VERSION.allows(version):
        raise _loaded(_other_version(version))
    if set(state) <= {"v", "state", "at"} and state.get("state") == "starting":
        _START_OF_AN_ENGINE.read(state, _loaded)
        return SavedStart("starting", token, at=state["at"])
    _CHECKPOINT.read(state, _loaded)
    if state["state"] == "started" and not state.get("execution_id"):
        raise _loaded(_malformed("execution_id"))
    differs = [name for name, wanted in of._asdict().items() if state[name] != wanted]
    known: Dict[str, Any] = {name: state.get(name) for name in SavedStart._fields}
    saved = SavedStart(**known)
    if saved.state == "open" and differs == ["digest"]:
        # Nothing was started with the other inputs; the token of the state belongs to those.
        return saved._replace(token=token)
    if differs:
        raise _mismatch(differs[0], state, of)
    return saved


def journal_unusable(why: str) -> JournalError:
    """Return the error of a batch whose store cannot be used."""
    return JournalError(f"The journal cannot be used: {why}")


def _returned(what: str) -> JournalError:
    return journal_unusable(f"the store returned {what}")


def checkpoint_unusable(why: str) -> CheckpointError:
    """Return the error of a start whose checkpoint cannot be used."""
    return CheckpointError(f"The checkpoint cannot be used: {why}", "checkpoint_unusable")


def _loaded(what: str) -> CheckpointError:
    return checkpoint_unusable(f"load returned {what}")


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
