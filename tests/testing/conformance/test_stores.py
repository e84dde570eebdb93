"""`check_store` passes a store that keeps its promise, and names what another one breaks."""

from __future__ import annotations

import json
import threading
import unicodedata
from typing import Any, Callable, Dict, Sequence

import anyio
import pytest
from anyio.lowlevel import checkpoint

from flowmaestro import CheckpointConflict
from flowmaestro.testing import check_async_store, check_store
from flowmaestro.testing.conformance import stores
from flowmaestro_core.store import HEADER_KEY
from tests.harness.core import journals


class Database:
    """What survives: states as JSON and numbers of executions, under the name of their store."""

    def __init__(self) -> None:
        self.states: Dict[str, Dict[str, str]] = {}
        self.numbers: Dict[str, Dict[str, int]] = {}
        self.lock = threading.Lock()


class MemoryStore(journals.MemoryStore):
    """A store that keeps its promise."""

    def __init__(self, database: Database, name: str) -> None:
        self.states = database.states.setdefault(name, {})
        self.numbers = database.numbers.setdefault(name, {})
        self.lock = database.lock

    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        json.dumps(states)  # what raises comes before anything is kept
        with self.lock:
            super().save(states)


class AsyncMemoryStore:
    """The same, with a pause in each method, where another task may run."""

    def __init__(self, database: Database, name: str) -> None:
        self.store = MemoryStore(database, name)

    async def load(self, keys: Sequence[str], outcomes: bool) -> Any:
        await checkpoint()
        return self.store.load(keys, outcomes)

    async def save(self, states: Sequence[Dict[str, Any]]) -> None:
        await checkpoint()
        self.store.save(states)

    async def known(self, execution_ids: Sequence[str]) -> Dict[str, int]:
        await checkpoint()
        return self.store.known(execution_ids)


def makes(kind: Any) -> Callable[[str], Any]:
    database = Database()
    return lambda name: kind(database, name)


def test_store_that_keeps_its_promise_passes() -> None:
    check_store(makes(MemoryStore))


@pytest.fixture
def fewer_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many keys there are is checked once; it takes most of the time."""
    monkeypatch.setattr(stores, "_MANY", 1_000)


@pytest.mark.usefixtures("fewer_keys")
def test_async_store_that_keeps_its_promise_passes() -> None:
    anyio.run(check_async_store, makes(AsyncMemoryStore))


class Forgets(MemoryStore):
    def __init__(self, database: Database, name: str) -> None:
        super().__init__(Database(), name)


class SharesNames(MemoryStore):
    def __init__(self, database: Database, name: str) -> None:
        super().__init__(database, "")


class FoldsCase(MemoryStore):
    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        super().save(states)
        self.states.update({key.lower(): value for key, value in self.states.items()})


class Normalizes(MemoryStore):
    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        super().save(states)
        for key in list(self.states):
            self.states[unicodedata.normalize("NFC", key)] = self.states[key]


class KeepsKnownKeysOnly(MemoryStore):
    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        super().save([{k: v for k, v in it.items() if k != "added later"} for it in states])


class AlwaysLoadsOutcomes(MemoryStore):
    def load(self, keys: Sequence[str], outcomes: bool) -> Any:
        return super().load(keys, True)


class NeverLoadsOutcomes(MemoryStore):
    def load(self, keys: Sequence[str], outcomes: bool) -> Any:
        return super().load(keys, outcomes and len(keys) < 10)


class SavesTheHeaderLast(MemoryStore):
    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        with self.lock:
            self.states.update({it["key"]: json.dumps(it) for it in states[1:]})
        super().save(states)


class SavesOneByOne(MemoryStore):
    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        super().save(states[:1])
        for state in states[1:]:
            self.states[state["key"]] = json.dumps(state)
            if state["execution_id"]:
                self.numbers[state["execution_id"]] = state["number"]


class ForgetsIdsOfReplacedStates(MemoryStore):
    def known(self, execution_ids: Sequence[str]) -> Dict[str, int]:
        current = [json.loads(state).get("execution_id") for state in self.states.values()]
        return super().known([each for each in execution_ids if each in current])


class KeepsTheLastNumberOnly(MemoryStore):
    def known(self, execution_ids: Sequence[str]) -> Dict[str, int]:
        return dict.fromkeys(super().known(execution_ids), max(self.numbers.values(), default=0))


class KeepsTheFirstOutcome(MemoryStore):
    def __init__(self, database: Database, name: str) -> None:
        super().__init__(database, name)
        self.outcomes = database.states.setdefault(f"outcomes of {name}", {})

    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        super().save(states)
        for state in states[1:]:
            if "outcome" in state:
                self.outcomes.setdefault(state["key"], state["outcome"])

    def load(self, keys: Sequence[str], outcomes: bool) -> Any:
        states = super().load(keys, outcomes)
        for state in states:
            if "outcome" in state:
                yield {**state, "outcome": self.outcomes[state["key"]]}
            else:
                yield state


class DoesNotCompare(MemoryStore):
    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        new = [(state["key"], json.dumps(state)) for state in states]
        self.states.update(new)
        self.numbers.update({it["execution_id"]: it["number"] for it in states[1:]})


class DoesNotCompareAndSaysSo(DoesNotCompare):
    compares = False

    def known(self, execution_ids: Sequence[str]) -> Dict[str, int]:
        return super().known([each for each in execution_ids if each])


class ComparesGreater(MemoryStore):
    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        held = json.loads(self.states.get(HEADER_KEY, '{"serial": 0}'))["serial"]
        if states[0]["serial"] > held:
            states = [{**states[0], "serial": held + 1}, *states[1:]]
        super().save(states)


class ReadsThenWrites(MemoryStore):
    both = threading.Barrier(2)

    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        held = json.loads(self.states.get(HEADER_KEY, '{"serial": 0}'))["serial"]
        if states[0]["serial"] != held + 1:
            raise CheckpointConflict
        if len(states) == 1:  # Two stores save the header alone at once.
            self.both.wait(5)
        self.states.update([(state["key"], json.dumps(state)) for state in states])
        self.numbers.update({it["execution_id"]: it["number"] for it in states[1:]})


class Truncates(MemoryStore):
    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        for state in states[1:]:
            outputs = state.get("outcome", {}).get("outputs", {})
            outputs.update(text=outputs.get("text", "")[:65535])
        super().save(states)


class LosesPrecision(MemoryStore):
    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        super().save(json.loads(json.dumps(states), parse_int=lambda it: int(float(it))))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Forgets, "after reopening, a row would be started twice"),
        (SharesNames, "a store of a new name is not empty"),
        (FoldsCase, "each text is a key of its own"),
        (Normalizes, "each text is a key of its own"),
        (KeepsKnownKeysOnly, "after reopening"),
        (AlwaysLoadsOutcomes, "without outcomes"),
        (NeverLoadsOutcomes, "at least one outcome"),
        (SavesTheHeaderLast, "a save that lost must keep none"),
        (SavesOneByOne, "a save that raised must keep none"),
        (ForgetsIdsOfReplacedStates, "is known for ever"),
        (KeepsTheLastNumberOnly, "known: the execution of another row"),
        (KeepsTheFirstOutcome, "an outcome must replace the one before"),
        (DoesNotCompare, "the serial 2 came first"),
        (ComparesGreater, "the serial 2 came first"),
        (ReadsThenWrites, "not exactly one of them got CheckpointConflict"),
        (Truncates, "has changed"),
        (LosesPrecision, "after reopening"),
        (AsyncMemoryStore, "save is a coroutine function: use check_async_store"),
    ],
)
def test_broken_store_is_named(kind: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_store(makes(kind))


@pytest.mark.usefixtures("fewer_keys")
def test_store_that_says_that_it_cannot_compare_passes() -> None:
    check_store(makes(DoesNotCompareAndSaysSo))
