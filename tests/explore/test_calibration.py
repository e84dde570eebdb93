"""Known double starts are found again, once their mends are taken out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.explore.calibration import MISTAKES, chosen, find
from tests.harness.mutants import Copy

pytestmark = pytest.mark.no_cover


def test_mend_of_each_mistake_is_in_todays_code() -> None:
    for mistake in MISTAKES:
        assert all(edit.mutant().text == edit.new for edit in mistake.edits)


@pytest.mark.parametrize("name", ["found-and-started", "nameless"])
def test_mistake_is_found_again(name: str, tmp_path: Path) -> None:
    (mistake,) = chosen([name])
    assert "NOT AS SAID" not in find(Copy(tmp_path), mistake)
