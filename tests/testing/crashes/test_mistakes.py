"""Sixteen tasks, each with one mistake: every one is found, with the word for it."""

from __future__ import annotations

from typing import List

import pytest

from flowmaestro.testing import every_crash
from tests.harness.crashes.mistakes import MISTAKES, Mistake


@pytest.mark.parametrize("mistake", MISTAKES, ids=[it.task.__name__ for it in MISTAKES])
def test_a_mistake_is_found_with_its_word_and_its_line(
    mistake: Mistake, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops: List[str] = []
    monkeypatch.setattr("sys.breakpointhook", lambda: stops.append("here"))
    report = every_crash(mistake.task, **mistake.options, deaths=1)
    first = report.findings[0]
    assert (first.mistake, first.deaths) == (mistake.word, mistake.deaths)
    assert ("mistakes.py:" in first.place or "stores.py:" in first.place) == (mistake.deaths > 0)
    with pytest.raises(AssertionError, match="replay: "):
        report.check()
    again = every_crash(mistake.task, **mistake.options, deaths=1, replay=first.replay)
    assert [it.what for it in again.findings][:1] == [first.what]
    assert len(stops) == mistake.deaths
