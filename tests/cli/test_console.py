"""Lines, tables and growing texts, in a pipe and in a terminal, with and without rich."""

from __future__ import annotations

import io
import re
import sys

import pytest

from flowmaestro.cli.console import Console, RichConsole, console, printable


class Terminal(io.StringIO):
    """A text stream that claims to be a terminal with an encoding."""

    def __init__(self, encoding="utf-8", tty=True):
        super().__init__()
        self._claimed = encoding
        self._tty = tty

    @property
    def encoding(self):
        return self._claimed

    def isatty(self):
        return self._tty


@pytest.fixture
def narrow(monkeypatch):
    """A terminal of 20 columns that understands colour."""
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


KINDS = [Console, RichConsole]


def without_colour(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_is_wrapped_at_words_and_hangs_under_its_lead(narrow, kind):
    out = Terminal()
    kind(out).line(("+ ", "green"), "one two three four five six", indent=2)
    assert without_colour(out.getvalue()) == "+ one two three four\n  five six\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_growing_text_never_breaks_within_a_word(narrow, kind):
    text = "Once upon a time, there was an extraordinary\nworkflow."
    for size in (1, 2, 3, 5, 8, 100):
        out = Terminal()
        screen = kind(out)
        for start in range(0, len(text), size):
            screen.stream(text[start : start + size], "agent  ")
        screen.end_stream(7)
        lines = without_colour(out.getvalue()).split("\n")
        assert " ".join(out.getvalue().split()) == "agent " + " ".join(text.split())
        assert [line for line in lines if len(line) > 20] == []
        assert [line for line in lines[1:-1] if not line.startswith(" " * 7)] == []


def test_in_a_pipe_every_line_is_whole(narrow):
    out = Terminal(tty=False)
    screen = console(out)
    screen.line(("+ ", "green"), "one two three four five six", indent=2)
    screen.stream("a b\n")
    screen.stream("c")
    screen.end_stream()
    assert out.getvalue() == "+ one two three four five six\na b\nc\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_has_every_cell(monkeypatch, narrow, kind):
    monkeypatch.setenv("COLUMNS", "60")
    out = Terminal()
    kind(out).table(["id", "name"], [["wf_1", "Hello"], ["workflow_2", "Good\x1b[2Jbye"]])
    lines = [line.split() for line in without_colour(out.getvalue()).splitlines()]
    assert lines == [["id", "name"], ["wf_1", "Hello"], ["workflow_2", "Good", "[2Jbye"]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_never_breaks_an_id(monkeypatch, narrow, kind):
    row = ["0fa11000-0000-4000-8000-000000000001", "failed", "0fa11000-0000-4000-8000-000000000002"]
    for width, height in ((80, 4), (82, 2)):
        monkeypatch.setenv("COLUMNS", str(width))
        out = Terminal()
        kind(out).table(["id", "status", "workflow id"], [row])
        assert without_colour(out.getvalue()).split() == ["id", "status", "workflow", "id", *row]
        assert len(out.getvalue().splitlines()) == height


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_server_sends_cannot_steer_the_terminal(narrow, kind):
    out = Terminal()
    screen = kind(out)
    screen.line("a\x1b[2Jb\rc\nd\x07\x9b0m\u202e")
    screen.copyable("a\x1b]0;title\x07")
    screen.stream("a\x1b[2Jb\x08")
    screen.end_stream()
    assert all(line.isprintable() for line in without_colour(out.getvalue()).split("\n"))
    assert printable("lone \ud800 half") == "lone   half"


def test_an_encoding_that_lacks_a_sign_gets_a_question_mark():
    out = Terminal("latin-1", tty=False)
    Console(out).line("für 日本")
    assert out.getvalue() == "für ??\n"


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(monkeypatch, narrow, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert type(console(Terminal())) is Console


def test_without_rich_a_terminal_gets_plain_lines(monkeypatch, narrow):
    assert type(console(Terminal())) is RichConsole
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert type(console(Terminal())) is Console
