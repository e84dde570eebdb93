"""Stores as users write them: in SQLite, in a file, and a Redis that is an object in memory."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from flowmaestro import Checkpoint, CheckpointConflict


class SqliteStore:
    """Keeps a text for each key in a table."""

    def __init__(self, folder: Path) -> None:
        self.db = sqlite3.connect(folder / "kept.sqlite3")
        self.db.execute("CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value TEXT)")

    def get(self, key: str) -> Optional[str]:
        row = self.db.execute("SELECT value FROM kept WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, value: str) -> None:
        with self.db:
            self.db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (key, value))


class JsonStore:
    """Keeps a value for each key in a file, which it replaces as a whole."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "kept.json"

    def read(self) -> Dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def get(self, key: str) -> Any:
        return self.read().get(key)

    def put(self, key: str, value: Any) -> None:
        new = self.path.with_suffix(".new")
        with new.open("w") as file:
            json.dump({**self.read(), key: value}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path)


class TornJsonStore(JsonStore):
    """Writes over the file, so that a process that dies meanwhile leaves a part of it."""

    def put(self, key: str, value: Any) -> None:
        kept = {**self.read(), key: value}
        with self.path.open("w") as file:
            json.dump(kept, file)
            file.flush()


class UnflushedStore:
    """Adds a line for each value to a file that it keeps open. The lines stay in its buffer."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "kept.jsonl"
        self.file = self.path.open("a")
        self.kept = dict(json.loads(line) for line in self.path.read_text().splitlines())

    def get(self, key: str) -> Any:
        return self.kept.get(key)

    def put(self, key: str, value: Any) -> None:
        self.kept[key] = value
        self.file.write(json.dumps([key, value]) + "\n")


class FakeRedis:
    """A client of a Redis that is in memory. It runs no Lua, but knows the scripts of our docs."""

    def __init__(self) -> None:
        self.texts: Dict[str, bytes] = {}
        self.hashes: Dict[str, Dict[str, bytes]] = {}

    def get(self, key: str) -> Optional[bytes]:
        return self.texts.get(key)

    def set(self, key: str, value: str, **_: object) -> None:
        self.texts[key] = value.encode()

    def hmget(self, name: str, keys: Any) -> Any:
        return [self.hashes.get(name, {}).get(key) for key in keys]

    def register_script(self, text: str) -> Callable[..., int]:
        return self._save_states if "HSET" in text else self._save_state

    def _save_state(self, keys: Any, args: Any) -> int:
        """Do what the script of `celery_redis.py` does."""
        held = json.loads(self.texts.get(keys[0], b"{}")).get("serial", 0)
        if held != int(args[0]) - 1:
            return 0
        self.texts[keys[0]] = args[1].encode()
        return 1

    def _save_states(self, keys: Any, args: Any) -> int:
        """Do what the script of `docs/stores.md` does."""
        states, outcomes, numbers = (self.hashes.setdefault(key, {}) for key in keys)
        held = json.loads(states.get("flowmaestro:header", b"{}")).get("serial", 0)
        if held != int(args[0]) - 1:
            return 0
        for at in range(1, len(args), 5):
            key, state, outcome, execution, number = args[at : at + 5]
            states[key] = state.encode()
            if outcome:
                outcomes[key] = outcome.encode()
            if execution:
                numbers[execution] = str(number).encode()
        return 1


def checkpoint_in(store: Any, key: str) -> Checkpoint:
    """Return a checkpoint in one of these stores, which does not compare."""

    def load() -> Any:
        held = store.get(key)
        return None if held is None else json.loads(held)

    return Checkpoint(load, lambda state: store.put(key, json.dumps(state)), rerun=("failed",))


def compared_in(store: Any, key: str) -> Checkpoint:
    """Return a checkpoint in one of these stores, which compares."""

    def save(state: Any) -> None:
        held = json.loads(store.get(key) or "{}").get("serial", 0)
        if held != state["serial"] - 1:
            raise CheckpointConflict
        store.put(key, json.dumps(state))

    return Checkpoint(lambda: json.loads(store.get(key) or "null"), save, rerun=("failed",))
