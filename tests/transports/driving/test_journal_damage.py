"""A damaged journal is refused in one line; it never replays what the server did not send."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowmaestro_core.errors import JournalError
from flowmaestro_core.store import HEADER_KEY
from flowmaestro_transports.driving.journal import Journal
from tests.harness.stores.states import Saves, a_state

Told = Tuple[List[Dict[str, Any]], Dict[str, int], str]


def open_journal(path: Path) -> Journal:
    return Journal(str(path))


def written(path: Path, keys: List[str]) -> bytes:
    """Write a journal of rows in each state; return the content of its file."""
    journal = open_journal(path)
    saves = Saves(journal)
    saves(keyed=keys == NAMES)
    for number, key in enumerate(keys, 1):
        found = {"id": f"ex_{number}", "status": "completed", "outputs": {"total": number * 111}}
        stages = [a_state(key, "starting", number), a_state(key, "started", number)]
        if number % 4:
            stages.append(a_state(key, "ended", number, outcome=found))
        if number % 5 == 0:
            stages.append(a_state(key, "open", number, refusal=f"{number:032x}"))
        saves(*stages[: 1 + number % 7])
    journal.close()
    return path.read_bytes()


def told(path: Path, keys: List[str]) -> Optional[Told]:
    """Return what the journal tells, or `None` if it is refused in one line that names it."""
    try:
        journal = open_journal(path)
        try:
            ids = [f"ex_{number}" for number in range(len(keys) + 2)]
            (header,) = journal.load([HEADER_KEY], False)
            states = [state for key in keys for state in journal.load([key], True)]
            return states, journal.known(ids), header["token"]
        finally:
            journal.close()
    except JournalError as error:
        said = str(error)
        assert str(path) in said
        assert "\n" not in said
        assert len(said) < 500
        assert said.isprintable()
        return None


class Corruptions:
    """Corrupts single bytes of one journal, and compares what it tells with the truth."""

    def __init__(self, folder: Path, keys: List[str]) -> None:
        self.path, self.keys = folder / "j", keys
        self.content = written(self.path, keys)
        self.truth = told(self.path, keys)
        assert self.truth is not None
        self.content = self.path.read_bytes()

    def check(self, place: int, mask: int) -> bool:
        """Return whether the damage was found; it must be found or harmless."""
        for part in ("-wal", "-shm"):
            self.path.with_name(f"j{part}").unlink(missing_ok=True)
        content = bytearray(self.content)
        content[place] ^= mask
        self.path.write_bytes(content)
        answer = told(self.path, self.keys)
        if answer is None:
            return True
        assert self.truth is not None
        # A start that cannot be found by its execution's id is settled through the list.
        known = {name: number for name, number in self.truth[1].items() if name in answer[1]}
        assert answer == (self.truth[0], known, self.truth[2]), (place, mask)
        return False


INDEXES: List[str] = list(map(str, range(40)))
NAMES: List[str] = [f"order-{number:04d}" for number in range(40)]


@pytest.fixture(scope="module", params=["index", "key"])
def corruptions(request: Any, tmp_path_factory: Any) -> Corruptions:
    folder = tmp_path_factory.mktemp("journal")
    if request.param == "index":
        return Corruptions(folder, INDEXES)
    return Corruptions(folder, NAMES)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_changed_byte_is_refused_or_harmless(
    corruptions: Corruptions, place: float, mask: int
) -> None:
    corruptions.check(int(place * len(corruptions.content)), mask)


def test_most_changes_of_a_stored_row_are_found(corruptions: Corruptions) -> None:
    """The property would hold for a journal that ignores what it holds; this one reads it."""
    at = [
        place
        for place in range(len(corruptions.content))
        if corruptions.content.startswith((b'"total":', b"ex_", b"order-0"), place)
    ]
    drawn = random.Random(7).sample(at, 40)
    assert sum(corruptions.check(place + 2, 1) for place in drawn) >= 30


def test_changed_output_is_named_as_damage(tmp_path: Path) -> None:
    content = written(tmp_path / "j", INDEXES)
    (tmp_path / "j").write_bytes(content.replace(b'"total":222}', b'"total":223}'))
    with pytest.raises(JournalError) as caught, closing(open_journal(tmp_path / "j")) as journal:
        journal.load(INDEXES, True)
    assert str(caught.value).endswith(
        "j is damaged: an execution; a new journal, or an older copy, would start rows again"
    )
    assert caught.value.code == "journal_unusable"


@pytest.mark.parametrize(
    "change",
    [
        # A changed number of its start would turn an ended row into one that runs.
        "start = 0",
        # A record whose header has the length 0 has only NULLs: its row would count as running.
        "execution = NULL, checksum = NULL",
    ],
)
def test_execution_that_is_empty_or_has_no_start_is_named_as_damage(
    tmp_path: Path, change: str
) -> None:
    path = tmp_path / "j"
    written(path, INDEXES[1:9])
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"UPDATE ended SET {change} WHERE start = (SELECT min(start) FROM ended)")
    with pytest.raises(
        JournalError, match="is damaged: an execution that is empty or has no start"
    ):
        open_journal(path)


def test_text_that_is_not_utf_8_is_not_shown_by_the_error(tmp_path: Path) -> None:
    content = written(tmp_path / "j", INDEXES)
    (tmp_path / "j").write_bytes(content.replace(b'"total":222}', b'"total":\xff22}'))
    with pytest.raises(JournalError) as caught, closing(open_journal(tmp_path / "j")) as journal:
        journal.load(INDEXES, True)
    assert "is damaged: a text in it is not UTF-8" in str(caught.value)
    assert "total" not in str(caught.value)


@pytest.mark.parametrize(("stored", "shown"), [(b"FMJ4", "4"), (b"FMJ1", "1"), (b"FMJ9", "9")])
def test_another_format_is_refused_in_one_line(tmp_path: Path, stored: bytes, shown: str) -> None:
    db = sqlite3.connect(tmp_path / "j")
    db.execute(f"PRAGMA application_id = {int.from_bytes(stored, 'big')}")
    db.execute("CREATE TABLE header (name TEXT PRIMARY KEY, value) WITHOUT ROWID")
    db.close()
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(JournalError) as caught:
        open_journal(tmp_path / "j")
    assert f"has format {shown}, and this version of the SDK reads format 5; " in str(caught.value)
    assert caught.value.code == "journal_unusable"
    assert "\n" not in str(caught.value)
    assert (tmp_path / "j").read_bytes() == before
