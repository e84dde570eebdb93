"""The bar of `map`: done and total are always on it, the rest as far as it fits."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest

from flowmaestro.cli import map as map_command
from flowmaestro.cli.console import Console
from flowmaestro_core.executions.outcome import BatchProgress
from tests.harness.terminal import Terminal


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(map_command, "time", clock)
    return clock


@pytest.fixture
def draw(monkeypatch, clock):
    """Draws the bar of a batch in a terminal of some columns."""

    def draw(columns, *views):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        out = Terminal()
        view = map_command._LiveView(500, 60.0, Console(out))
        for at in views:
            view.update(at)
        view.screen.terminal.print(view._bar())
        (line,) = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
        return view, line

    return draw


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
@pytest.mark.parametrize(
    "at", [BatchProgress(120, 3, 10, 500, 160.0), BatchProgress(0, 0, 0, 500, None)]
)
def test_done_and_total_are_visible_at_every_width(draw, columns, at):
    _, line = draw(columns, at)
    assert f" {at.done}/500 " in line
    assert len(line.rstrip()) <= columns - 2


def test_the_time_left_is_in_minutes_and_seconds(draw):
    _, line = draw(80, BatchProgress(120, 3, 10, 500, 160.4))
    assert line.endswith(" 120/500 3 failed, 10 running, 2 m 40 s left")


def test_the_wait_for_rows_in_doubt_counts_down(draw, clock):
    at = BatchProgress(480, 0, 0, 500, None, 20)
    view, line = draw(80, at)
    assert line.endswith("0 failed, 20 may have been started, looking in 1 m 00 s")
    clock.now += 18
    assert view._parts()[-1] == "20 may have been started, looking in 42 s"
    request = SimpleNamespace(method="POST")
    view.responded(SimpleNamespace(request=request, status=None))
    assert view._parts()[-1] == "20 may have been started, looking in 1 m 00 s"
    view.responded(SimpleNamespace(request=request, status=202))
    clock.now += 60
    assert view._parts()[-1] == "20 may have been started, looking"


def test_rows_that_were_done_before_are_said_once_above_the_bar(draw):
    view, _ = draw(80)
    for done in range(1, 4):
        view.update(BatchProgress(done, 0, 5, 500, None))
        view.delivered(replayed=done < 3)
    said = view.screen._out._out.getvalue()
    assert said.count("2 rows were done before, 498 to go") == 1


def test_after_ctrl_c_the_bar_has_the_figure_of_the_message(draw):
    view, _ = draw(80, BatchProgress(120, 3, 10, 500, 160.0))
    view.stop(9)
    assert view._parts() == ["3 failed", "9 running"]


def test_a_day_that_will_not_suffice_is_said_once(monkeypatch, clock):
    out = io.StringIO()
    view = map_command._View(500, 60.0, Console(out))
    for done in (120, 121):
        view.update(BatchProgress(done, 0, 8, 500, 60.0, day_ends_after=312))
    assert out.getvalue().count("are used up after about 310 of 500 rows at this rate\n") == 1
