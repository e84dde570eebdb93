"""The protocol of a store: it keeps the states of starts, so that they survive the process. Pure.

A store maps a key to a *state*, a dict that JSON can express. It has three methods: `load`, `save`
and `known`. The journal of a batch (an SQLite file) and a checkpoint are stores; a user can pass
one to `run_many` as `journal=`, kept in any database.

One state is the *header*, under the key `HEADER_KEY`: what all starts of the store share. Every
`save` has the header as its first state, with a `serial` that is greater by one than the one
before. A store that can compare keeps the states only if it holds the header with `serial - 1`
(no header at all counts as serial 0), and raises `CheckpointConflict` otherwise. That is the fence
against a second process. A batch saves the header when it begins, so the last process to begin is
the one that continues, and the one before ends with a `JournalError` (`journal_busy`).

The header (`HeaderState`):

| key | value |
|---|---|
| `key` | `HEADER_KEY` |
| `v` | `VERSION` |
| `serial` | the number of this save, from 1 |
| `api_root`, `workflow_id` | what the starts belong to |
| `keyed` | whether the caller's `key=` makes the keys; else a key is the index of its row |
| `token` | a random text, from which the idempotency keys are made |
| `rows` | the number of rows that were saved; without `key=`, the index after the last one |
| `last_number` | the number of the last start |
| `at` | Unix time: no start in doubt was made before it |
| `after` | the newest execution before the first start (the baseline, number 0); `""`: none |

`after` is `None` while the baseline is not known.

Each other state is that of one start (`StartState`):

| key | value |
|---|---|
| `key` | a text that identifies the row, at most `MAX_KEY_SIZE` bytes as UTF-8 |
| `v` | `VERSION` |
| `state` | `open`, `starting`, `started` or `ended` (`Stage`) |
| `digest` | of its inputs, as hexadecimal digits (`digest_of`) |
| `number` | that of its last start, from 1; a later start has a greater one; 0 if it is `open` |
| `reruns` | how often it was started again after an execution: by `rerun`, `redo`, or for credits |
| `refusal` | a digest of the server error that was shown to start nothing, or `""` |
| `execution_id` | the id of its execution; `None` in the states `open` and `starting` |
| `outcome` | the ended execution, a dict of any size; only in the state `ended` |

A store need not look into states, except for `key`, `serial`, `state`, `number`, `execution_id` and
`outcome`. A later version may add keys: a store keeps those that it does not know.
"""

from __future__ import annotations

from typing import (
    Any,
    Coroutine,
    Dict,
    Iterable,
    List,
    Literal,
    Mapping,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    TypedDict,
    Union,
)

VERSION = 1
"""The version of the states' format. Later versions of the SDK must read it."""
HEADER_KEY = "flowmaestro:header"
"""The key of the header. No row can have it."""
MAX_KEYS = 256
"""The most keys in one `load`. A database takes so many parameters in one query."""
MAX_KEY_SIZE = 1_000
"""The most bytes of a key. An index of PostgreSQL takes no text of more than 2,700 bytes."""
MAX_OUTCOMES_SIZE = 16 * 1024 * 1024
"""After so many bytes of outcomes, a `load` may leave out the `outcome` of further states. Decoded,
JSON takes several times as many bytes of memory, so a load takes about a hundred megabytes."""

Stage = Literal["open", "starting", "started", "ended"]
"""The state of a start, as it is stored.

`open`: not started: the start has failed for certain, or its execution has failed for a lack of
credits. `starting`: saved before the request is sent, so a process that finds it does not know
whether there is an execution. `started`: the id of its execution is known. `ended`: the execution
has ended."""


class HeaderState(TypedDict):
    """The state under `HEADER_KEY`: see the module."""

    key: str
    v: int
    serial: int
    api_root: str
    workflow_id: str
    keyed: bool
    token: str
    rows: int
    last_number: int
    at: float
    after: Optional[str]


class _StartState(TypedDict):
    key: str
    v: int
    state: Stage
    digest: str
    number: int
    reruns: int
    refusal: str
    execution_id: Optional[str]


class StartState(_StartState, total=False):
    """The state of one start: see the module."""

    outcome: Dict[str, Any]


State = Union[HeaderState, StartState]


class Loaded(NamedTuple):
    """The content of a store, as returned: the reply to a `Load`. Nothing is checked yet.

    Attributes:
        states: the states under the keys of the `Load`.
        known: the numbers of the starts of its executions, by id.
        wall_time: when they were loaded, in Unix seconds.

    """

    states: Tuple[Any, ...] = ()
    known: Mapping[Any, Any] = {}
    wall_time: float = 0.0


class Store(Protocol):
    """Keeps the states of starts. Pass one as `journal=` to `run_many`, or pass a path.

    The batch never calls two methods at the same time. An exception of a method ends the batch with
    a `JournalError`; the same call continues it.
    """

    def load(self, keys: Sequence[str], outcomes: bool) -> Iterable[Mapping[str, Any]]:
        """Return the states that were saved last under these keys, in any order.

        Args:
            keys: at most 256 keys. Leave out those under which nothing was saved.
            outcomes: whether an ended state must have its `outcome`. After 16 MB of outcomes, the
                store may leave out those of further states: the batch loads these again. The first
                ended state has its outcome always. If False, leave out all.

        """
        ...

    def save(self, states: List[Dict[str, Any]]) -> None:
        """Keep all `states`, each in place of what was saved under its `key`, or none of them.

        The first one is the header. If the store can compare, it keeps the states only if it holds
        a header whose `serial` is smaller by one (or none, for the serial 1).

        When this returns, a state `starting` must survive the loss of the machine that called it.
        The others must survive the end of the process.

        Raises `CheckpointConflict` if another process has saved first.
        """
        ...

    def known(self, execution_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the numbers of the starts to which these executions belong.

        Leave out ids that were never saved. An id is known for ever once a state with it was saved,
        also after another state has replaced that one: else the execution of a row that was started
        again would be taken for its new one.

        Args:
            execution_ids: at most 100 ids.

        """
        ...


class AsyncStore(Protocol):
    """A `Store` whose methods are coroutine functions, for an async client.

    An async client takes a `Store`, too, and calls it on the event loop.
    """

    def load(
        self, keys: Sequence[str], outcomes: bool
    ) -> Coroutine[Any, Any, Iterable[Mapping[str, Any]]]:
        """Return the states under these keys: see `Store.load`."""
        ...

    def save(self, states: List[Dict[str, Any]]) -> Coroutine[Any, Any, None]:
        """Keep all states or none: see `Store.save`."""
        ...

    def known(self, execution_ids: Sequence[str]) -> Coroutine[Any, Any, Mapping[str, int]]:
        """Return the numbers of the starts of these executions: see `Store.known`."""
        ...
