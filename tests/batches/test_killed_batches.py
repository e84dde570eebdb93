"""A batch that is killed goes on: each row exactly once, over a real socket, with faults."""

from __future__ import annotations

import sys

import pytest

from tests.harness.batches.dying_batch import killed_and_finished

ROWS = 24
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is for POSIX")


@pytest.mark.parametrize("seed", [1, 2])
def test_each_row_is_started_once_and_ends(seed, tmp_path):
    killed_and_finished(seed, ROWS, tmp_path)


def test_with_the_key_of_another_workspace_the_rows_in_doubt_stay_unknown(tmp_path):
    outcomes = killed_and_finished(3, ROWS, tmp_path, hides=True)
    errors = [error for _, ok, error in outcomes if not ok]
    assert errors
    assert all("StartUnknownError" in error for error in errors)
