"""Who may read what lies where a journal is to be."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from flowmaestro_core.errors import JournalError
from flowmaestro_core.records import JournalPlan
from flowmaestro_transports.driving.journal import Journal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")


def open_journal(path: Path) -> Journal:
    return Journal(JournalPlan(path, "wf_1"), "https://api.test", time.time, "token")


def test_a_journal_that_others_could_read_is_closed_to_them_with_all_its_parts(
    tmp_path: Path,
) -> None:
    open_journal(tmp_path / "j").close()
    (tmp_path / "j").chmod(0o644)
    journal = open_journal(tmp_path / "j")
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    journal.close()
    assert modes == dict.fromkeys(["j", "j-shm", "j-wal", "j.lock"], 0o600)


def test_what_is_no_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "j", 0o644)
    with pytest.raises(JournalError, match="is no file"):
        open_journal(tmp_path / "j")
    assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o644
