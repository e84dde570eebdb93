"""The SQLite journal passes what `check_store` asks of a user's store."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Dict, List, Mapping, Sequence, Tuple

import pytest

from flowmaestro.testing import check_store
from flowmaestro_transports.driving.journal import Journal
from tests.harness.stores.states import Saves, a_header, a_state


class Shared:
    """A journal that stays open until another store of its name is used: it has a lock."""

    lock = threading.Lock()
    open: ClassVar[Dict[str, Tuple[Any, Journal]]] = {}

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def _journal(self) -> Journal:
        owner, journal = self.open.get(self._path, (None, None))
        if journal is None or owner is not self:
            if journal is not None:
                journal.close()
            journal = Journal(self._path)
            self.open[self._path] = self, journal
        return journal

    def load(self, keys: Sequence[str], outcomes: bool) -> List[Dict[str, Any]]:
        with self.lock:
            states = self._journal().load(keys, outcomes)
        # A journal has columns for what this version saves, and its format has a number.
        return [{"added later": {"é": 1}, **state} for state in states]

    def save(self, states: List[Dict[str, Any]]) -> None:
        with self.lock:
            self._journal().save(states)

    def known(self, execution_ids: Sequence[str]) -> Mapping[str, int]:
        with self.lock:
            return self._journal().known(execution_ids)


def test_journal_passes_the_checks_of_stores(tmp_path: Path) -> None:
    try:
        check_store(lambda name: Shared(tmp_path / name))
    finally:
        for _, journal in Shared.open.values():
            journal.close()


def test_state_that_repeats_what_the_file_has_writes_only_the_rest(tmp_path: Path) -> None:
    with closing(Journal(str(tmp_path / "j"))) as journal:
        saves = Saves(journal)
        written: List[str] = []
        saves()
        opened: Any = journal
        opened._db.set_trace_callback(written.append)
        for state in ("starting", "started", "ended"):
            saves(a_state("0", state))
        tables = [sql.split()[2] for sql in written if sql.startswith("INSERT")]
    assert tables == ["rows", "started", "ended"]


def test_row_is_written_again_after_a_save_that_failed(tmp_path: Path) -> None:
    with closing(Journal(str(tmp_path / "j"))) as journal:
        journal.save([a_header(1)])
        journal.save([a_header(2), a_state("0", "starting")])
        broken = a_state("1", "starting", 2, digest="not hexadecimal")
        with pytest.raises(ValueError, match="hexadecimal"):
            journal.save([a_header(3), a_state("0", "started"), broken])
        journal.save([a_header(3), a_state("0", "ended")])
        assert journal.load(["0"], True) == [a_state("0", "ended")]
