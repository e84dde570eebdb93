"""The live picture of an execution: it fits the terminal and shows what runs now."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from flowmaestro.cli import run_view
from flowmaestro.cli.console import FRAMES_PER_SECOND, Console
from flowmaestro.cli.run_view import LiveRunView, in_short
from tests.harness.terminal import Terminal


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(run_view, "time", clock)
    return clock


@pytest.fixture
def make(monkeypatch, clock):
    def make(columns=80, rows=24, encoding="utf-8", **environment):
        for name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name, raising=False)
        sizes = {"COLUMNS": str(columns), "LINES": str(rows), "TERM": "xterm"}
        for name, value in {**sizes, **environment}.items():
            monkeypatch.setenv(name, value)
        view = LiveRunView(Console(Terminal(encoding)))
        view.workflow, view.execution_id = "Nightly report", "0fa11000-0000-4000-8000-000000000001"
        view.began = clock.now
        view._live.refresh = lambda: None
        return view

    return make


def picture(view, colors=False):
    """The lines that are drawn now."""
    out = view.screen.terminal.file._out
    out.seek(0)
    out.truncate()
    view.screen.terminal.print(view._picture())
    text = out.getvalue()
    return (text if colors else re.sub(r"\x1b\[[0-9;]*m", "", text)).splitlines()


def run_nodes(view, done, running=1, failed=0):
    """Send the events of nodes: first those that have ended."""
    for number in range(done + failed + running):
        what = {"node_id": f"n{number}", "node_name": f"Step {number}"}
        view.show({"type": "node:started", **what})
        if number < done:
            view.show({"type": "node:completed", "duration_ms": 300, **what})
        elif number < done + failed:
            view.show({"type": "node:failed", "duration_ms": 300, "error": "declined", **what})
    percentage = {"progress": 100 * done / (done + failed + running)}
    view.show({"type": "execution:started"})
    view.show({"type": "execution:progress", **percentage})


def test_a_short_run_shows_each_node_the_name_and_the_per_cent(make, clock):
    view = make()
    run_nodes(view, done=1)
    clock.now += 2.5
    assert picture(view) == [
        "Nightly report  running  50 %  2.50 s",
        "execution 0fa11000-0000-4000-8000-000000000001",
        "  ✓ Step 0  0.30 s",
        "  ● Step 1  2.50 s",
        "  ━━━━━━━━━━━━━━━━━━━━╺━━━━━━━━━━━━━━━━━━━",
    ]


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40), (40, 12), (200, 8)])
@pytest.mark.parametrize(
    ("done", "running", "failed"), [(60, 1, 0), (38, 5, 2), (0, 60, 0), (10, 30, 30), (3, 0, 0)]
)
def test_any_run_fits_and_shows_what_runs_and_the_bar(make, columns, rows, done, running, failed):
    view = make(columns, rows)
    run_nodes(view, done, running, failed)
    lines = picture(view)
    assert len(lines) < rows
    assert max(map(len, lines)) <= columns - 2
    assert "━" in lines[-1]
    assert sum("●" in line for line in lines) >= min(running, 1)
    assert sum("✗" in line for line in lines) >= min(failed, 1)


@pytest.mark.parametrize("rows", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("done", "running", "failed"), [(3, 3, 0), (1, 2, 2), (3, 2, 0), (0, 0, 9)]
)
def test_nodes_take_no_more_rows_than_there_are(make, rows, done, running, failed):
    view = make()
    run_nodes(view, done, running, failed)
    lines = ["".join(part if isinstance(part, str) else part[0] for part in parts)
             for parts in view._shown(rows)]  # fmt: skip
    assert len(lines) == min(rows, done + running + failed)
    told = sum("Step" in line for line in lines)
    told += sum(int(line.split()[1]) for line in lines if line.endswith((" done", " more")))
    assert told == done + running + failed
    assert any("Step" in line and ("●" if running else "✗") in line for line in lines)


def test_ended_nodes_are_folded_into_a_count(make):
    view = make(80, 12)
    run_nodes(view, done=60)
    lines = picture(view)
    assert lines[2] == "  ✓ 54 done"
    assert lines[3:-2] == [f"  ✓ Step {number}  0.30 s" for number in range(54, 60)]
    assert lines[-2].startswith("  ● Step 60")


def test_a_failed_node_stays_when_the_run_has_ended(make):
    view = make(80, 10)
    run_nodes(view, done=40, running=0, failed=1)
    view.show({"type": "execution:failed", "error": "declined"})
    assert "  ✗ Step 40  0.30 s  declined" in picture(view)


def test_a_node_whose_start_was_missed_has_no_duration(make):
    view = make()
    view.show({"type": "node:failed", "node_id": "a", "node_name": "Pay", "error": "declined"})
    assert picture(view)[2] == "  ✗ Pay  declined"


@pytest.mark.parametrize("columns", [20, 40])
def test_long_texts_are_cut_and_never_wrapped(make, columns):
    view = make(columns)
    view.workflow = "日本語" * 50
    view.show({"type": "node:started", "node_id": "a", "node_name": "x" * 300})
    lines = picture(view)
    assert len(lines) == 3
    assert lines[0].split()[0].endswith("…")


def test_the_picture_follows_a_terminal_that_is_resized(make, monkeypatch):
    view = make(120)
    run_nodes(view, done=1)
    long = {"node_id": "a", "node_name": "x" * 300}
    view.show({"type": "node:started", **long})
    for columns in (120, 40, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        view._live.get_renderable()
        lines = picture(view)
        assert max(map(len, lines)) == min(columns, 110) - 2


def test_no_color_draws_the_same_picture_without_colors(make):
    view = make()
    run_nodes(view, done=1)
    plain = make(NO_COLOR="1")
    run_nodes(plain, done=1)
    assert picture(plain)[:4] == picture(view)[:4]
    assert "\x1b[" not in "".join(picture(plain, colors=True))
    assert "\x1b[36m" in "".join(picture(view, colors=True))


def test_ascii_has_a_sign_of_its_own_for_each_state(make):
    view = make(encoding="ascii")
    run_nodes(view, done=1, running=1, failed=1)
    signs = [line.split()[0] for line in picture(view)[2:5]]
    assert signs == ["+", "x", ">"]
    assert "".join(picture(view)).isascii()


def test_what_a_poll_found_is_shown_with_its_age_while_no_events_come(make, clock):
    view = make()
    stream = SimpleNamespace(last_seen={})
    view.follow(stream)
    view.show({"type": "execution:started"})
    clock.now += 5
    assert picture(view)[0].startswith("Nightly report  running  5.00 s")
    assert not [line for line in picture(view) if "checked" in line]
    stream.last_seen = {"status": "cancelled"}
    assert picture(view)[0].startswith("Nightly report  cancelled")
    clock.now += 4
    assert picture(view)[-1] == "checked 4 s ago"
    view.show({"type": "node:started", "node_id": "a"})
    assert "checked" not in picture(view)[-1]


def test_frames_are_less_than_a_fifth_of_a_second_apart(make):
    view = make()
    assert 1 / FRAMES_PER_SECOND < 0.2
    assert view._live.auto_refresh


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.3, "0.30 s"), (3, "3 s"), (12.7, "12 s"), (60, "1 m 00 s"), (160.0, "2 m 40 s"),
        (3600, "1 h 00 m"), (11_100, "3 h 05 m"),
    ],
)  # fmt: skip
def test_durations_are_short_and_have_no_seconds_above_an_hour(seconds, text):
    assert in_short(seconds) == text


def test_a_node_that_waits_for_a_person_is_not_done(make):
    view = make()
    node = {"node_id": "ask", "node_name": "Approve"}
    view.show({"type": "node:started", **node})
    view.show({"type": "node:completed", "metadata": {"paused": True}, **node})
    reason = "Waiting for human review: Approve?"
    view.show({"type": "execution:paused", "status": "paused", "reason": reason})
    (_, _, line, note) = picture(view)
    assert line.strip().endswith("Approve  waits for a person")
    assert view.screen.symbols.good not in line
    assert note == f"paused: {reason}"
    view.show({"type": "execution:resumed"})
    assert (view.note, view.status) == ("", "running")
