"""Check a store: whether it keeps what a batch relies on. Does no I/O but that of the store."""

from __future__ import annotations

import copy
import inspect
import json
import threading
import uuid
from typing import Any, Callable, Dict, List, Optional, Sequence

from flowmaestro_core.errors import CheckpointConflict
from flowmaestro_core.store import (
    HEADER_KEY,
    MAX_KEY_SIZE,
    MAX_KEYS,
    VERSION,
    AsyncStore,
    Store,
)

_ROUNDS = 20
"""How often two saves race: a store that reads and then writes loses some of these races."""
_MANY = 10_000
_MEGABYTE = 1_000_000
_MAX_IDS = 100
"""The most ids in one call of `known`: see `Store.known`."""
_KEYS = (
    *("0", "00", "a", "A", "a ", " a", "é", "e\u0301", "日本語", "\U0001f600", "*", "?", "%", "_"),
    *("'; --", '"', "\\", "{a}", "a:b", "a/b", "a\nb", "k" * MAX_KEY_SIZE),
)
"""Keys that a store may confuse or refuse."""
_OUTPUTS: Dict[str, Any] = {
    "text": "Grüße, 日本語, \U0001f600",
    "escaped": "\x00 \ud800",
    "numbers": [9007199254740993, -0.5, 1e300],
    "nested": {"": [None, True, [], {}]},
}
State = Dict[str, Any]


def check_store(make: Callable[[str], Store]) -> None:
    """Check that a store keeps what a batch relies on.

    Raises `AssertionError`, which says what is wrong and why that matters. An exception of the
    store is raised unchanged. What was saved stays in the store, under names that begin with
    `check-`.

    A store that cannot notice that another process has saved first has an attribute `compares` that
    is False. What needs that is not checked then.

    Args:
        make: opens the store of this name, as a new process does. With a new name, the store is
            empty. With a name that was used before, it holds what was saved under this name.

    """
    steps = _check(_Calls(make))
    try:
        steps.send(None)
    except StopIteration:
        return
    raise AssertionError("unreachable: a sync store is never waited for")


async def check_async_store(make: Callable[[str], AsyncStore]) -> None:
    """Check a store whose methods are coroutine functions, as `check_store` does.

    Args:
        make: opens the store of this name: see `check_store`. It is a plain function.

    """
    await _check(_AsyncCalls(make))


class _Calls:
    """Calls the methods of a sync store. The arguments are copies, as those of a batch are."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        self.make = make

    async def call(self, method: Callable[..., Any], *args: Any) -> Any:
        """Return the result of a method."""
        result = method(*copy.deepcopy(args))
        if inspect.iscoroutine(result):
            result.close()
            raise AssertionError(
                f"{method.__name__} is a coroutine function: use check_async_store"
            )
        return result

    async def at_once(self, stores: Sequence[Any], states: List[State]) -> List[bool]:
        """Save the same states with each store at the same moment. Return which saves won."""
        barrier = threading.Barrier(len(stores))
        won: List[bool] = []
        failures: List[BaseException] = []

        def save(store: Any) -> None:
            barrier.wait()
            try:
                store.save(copy.deepcopy(states))
                won.append(True)
            except CheckpointConflict:
                won.append(False)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=save, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return won


class _AsyncCalls(_Calls):
    """Calls the methods of an async store."""

    # Not a twin: it has a task group where the other has threads.
    async def call(self, method: Callable[..., Any], *args: Any) -> Any:
        """Return the result of a method."""
        return await method(*copy.deepcopy(args))

    async def at_once(self, stores: Sequence[Any], states: List[State]) -> List[bool]:
        """Save the same states with each store at the same moment. Return which saves won."""
        import anyio

        won: List[bool] = []

        async def save(store: Any) -> None:
            try:
                await store.save(copy.deepcopy(states))
                won.append(True)
            except CheckpointConflict:
                won.append(False)

        async with anyio.create_task_group() as tasks:
            for store in stores:
                tasks.start_soon(save, store)
        return won


class _Subject:
    """A store under a name of its own, and what it must hold."""

    def __init__(self, calls: _Calls) -> None:
        self.name = f"check-{uuid.uuid4().hex}"
        self._calls = calls
        self.store: Any = calls.make(self.name)
        self.compares: bool = getattr(self.store, "compares", True)
        self.serial = 0

    def reopen(self) -> None:
        self.store = self._calls.make(self.name)

    def of_another_name(self) -> _Subject:
        return _Subject(self._calls)

    def header(self, serial: int) -> State:
        """Return a header as a batch saves it."""
        return {
            "key": HEADER_KEY,
            "v": VERSION,
            "serial": serial,
            "api_root": "https://api.test/v1",
            "workflow_id": "wf_1",
            "keyed": True,
            "token": self.name,
            "rows": serial,
            "last_number": serial,
            "at": 1764571234.125,
            "after": None,
            "added later": ["é", None],
        }

    async def save(self, *states: State) -> None:
        """Save states with the next serial."""
        self.serial += 1
        await self.save_these([self.header(self.serial), *states])

    async def save_these(self, states: List[State]) -> None:
        """Save these states, of which the first one is a header."""
        await self._calls.call(self.store.save, states)

    async def load(self, keys: Sequence[str], outcomes: bool = True) -> Dict[str, State]:
        """Return the states under these keys."""
        found = await self._calls.call(self.store.load, list(keys), outcomes)
        states = [dict(state) for state in found]
        by_key = {state["key"]: state for state in states}
        alone = len(by_key) == len(states) and by_key.keys() <= set(keys)
        why = "each text is a key of its own"
        _expect(alone, f"load returned two states of one key, or one of another key: {why}")
        return by_key

    async def known(self, ids: Sequence[str]) -> Dict[str, int]:
        return dict(await self._calls.call(self.store.known, list(ids)))

    async def refuses(self, states: List[State]) -> bool:
        """Return whether `save` raises `CheckpointConflict`."""
        try:
            await self.save_these(states)
        except CheckpointConflict:
            return True
        return False

    async def one_wins(self) -> bool:
        """Save at the same moment with two stores of this name. Return whether one of them won."""
        self.serial += 1
        stores = [self._calls.make(self.name), self._calls.make(self.name)]
        won = await self._calls.at_once(stores, [self.header(self.serial)])
        return sorted(won) == [False, True]


async def _check(calls: _Calls) -> None:
    for check in (
        _check_empty,
        _check_what_was_saved,
        _check_replaced_states,
        _check_keys,
        _check_all_or_none,
        _check_stale_serials,
        _check_two_at_once,
        _check_large_outcomes,
        _check_many_keys,
    ):
        await check(_Subject(calls))


async def _check_empty(subject: _Subject) -> None:
    other = subject.of_another_name()
    await other.save(_state("a", "started", 1, execution_id="ex_1"))
    _expect(await subject.load([HEADER_KEY, "a"]) == {}, "a store of a new name is not empty")
    _expect(await subject.known(["ex_1"]) == {}, "a store of a new name knows an execution")


async def _check_what_was_saved(subject: _Subject) -> None:
    stages = (
        _state("open", "open", 0),
        _state("starting", "starting", 1),
        _state("started", "started", 2, execution_id="ex_2"),
        _state("ended", "ended", 3, execution_id="ex_3", outcome=_execution("ex_3", _OUTPUTS)),
    )
    await subject.save(*stages)
    subject.reopen()
    wanted = {state["key"]: state for state in (*stages, subject.header(1))}
    keys = [*wanted, "never saved"]
    why = "a row would be started twice, or its outcome would be another one"
    _equal(await subject.load(keys), wanted, f"after reopening, {why}")
    wanted["ended"].pop("outcome")
    why = "a batch compares all rows first, and reads no outcomes for that"
    _equal(await subject.load(keys, outcomes=False), wanted, f"without outcomes; {why}")
    _equal(
        await subject.known(["ex_1", "ex_2", "ex_3"]),
        {"ex_2": 2, "ex_3": 3},
        "known: the execution of another row would be taken for that of a row in doubt",
    )


async def _check_replaced_states(subject: _Subject) -> None:
    first = _state("a", "ended", 1, execution_id="ex_1", outcome=_execution("ex_1", {}))
    again = _state("a", "starting", 2)
    await subject.save(first)
    await subject.save(again)
    subject.reopen()
    _equal(await subject.load(["a"]), {"a": again}, "a state must replace the one before")
    await subject.save(_state("a", "started", 2, execution_id="ex_2"))
    subject.reopen()
    _equal(
        await subject.known(["ex_1", "ex_2"]),
        {"ex_1": 1, "ex_2": 2},
        "known: the earlier execution of a row that was started again is known for ever",
    )
    last = _execution("ex_2", {"text": "of the last start"})
    ended = _state("a", "ended", 2, execution_id="ex_2", outcome=last)
    await subject.save(ended)
    subject.reopen()
    why = "an outcome must replace the one before, or a row would be started again for ever"
    _equal(await subject.load(["a"]), {"a": ended}, why)


async def _check_keys(subject: _Subject) -> None:
    states = {key: _state(key, "starting", number) for number, key in enumerate(_KEYS, 1)}
    await subject.save(*states.values())
    subject.reopen()
    _equal(await subject.load(_KEYS), states, "each text is a key of its own")
    for key in _KEYS:
        _equal(await subject.load([key]), {key: states[key]}, f"of the key {key!r:.40}")


async def _check_all_or_none(subject: _Subject) -> None:
    held = _state("a", "starting", 1)
    await subject.save(held)
    unsaved = _state("b", "open", 0, refusal={"JSON cannot express a set"})
    states = [subject.header(2), _state("a", "started", 1, execution_id="ex_1"), unsaved]
    try:
        await subject.save_these(states)
    except Exception:
        subject.reopen()
        found = await subject.load(["a", "b", HEADER_KEY])
        wanted = {"a": held, HEADER_KEY: subject.header(1)}
        _equal(found, wanted, "a save that raised must keep none of its states")
        _equal(await subject.known(["ex_1"]), {}, "a save that raised must keep no execution")
    else:
        subject.reopen()
        found = await subject.load(["a", "b"])
        _expect(found.keys() == {"a", "b"}, "a save that did not raise must keep all its states")


async def _check_stale_serials(subject: _Subject) -> None:
    if not subject.compares:
        return
    why = "two processes would start the same rows: save must raise CheckpointConflict"
    changed = _state("a", "started", 1, execution_id="ex_9")
    _expect(await subject.refuses([subject.header(2), changed]), f"the serial 2 came first; {why}")
    held = _state("a", "starting", 1)
    await subject.save(held)
    await subject.save(held)
    for serial in (1, 2, 4):
        states = [subject.header(serial), changed]
        _expect(await subject.refuses(states), f"the serial {serial} came after 2; {why}")
    subject.reopen()
    _expect(await subject.refuses([subject.header(2), changed]), f"2 came twice; {why}")
    wanted = {"a": held, HEADER_KEY: subject.header(2)}
    found = await subject.load(["a", HEADER_KEY])
    _equal(found, wanted, "a save that lost must keep none of its states")
    _equal(await subject.known(["ex_9"]), {}, "a save that lost must keep no execution")
    await subject.save(changed)


async def _check_two_at_once(subject: _Subject) -> None:
    if not subject.compares:
        return
    for _ in range(_ROUNDS):
        _expect(
            await subject.one_wins(),
            "two stores saved the same serial at once, and not exactly one of them got "
            "CheckpointConflict: two processes would start the same rows",
        )


async def _check_large_outcomes(subject: _Subject) -> None:
    keys = [f"large-{number}" for number in range(1, 11)]
    for number, key in enumerate(keys, 1):
        outcome = _execution(f"ex_{number}", {"text": f"{number:02}" + "é" * _MEGABYTE})
        await subject.save(
            _state(key, "ended", number, execution_id=f"ex_{number}", outcome=outcome)
        )
    subject.reopen()
    left = list(keys)
    while left:
        found = await subject.load(left)
        _expect(found.keys() == set(left), "load left out a state, not only its outcome")
        got = [key for key in left if "outcome" in found[key]]
        _expect(bool(got), "load must return at least one outcome: the batch would ask for ever")
        for key in got:
            text = found[key]["outcome"]["outputs"]["text"]
            right = f"{keys.index(key) + 1:02}" + "é" * _MEGABYTE
            _expect(text == right, f"the outcome of {key}, of 2 MB, has changed")
        left = [key for key in left if key not in got]


async def _check_many_keys(subject: _Subject) -> None:
    states = [
        _state(str(number), "started", number, execution_id=f"ex_{number}")
        for number in range(1, _MANY + 1)
    ]
    for at in range(0, _MANY, MAX_KEYS):
        await subject.save(*states[at : at + MAX_KEYS])
    subject.reopen()
    for at in range(0, _MANY, MAX_KEYS):
        some = {state["key"]: state for state in states[at : at + MAX_KEYS]}
        _equal(await subject.load(list(some)), some, f"{_MANY} keys")
    for at in range(0, _MANY, _MAX_IDS):
        numbers = {it["execution_id"]: it["number"] for it in states[at : at + _MAX_IDS]}
        _equal(await subject.known(list(numbers)), numbers, f"known, {_MANY} ids")


def _state(
    key: str, stage: str, number: int, *, execution_id: Optional[str] = None, **more: Any
) -> State:
    """Return the state of a start. It has a key that a later version may add."""
    return {
        "key": key,
        "v": VERSION,
        "state": stage,
        "digest": "0f" * 16,
        "number": number,
        "reruns": 0,
        "refusal": "",
        "execution_id": execution_id,
        "added later": {"é": 1},
        **more,
    }


def _execution(execution_id: str, outputs: Any) -> Dict[str, Any]:
    return {"id": execution_id, "status": "completed", "outputs": outputs, "error": None}


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def _equal(found: Dict[str, Any], wanted: Dict[str, Any], why: str) -> None:
    """Raise `AssertionError` unless both are equal, with the first key that differs."""
    for key in sorted({*found, *wanted}):
        has, must = _shown(found, key), _shown(wanted, key)
        if has != must:
            raise AssertionError(f"{key[:40]!r} has {has[:300]}, not {must[:300]}: {why}")


def _shown(states: Dict[str, Any], key: str) -> str:
    """Return the value of a key as JSON, in which `1` and `True` differ."""
    return json.dumps(states[key], sort_keys=True) if key in states else "nothing"
