"""A batch and a run, killed at some of their system calls; the session `syscalls` tries all."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.harness.syscalls.every_call import tried

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="LD_PRELOAD and a C compiler"
)


def test_each_row_is_started_once_in_spite_of_kills_and_failing_calls(tmp_path: Path) -> None:
    assert tried(tmp_path, step=30)
