"""Lines, tables and growing texts, in a pipe and in a terminal."""

from __future__ import annotations

import re
import sys

import pytest

from flowmaestro.cli.console import Console, Lines, printable
from tests.harness.terminal import Terminal


@pytest.fixture
def narrow(monkeypatch):
    """A terminal of 20 columns that understands colour."""
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


KINDS = [Lines, Console]
"""What writes lines: plain ones, and those that rich draws."""


def without_colour(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.fixture
def draw(monkeypatch, narrow):
    """Returns the lines that a method writes to a terminal, without colours."""

    def draw(method, *given, kind=Console, columns=20, encoding="utf-8", **named):
        monkeypatch.setenv("COLUMNS", str(columns))
        out = Terminal(encoding)
        getattr(kind(out), method)(*given, **named)
        return without_colour(out.getvalue()).splitlines()

    return draw


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_line_is_wrapped_at_words_and_indented(draw, kind):
    lines = draw("line", ("+ ", "green"), "one two three four five six", kind=kind, indent=2)
    assert lines == ["+ one two three four", "  five six"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_that_fits_the_terminal_is_whole(draw, kind):
    text = "see abcdefghijklmnopqrst now"
    lines = draw("line", ("+ connection  ", "green"), text, kind=kind, indent=14)
    assert [line for line in lines if len(line) > 20] == []
    assert "abcdefghijklmnopqrst" in [line.strip() for line in lines]


def test_wide_signs_count_twice_where_lines_are_wrapped(draw):
    lines = draw("line", "+ ", "日本語 日本語 日本語 日本語", indent=2)
    assert lines == ["+ 日本語 日本語", "  日本語 日本語"]


def test_in_a_pipe_every_line_is_whole(narrow):
    out = Terminal(tty=False)
    screen = Console(out)
    screen.line(("+ ", "green"), "one two three four five six", indent=2)
    screen.stream("a b\n")
    screen.stream("c")
    screen.end_stream()
    assert out.getvalue() == "+ one two three four five six\na b\nc\n"


ODD_SPACES = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 a\u200db 10\xa0km \u65e5\u3000\u672c"
"""Persian with a ZWNJ, a ZWJ, a no-break space and an ideographic space."""


def test_a_growing_text_is_unchanged_in_a_pipe(narrow):
    text = f"all:\n\tgcc -o a a.c\n{ODD_SPACES}\r\n\x1b[0m"
    out = Terminal(tty=False)
    screen = Console(out)
    for sign in text:
        screen.stream(sign)
    screen.end_stream()
    assert out.getvalue() == text + "\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_terminal_gets_every_kind_of_space_and_joined_letters(draw, kind):
    assert draw("line", ODD_SPACES, kind=kind, columns=80) == [ODD_SPACES]


def test_a_plain_line_does_not_end_at_a_no_break_space(draw):
    lines = draw("line", "one two three 10\xa0kilometres four", kind=Lines)
    assert lines == ["one two three", "10\xa0kilometres four"]


def test_a_table_has_every_cell(draw):
    rows = [["wf_1", "Hello"], ["workflow_2", "Good\x1b[2Jbye"]]
    lines = [line.split() for line in draw("table", ["id", "name"], rows, columns=60)]
    assert lines == [["id", "name"], ["wf_1", "Hello"], ["workflow_2", "Good", "[2Jbye"]]


ID = "0fa11000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("width", "row"),
    [
        (82, [ID, "failed", ID]),
        (80, [ID, "failed", ID[:33] + "~"]),
        (60, [ID, "failed", ID[:13] + "~"]),
        (50, [ID, "failed", ID]),
        (40, [ID, "failed", ID[:29] + "~"]),
        (30, [ID[:21] + "~", "failed"]),
    ],
)
def test_a_table_keeps_the_first_id_whole_as_long_as_it_can(draw, width, row):
    headings = ["id", "status", "workflow id"]
    lines = draw("table", headings, [[ID, "failed", ID]], columns=width, encoding="ascii")
    below = len(lines) // 2  # Each row has as many lines as the headings.
    assert " ".join(lines[below:]).split() == row
    assert all(line.startswith("  ") for line in lines[below + 1 :])
    assert max(map(len, lines)) <= width


def test_a_narrow_table_has_the_id_on_its_own_line_and_keeps_all_columns(draw):
    headings = ["id", "status", "started", "workflow id"]
    lines = draw("table", headings, [[ID, "completed", "1 min ago", ID]], columns=40)
    assert " ".join(lines[:2]).split() == " ".join(headings).split()
    assert lines[2:] == [ID, f"  completed  1 min ago  {ID[:15]}…"]
    other = ID[:-1] + "2"
    lines = draw("table", ["id", "name"], [[ID, "Hello"], [other, "Good night"]], columns=40)
    assert lines[2:] == [ID, "  Hello", other, "  Good night"]


def test_a_table_shortens_texts_before_ids_and_counts_wide_signs_twice(draw):
    rows = [[ID, "Nightly", "Sends all the reports of the day"], ["wf_1", "日本語日本語日本語", ""]]
    head, *lines = draw("table", ["id", "name", "description"], rows, columns=60)
    assert head.split() == ["id", "name", "descripti…"]
    assert lines[0].startswith(ID)
    assert all(line.isprintable() for line in lines)


def test_a_narrow_table_shortens_all_texts_alike(draw):
    rows = [["a" * 30, "b" * 30, "c" * 30]]
    _, row = draw("table", ["name", "about", "more"], rows, columns=34)
    assert [len(cell) for cell in row.split()] == [10, 10, 10]


def test_a_table_in_a_pipe_is_whole(narrow):
    out = Terminal(tty=False)
    Console(out).table(["id", "about"], [[ID, "x" * 300]])
    assert without_colour(out.getvalue()).splitlines()[1].split() == [ID, "x" * 300]


@pytest.mark.parametrize("kind", KINDS)
def test_control_characters_become_spaces(narrow, kind):
    out = Terminal()
    screen = kind(out)
    screen.line("a\x1b[2Jb\rc\nd\x07\x9b0m\u202e")
    screen.copyable("a\x1b]0;title\x07")
    screen.document("a\x1b[2Jb\x08")
    if kind is Console:
        screen.stream("a\x1b[2Jb\x08")
        screen.end_stream()
    assert all(line.isprintable() for line in without_colour(out.getvalue()).split("\n"))
    assert printable("lone \ud800 half") == "lone   half"


def test_an_encoding_that_lacks_a_sign_gets_its_escape():
    out = Terminal("latin-1", tty=False)
    Console(out).line("für 日本 \U0001f600")
    assert out.getvalue() == "für \\u65e5\\u672c \\U0001f600\n"


def test_no_color_takes_the_colours_and_not_the_signs(monkeypatch, narrow, screen):
    monkeypatch.setenv("NO_COLOR", "1")
    written = screen()
    assert "\x1b" not in written
    assert "✓" in written


def test_a_dumb_terminal_gets_no_colours_and_no_live_view(monkeypatch, narrow, screen):
    monkeypatch.setenv("TERM", "dumb")
    assert not Console(Terminal()).is_live
    assert "\x1b" not in screen()


def test_force_color_colours_a_pipe_and_wraps_nothing(monkeypatch, narrow):
    monkeypatch.setenv("FORCE_COLOR", "1")
    for value, written in {"": "\x1b[32m+ \x1b[0m", "1": "+ "}.items():
        monkeypatch.setenv("NO_COLOR", value)
        out = Terminal(tty=False)
        Console(out).line(("+ ", "green"), "one two three four five six", indent=2)
        assert out.getvalue() == f"{written}one two three four five six\n"


@pytest.mark.parametrize("words", [["run", "wf_123"], ["list", "workflows"], ["demo"], ["login"]])
def test_without_the_extra_a_command_says_what_to_install(here, monkeypatch, words):
    monkeypatch.setitem(sys.modules, "rich", None)
    done = here(*words)
    said = f"flowmaestro {words[0]}: it needs rich: pip install 'flowmaestro[cli]'\n"
    assert (done.status, done.out, done.err) == (1, "", said)


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["version"]])
def test_without_the_extra_the_plain_commands_work(command, monkeypatch, words):
    for name in ("rich", "rich.console", "prompt_toolkit", "shtab"):
        monkeypatch.setitem(sys.modules, name, None)
    assert command(*words).status == 0


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
def test_lines_fit_the_terminal_and_have_at_most_110_columns(screen, width):
    lines = without_colour(screen(COLUMNS=str(width))).splitlines()
    assert max(map(len, lines)) <= min(width, 110)
    story = re.sub(r"\s+", " ", " ".join(lines))
    assert "it had so many that it needed a second page." in story


def test_a_terminal_without_the_symbols_gets_ascii_and_its_colours(screen):
    written = screen("ascii")
    assert written.isascii()
    assert "\x1b[36m* \x1b[0m" in written


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_to_copy_never_breaks_within_an_id(draw, kind):
    command = f"flowmaestro watch {ID} --base-url http://127.0.0.1:8787"
    assert draw("command", "  watch it:  ", command, kind=kind, columns=40) == [
        *("  watch it:", "  flowmaestro watch \\", f"    {ID} \\"),
        "    --base-url http://127.0.0.1:8787",
    ]
    out = Terminal(tty=False)
    kind(out).command("  watch it:  ", f"flowmaestro watch {ID} --profile work")
    assert out.getvalue() == f"  watch it:  flowmaestro watch {ID} --profile work\n"


def test_the_last_act_of_the_demo_and_what_is_next_fit_24_lines(screen):
    lines = without_colour(screen(COLUMNS="80", LINES="24")).splitlines()
    (first,) = (place for place, line in enumerate(lines) if "See a run fail" in line)
    assert "What next" in " ".join(lines[first:])
    assert len(lines) - first < 24  # One line is for the prompt of the shell.
