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
def test_a_word_that_fits_the_terminal_is_whole(narrow, kind):
    out = Terminal()
    screen = kind(out)
    screen.line(("+ connection  ", "green"), "see abcdefghijklmnopqrst now", indent=14)
    screen.stream("see abcdefghijklmnopqrst now", "agent  ")
    screen.end_stream(7)
    lines = without_colour(out.getvalue()).splitlines()
    assert [line for line in lines if len(line) > 20] == []
    assert [line.strip() for line in lines].count("abcdefghijklmnopqrst") == 2


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
def test_a_table_that_is_too_wide_breaks_no_word_and_has_no_empty_line(monkeypatch, narrow, kind):
    monkeypatch.setenv("COLUMNS", "40")
    rows = [["0fa11000-0000-4000-8000-000000000001", "Nightly", "Sends"], ["wf_1", "Hello", ""]]
    out = Terminal()
    kind(out).table(["id", "name", "description"], rows)
    lines = [line.rstrip() for line in without_colour(out.getvalue()).splitlines()]
    about = ["id  name", "    description", rows[0][0], "    Nightly", "    Sends", "wf_1  Hello"]
    assert lines == about


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
def test_no_colour_where_none_is_wanted(monkeypatch, narrow, screen, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert type(console(Terminal())) is Console
    assert "\x1b" not in screen()


def test_without_rich_a_terminal_gets_plain_lines(monkeypatch, narrow):
    assert type(console(Terminal())) is RichConsole
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert type(console(Terminal())) is Console


@pytest.fixture
def screen(here, narrow, monkeypatch):
    """Runs the demonstration in memory, and returns what it writes to a terminal."""

    def run(encoding="utf-8", **environment):
        for name, value in {"COLUMNS": "80", **environment}.items():
            monkeypatch.setenv(name, value)
        out = Terminal(encoding)
        monkeypatch.setattr("sys.stdout", out)
        assert here("demo", "--transport", "memory").status == 0
        return out.getvalue()

    return run


@pytest.mark.parametrize("width", [50, 80, 200])
def test_no_line_is_wider_than_the_terminal_or_than_is_readable(screen, width):
    lines = without_colour(screen(COLUMNS=str(width))).splitlines()
    assert max(map(len, lines)) <= min(width, 110)
    story = re.sub(r"\s+", " ", " ".join(lines))
    assert "it had so many that it needed a second page." in story


def test_a_terminal_without_the_symbols_gets_ascii_and_its_colours(screen):
    written = screen("ascii")
    assert written.isascii()
    assert "\x1b[36m* \x1b[0m" in written
