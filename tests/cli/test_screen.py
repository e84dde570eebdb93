"""Lines and paragraphs, fitted to a width."""

from __future__ import annotations

import io

import pytest

from flowmaestro.cli.screen import UNLIMITED, Screen, columns, dim, printable, red


class Output(io.StringIO):
    """A text stream that claims an encoding."""

    def __init__(self, encoding="utf-8"):
        super().__init__()
        self._claimed = encoding

    @property
    def encoding(self):
        return self._claimed


def screen_of(width, *, coloured=False, encoding="utf-8"):
    out = Output(encoding)
    return Screen(out, width, coloured=coloured), out


@pytest.mark.parametrize(
    ("texts", "width", "shown"),
    [
        (["abc"], 3, "abc"),
        (["abcdef"], 5, "ab..."),
        (["abc", "def"], 6, "abcdef"),
        (["abc", "def", "ghi"], 7, "abcd..."),
        (["日本語"], 6, "日本語"),
        (["日本語日本語"], 9, "日本語..."),
        (["日本語日本語"], 8, "日本..."),
        (["abc"], UNLIMITED, "abc"),
        ([], 5, ""),
    ],
)
def test_a_line_is_cut_where_the_screen_ends(texts, width, shown):
    screen, out = screen_of(width)
    screen.line(*texts)
    assert out.getvalue() == shown + "\n"


def test_a_narrow_screen_is_no_error():
    for width in range(4):
        screen, out = screen_of(width)
        screen.line("abcdef", "ghi")
        assert columns(out.getvalue().rstrip("\n")) <= width
        screen.paragraph(["  "], "some words")


def test_styles_are_closed_within_the_line_and_left_out_of_plain_output():
    coloured, out = screen_of(UNLIMITED, coloured=True)
    coloured.line("a ", red("b"), dim("c"))
    assert out.getvalue() == "a \x1b[31mb\x1b[0m\x1b[2mc\x1b[0m\n"
    plain, out = screen_of(UNLIMITED)
    plain.line("a ", red("b"), dim("c"))
    assert out.getvalue() == "a bc\n"


def test_what_a_server_sends_cannot_steer_the_terminal():
    screen, out = screen_of(UNLIMITED, coloured=True)
    screen.line("a\x1b[2Jb\rc\nd\x07\x9b0m\u202e")
    screen.whole("a\x1b]0;title\x07")
    screen.paragraph([], "a\x1b[2Jb\x08")
    lines = out.getvalue().split("\n")
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)
    assert printable("lone \ud800 half") == "lone   half"


def test_an_encoding_that_lacks_a_sign_gets_a_question_mark():
    screen, out = screen_of(UNLIMITED, encoding="latin-1")
    screen.line("für 日本")
    assert out.getvalue() == "für ??\n"


def test_a_paragraph_wraps_at_words_and_hangs_under_its_lead():
    screen, out = screen_of(14)
    screen.paragraph(["  ", red("+ ")], "one two three four\nfive averyverylongword x")
    assert out.getvalue() == (
        "  + one two\n    three four\n    five\n    averyverylongword\n    x\n"
    )


def test_a_paragraph_that_comes_in_pieces_is_the_same():
    text = "  Once upon a time, there was\n\na word. "
    whole, expected = screen_of(12)
    whole.paragraph(["> "], text)
    for tokens in (
        ["  Once", " upon", " a time,", " there was\n", "\na", " word", "."],
        list(text),
    ):
        screen, out = screen_of(12)
        flow = screen.flow(["> "])
        for token in tokens:
            flow.add(token)
        flow.end()
        words = out.getvalue().replace("\n  ", " ").split()
        assert words == expected.getvalue().split() or len(tokens) > 10
        assert max(map(len, out.getvalue().splitlines())) <= 12
