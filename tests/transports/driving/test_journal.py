"""The journal of a batch, on disk: what it refuses, what it survives, and what it tells."""

import os
import shutil
import sqlite3
import stat
import sys
import tempfile
from contextlib import closing, contextmanager, suppress

import anyio
import pytest

from flowmaestro import (
    AsyncFlowMaestroClient,
    FlowMaestroClient,
    JournalError,
)
from flowmaestro.testing import AsyncMemoryTransport, FakeFlowMaestro, MemoryTransport
from flowmaestro_core.errors import CheckpointConflict
from flowmaestro_core.store import HEADER_KEY
from flowmaestro_transports.driving import journal as journal_module
from flowmaestro_transports.driving import runs
from flowmaestro_transports.driving.journal import Journal
from tests.harness.stores.states import Saves, a_header, a_state, by_key

ROWS = [{"n": number} for number in range(12)]
posix = pytest.mark.skipif(sys.platform == "win32", reason="of POSIX")


@pytest.fixture
def fake(request):
    fake = FakeFlowMaestro(getattr(request, "param", "deployed"))
    fake.workflow("wf_mine", outputs=dict)
    return fake


@pytest.fixture
def client(fake):
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        yield client


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.sqlite3"


@pytest.fixture
def run(client, path):
    def run(rows=ROWS, journal=path, **more):
        return client.workflows.run_many("wf_mine", rows, journal=journal, **more)

    return run


def left_in_the_middle(runs, after=4):
    with runs:
        return [next(runs) for _ in range(after)]


def ledger(fake):
    return sorted(execution.inputs["n"] for execution in fake.executions)


@pytest.mark.parametrize("kind", [list, iter])
def test_same_call_resumes_the_batch(run, fake, kind):
    first = left_in_the_middle(run(kind(ROWS)))
    outcomes = list(run(kind(ROWS)))
    assert {it.index for it in outcomes if it.replayed} >= {it.index for it in first}
    assert sorted(it.outputs["n"] for it in outcomes) == list(range(12))
    assert ledger(fake) == list(range(12))
    assert all(it.replayed for it in run(kind(ROWS)))


def test_repr_of_a_replayed_execution_redacts_secrets(run, fake):
    fake.workflow("wf_mine", outputs={"password": "hunter2"})
    shown = {repr(outcome.execution) for _ in range(2) for outcome in run(ROWS[:1])}
    assert len(shown) == 1
    assert "hunter2" not in shown.pop()


def test_async_client_resumes_the_batch(fake, path):
    async def main():
        transport = AsyncMemoryTransport(fake)
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            async with client.workflows.run_many("wf_mine", ROWS, journal=path) as runs:
                await runs.__anext__()
                assert len(runs) == 12
            assert all(it.execution_id for it in runs.in_flight)
            runs = client.workflows.run_many("wf_mine", ROWS, journal=path)
            return [it async for it in runs]

    outcomes = anyio.run(main)
    assert len(outcomes) == 12
    assert ledger(fake) == list(range(12))


def test_dropped_async_handle_releases_the_journal(fake, path):
    async def main():
        transport = AsyncMemoryTransport(fake)
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            for _ in range(2):
                runs = client.workflows.run_many("wf_mine", ROWS, journal=path)
                await runs.__anext__()
                del runs

    anyio.run(main)


def test_journal_is_readable_by_its_owner_only(run, path):
    with run() as runs:
        next(runs)
        for name in os.listdir(path.parent):
            assert stat.S_IMODE(os.stat(path.parent / name).st_mode) == 0o600, name
    assert sorted(os.listdir(path.parent)) == ["runs.sqlite3", "runs.sqlite3.lock"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no database at all, but long enough" * 9, "not a database"), ("other", "is not a journal")],
)
def test_file_that_is_not_a_journal_is_refused_unchanged(run, fake, path, content, reason):
    if content == "other":
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE t (x)")
        db.close()
        content = path.read_bytes()
    path.write_bytes(content)
    before = path.stat()
    with pytest.raises(JournalError, match=reason) as caught:
        run()
    assert caught.value.code == "journal_unusable"
    assert (path.read_bytes(), path.stat().st_mode) == (content, before.st_mode)
    assert fake.requests == []


def as_killed(run, path, folder, parts):
    """Leave a batch in the middle. Copy these files of its journal, as a `kill -9` leaves them."""
    folder.mkdir()
    with run() as runs:
        next(runs)
        for part in parts:
            shutil.copy(f"{path}{part}", folder)
    return folder / path.name


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("calls", [1, 2])
def test_journal_without_its_wal_file_is_refused(run, fake, path, calls, empty):
    """As after the file was mounted by itself, or `-wal` was deleted. No row is started."""
    for _ in range(calls - 1):
        left_in_the_middle(run())
    lone = as_killed(run, path, path.parent / "alone", [""])
    if empty:  # A program that reads the file makes an empty one, and may be killed.
        lone.with_name(f"{path.name}-wal").touch()
    begun = len(fake.requests)
    for _ in range(2):
        with pytest.raises(JournalError, match="has lost its last records") as caught:
            run(journal=lone)
        assert caught.value.code == "journal_unusable"
        assert f"{lone}-wal is missing" in str(caught.value)
    assert len(fake.requests) == begun


def test_wal_file_that_is_put_back_is_used(run, fake, path):
    lone = as_killed(run, path, path.parent / "alone", [""])
    with pytest.raises(JournalError, match="has lost its last records"):
        run(journal=lone)
    lone.unlink()
    whole = as_killed(run, path, path.parent / "whole", ["", "-wal"])
    shutil.copy(f"{whole}-wal", lone.parent)
    shutil.copy(whole, lone)
    assert all(it.ok for it in run(journal=lone))
    assert ledger(fake) == list(range(12))


@pytest.mark.parametrize("pages", [1000, 1])
def test_killed_journal_that_another_program_has_read_is_resumed(
    run, fake, path, pages, monkeypatch
):
    """The program is the last to close the journal, so SQLite removes the `-wal` file."""
    monkeypatch.setattr(journal_module, "_PAGES", pages)
    killed = as_killed(run, path, path.parent / "killed", ["", "-wal"])
    with closing(sqlite3.connect(killed)) as db:
        assert db.execute("SELECT count(*) FROM rows").fetchone()[0] >= 1
    assert not os.path.exists(f"{killed}-wal")
    assert all(it.ok for it in run(journal=killed))
    assert ledger(fake) == list(range(12))


def test_journal_that_was_read_after_a_kill_between_its_marks_has_a_remedy(run, fake, path):
    """It is whole, but looks as if `-wal` was lost; `docs/batches.md` has the command."""
    killed = as_killed(run, path, path.parent / "killed", ["", "-wal"])
    with closing(sqlite3.connect(killed)) as db:
        db.execute("PRAGMA user_version = 1")
    with pytest.raises(JournalError, match="has lost its last records"):
        run(journal=killed)
    with closing(sqlite3.connect(killed)) as db:
        db.execute("PRAGMA user_version = 2")
    assert all(it.ok for it in run(journal=killed))
    assert ledger(fake) == list(range(12))


def test_wal_file_does_not_grow_with_the_batch(path):
    journal = Journal(str(path))
    saves = Saves(journal)
    for number in range(1, 3000):
        saves(a_state("0", "ended", number, outcome={"text": "x" * 4000}))
    assert os.path.getsize(f"{path}-wal") < 10_000_000 < os.path.getsize(path)
    journal.close()


@contextmanager
def as_nobody():
    """Without the rights of root, to whom nothing is read-only."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


@posix
@pytest.mark.parametrize("kept", [False, True])
def test_a_folder_that_cannot_be_written_is_refused(client, fake, kept):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "runs.sqlite3")
        if kept:
            with client.workflows.run_many("wf_mine", ROWS, journal=path) as runs:
                next(runs)
            for name in os.listdir(folder):
                os.chmod(os.path.join(folder, name), 0o666)
        os.chmod(folder, 0o555)
        begun = len(fake.requests)
        with as_nobody(), pytest.raises(JournalError, match=f"{path} cannot be used: ") as caught:
            client.workflows.run_many("wf_mine", ROWS, journal=path)
        os.chmod(folder, 0o700)
        assert caught.value.code == "journal_unusable"
        assert len(fake.requests) == begun


def test_missing_folder_and_folder_as_journal_are_refused(client, fake, tmp_path):
    for where in (tmp_path / "no" / "j", tmp_path):
        with pytest.raises(JournalError, match="cannot be used"):
            client.workflows.run_many("wf_123", ROWS, journal=where)
    assert fake.requests == []


@contextmanager
def room_for(most):
    """No file may become larger, as on a disk that is nearly full."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@posix
@pytest.mark.parametrize("most", [0, *range(10_000, 60_000, 10_000)])
def test_a_full_disk_ends_the_batch_and_loses_nothing(run, fake, most):
    outcomes = []
    once = r"^\[\w+\] The journal /.+ cannot be used: "  # The error of the file, not wrapped again.
    with room_for(most), pytest.raises(JournalError, match=once) as caught:
        outcomes.extend(run())
    assert caught.value.code == "journal_unusable"
    assert str(caught.value).endswith("make the same call again")
    if most == 0:
        assert fake.requests == []
    again = list(run())
    assert {it.index for it in again if it.replayed} >= {it.index for it in outcomes}
    assert all(it.ok for it in again)
    assert ledger(fake) == list(range(12))


def test_a_start_is_durable_before_it_goes_out(path):
    """The level is that of the connection when the transaction is committed."""
    journal = Journal(str(path))
    saves = Saves(journal)
    for state, level in (("starting", 2), ("started", 1)):
        saves(a_state("0", state))
        assert journal._db.execute("PRAGMA synchronous").fetchone() == (level,)
    assert journal._db.execute("PRAGMA fullfsync").fetchone() == (1,)
    journal.close()
    journal.close()


def test_states_are_there_after_reopening(path):
    journal = Journal(str(path))
    saves = Saves(journal)
    states = [
        a_state("0", "starting", 1),
        a_state("b", "ended", 2, outcome={"x": "\ud800"}),
        a_state("\u00e9\0", "started", 3, reruns=7),
        a_state("d", "open", 9, refusal="ab" * 16),
    ]
    saves(*(a_state(it["key"], "starting", it["number"] or 9) for it in states))
    saves(a_state("d", "started", 9), last_number=9)
    saves(*states, after="ex_0")
    journal.close()
    again = Journal(str(path))
    keys = [*(it["key"] for it in states), HEADER_KEY, "unknown"]
    wanted = by_key([a_header(3, after="ex_0"), *states])
    assert by_key(again.load(keys, True)) == wanted
    del wanted["b"]["outcome"]
    assert by_key(again.load(keys, False)) == wanted
    assert again.known(["ex_2", "ex_9", "no"]) == {"ex_2": 2, "ex_9": 9}
    again.close()


def test_save_with_another_serial_keeps_nothing(path):
    with closing(Journal(str(path))) as journal:
        for serial in (2, 1, 1, 3):
            with suppress(CheckpointConflict):
                journal.save([a_header(serial), a_state(str(serial), "starting")])
        (header,) = journal.load([HEADER_KEY], False)
        assert header["serial"] == 1
        assert [it["key"] for it in journal.load(["1", "2", "3"], False)] == ["1"]


def test_outcomes_beyond_the_limit_are_neither_loaded_nor_fetched(path, monkeypatch):
    monkeypatch.setattr(journal_module, "MAX_OUTCOMES_SIZE", 100)
    fetched = []

    def text(raw):
        fetched.append(len(raw))
        return raw.decode()

    keys = [str(n) for n in range(1, 50)]
    with closing(Journal(str(path))) as journal:
        large = {"text": "x" * 200}
        Saves(journal)(*(a_state(key, "ended", int(key), outcome=large) for key in keys))
        journal._db.text_factory = text
        loaded = {it["key"]: it.get("outcome") for it in journal.load(keys, True)}
    assert loaded == {**dict.fromkeys(keys), "1": large}
    # Before Python 3.11, `sqlite3` fetches a row ahead.
    assert sum(size > 200 for size in fetched) <= 2


@pytest.mark.parametrize("step", ["_listener", "deque"])
def test_error_before_the_handle_is_complete_releases_the_journal(
    run, fake, client, path, monkeypatch, step
):
    class Stray(BaseException):
        """As a signal handler raises it."""

    def interrupted(*_args, **_options):
        raise Stray

    with monkeypatch.context() as patched:
        patched.setattr(runs, step, interrupted)
        with pytest.raises(Stray) as held:  # Its traceback keeps the journal from collection.
            client.workflows.run_many("wf_mine", ROWS, journal=path)
    assert len(list(run())) == len(ROWS)
    assert held.tb is not None
