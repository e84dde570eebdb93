"""The file of a journal: who may read it, and who may open it after an exception."""

from __future__ import annotations

import gc
import itertools
import os
import stat
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from flowmaestro_core.errors import JournalError
from flowmaestro_transports.driving import journal as module
from flowmaestro_transports.driving.journal import Journal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")


def open_journal(path: Path) -> Journal:
    return Journal(str(path))


def test_mode_of_a_readable_journal_becomes_private(
    tmp_path: Path,
) -> None:
    open_journal(tmp_path / "j").close()
    (tmp_path / "j").chmod(0o644)
    journal = open_journal(tmp_path / "j")
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    journal.close()
    assert modes == dict.fromkeys(["j", "j-shm", "j-wal", "j.lock"], 0o600)


def test_fifo_is_refused_unchanged(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "j", 0o644)
    with pytest.raises(JournalError, match="is not a regular file"):
        open_journal(tmp_path / "j")
    assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o644


class InterruptAt:
    """Raises `KeyboardInterrupt` at one moment of the module, counted from 1, as a signal may."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename != module.__file__:
            return None
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return self


def open_and_close(path: Path, interrupt: InterruptAt) -> None:
    """Open a journal, and be interrupted.

    An exception of a trace function may leave the one that is being handled with its thread, as the
    context of all that is raised there later. So this is for a thread of its own.
    """
    with suppress(KeyboardInterrupt):
        sys.settrace(interrupt)
        try:
            open_journal(path).close()
        finally:
            sys.settrace(None)


def test_interrupt_while_opening_releases_the_journal(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # for what the interrupt left open
        for moment in itertools.count(1):
            interrupt = InterruptAt(moment)
            thread = threading.Thread(target=open_and_close, args=(tmp_path / "j", interrupt))
            thread.start()
            thread.join()
            open_journal(tmp_path / "j").close()
            if interrupt.left > 0:
                break
        gc.collect()
    assert moment > 50
