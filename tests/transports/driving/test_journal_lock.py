"""One journal has one batch at a time, whatever the name that it is opened under."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Tuple

import pytest

from flowmaestro_core.errors import JournalError
from flowmaestro_transports.driving import journal
from flowmaestro_transports.driving.journal import Journal
from flowmaestro_transports.primitives import file_lock as module
from tests.harness.stores.states import Saves, a_state

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and locks of POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="open file description locks")


def open_journal(path: Path) -> Journal:
    return Journal(str(path))


def run(program: str, *options: str, check: bool = True) -> Tuple[str, str]:
    """Run a program in another process; return what it writes on both outputs."""
    command = [sys.executable, *options, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=check)
    return done.stdout, done.stderr


def open_elsewhere(path: Path) -> str:
    """Open a journal in another process; return the last line of its error."""
    program = f"""
        from flowmaestro_transports.driving.journal import Journal
        Journal({str(path)!r})
    """
    return run(program, check=False)[1].splitlines()[-1]


def rows_seen_elsewhere(path: Path) -> str:
    """Read a journal in another process, as any program may; return its number of rows."""
    return run(f"""
        import contextlib, sqlite3
        with contextlib.closing(sqlite3.connect({str(path)!r})) as database:
            print(*database.execute("SELECT count(*) FROM rows").fetchone())
    """)[0].strip()


def refused(path: Path) -> JournalError:
    with pytest.raises(JournalError) as caught:
        open_journal(path)
    assert caught.value.code == "journal_busy"
    assert "\n" not in str(caught.value)
    return caught.value


def test_symlink_to_an_open_journal_is_busy(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    link = tmp_path / "other" / "link"
    link.symlink_to(tmp_path / "j")
    first = open_journal(tmp_path / "j")
    assert str(link) in str(refused(link))
    assert "journal_busy" in open_elsewhere(link)
    first.close()
    open_journal(link).close()
    assert [it.name for it in link.parent.iterdir()] == ["link"]


@pytest.mark.parametrize("is_open", [False, True])
def test_hard_link_is_busy(tmp_path: Path, is_open: bool) -> None:
    first = open_journal(tmp_path / "j")
    if not is_open:
        first.close()
    os.link(tmp_path / "j", tmp_path / "k")
    assert "a hard link" in str(refused(tmp_path / "k"))
    assert "journal_busy" in open_elsewhere(tmp_path / "k")
    first.close()
    (tmp_path / "k").unlink()
    open_journal(tmp_path / "j").close()


@linux
def test_refused_hard_link_takes_no_lock_from_the_batch_of_the_same_process(
    tmp_path: Path,
) -> None:
    """Without these locks, a program that reads the journal would remove its `-wal` file."""
    first = open_journal(tmp_path / "j")
    saves = Saves(first)
    saves(a_state("0", "starting", 1))
    os.link(tmp_path / "j", tmp_path / "k")
    refused(tmp_path / "k")
    (tmp_path / "k").unlink()
    assert rows_seen_elsewhere(tmp_path / "j") == "1"
    saves(a_state("1", "starting", 2))
    assert rows_seen_elsewhere(tmp_path / "j") == "2"
    first.close()


@linux
def test_removed_lock_file_lets_no_second_batch_in(tmp_path: Path) -> None:
    first = open_journal(tmp_path / "j")
    (tmp_path / "j.lock").unlink()
    assert "journal_busy" in open_elsewhere(tmp_path / "j")
    refused(tmp_path / "j")
    Saves(first)(a_state("0", "starting"))
    first.close()
    again = open_journal(tmp_path / "j")
    assert again.load(["0"], False) == [a_state("0", "starting")]
    again.close()


@linux
def test_refused_journal_is_closed_when_the_process_ends(tmp_path: Path) -> None:
    """Closing it earlier would remove the locks of the first batch."""
    said = run(
        f"""
        import os
        from flowmaestro_core.errors import JournalError
        from flowmaestro_transports.driving.journal import Journal

        def open_journal():
            return Journal({str(tmp_path / "j")!r})

        first = open_journal()
        os.unlink({str(tmp_path / "j.lock")!r})
        try:
            open_journal()
        except JournalError as error:
            print(error.code)
        first.close()
    """,
        "-Walways::ResourceWarning",
    )
    assert said == ("journal_busy\n", "")


def test_batch_that_is_open_when_the_program_ends_writes_nothing_to_standard_error(
    tmp_path: Path,
) -> None:
    """Its handle is collected when nothing can be imported any more."""
    said = run(f"""
        from flowmaestro import FlowMaestroClient
        from flowmaestro_core.http.messages import Headers, Response

        ENDED = b'{{"data": {{"execution_id": "e1", "id": "e1", "status": "completed"}}}}'
        response = Response(202, Headers(), ENDED)
        client = FlowMaestroClient("fm_live_x", transport=lambda request: response)
        rows = [{{"n": n}} for n in range(4)]
        outcomes = client.workflows.run_many("wf_123", rows, journal={str(tmp_path / "j")!r})
        next(outcomes)
    """)
    assert said == ("", "")


def test_lock_file_that_is_replaced_while_it_is_opened_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another batch removes the lock file after this one has opened it, and makes its own."""
    opened_as, opened = module.open_file, []

    def open_and_replace(path: str) -> object:
        file = opened_as(path)
        if path.endswith(".lock") and not opened:
            opened.append(path)
            os.unlink(path)
        return file

    monkeypatch.setattr(module, "open_file", open_and_replace)
    path = str(tmp_path / "j.lock")
    # Not by a journal, which has a second lock on Linux.
    with module.open_lock_file(path), pytest.raises(BlockingIOError):
        module.open_lock_file(path)
    assert opened == [path]


@linux
def test_journal_that_is_replaced_while_it_is_opened_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_and_remove(path: str) -> object:
        file = module.open_file(path)
        os.unlink(path)
        return file

    monkeypatch.setattr(journal, "open_file", open_and_remove)
    refused(tmp_path / "j")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_child_that_is_forked_during_a_batch_neither_unlocks_the_journal_nor_keeps_it_locked(
    tmp_path: Path,
) -> None:
    """One child drops the journal, the other one keeps it."""
    said = run(f"""
        import gc, os
        from flowmaestro_core.errors import JournalError
        from flowmaestro_transports.driving.journal import Journal

        def open_journal():
            return Journal({str(tmp_path / "j")!r})

        first = open_journal()
        collected, to_parent = os.pipe()
        over, to_child = os.pipe()
        for is_dropped in (True, False):
            if not os.fork():
                os.close(to_child)
                if is_dropped:
                    first.close()
                    del first
                    gc.collect()
                    os.write(to_parent, b"!")
                os.read(over, 1)
                os._exit(0)
        os.close(over)
        os.read(collected, 1)
        try:
            open_journal()
        except JournalError as error:
            print(error.code)
        first.close()
        open_journal().close()
        print("opened")
    """)
    assert said == ("journal_busy\nopened\n", "")
