"""Where commands write: coloured and fitted in a terminal, plain in a pipe.

Text may come from a server, so control characters never reach the terminal.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from typing import Iterator, NamedTuple, Sequence, TextIO, Union

UNLIMITED = sys.maxsize
"""The width of a pipe, where every line is whole."""
WIDEST = 110
"""Columns used of a terminal, however wide: longer lines are hard to read."""


class Span(NamedTuple):
    """Text in one style; `style` is the parameter of an SGR sequence (ECMA-48, 8.3.117)."""

    text: str
    style: str


Text = Union[str, Span]


def bold(text: str) -> Span:
    """Important text."""
    return Span(text, "1")


def dim(text: str) -> Span:
    """Text in the background."""
    return Span(text, "2")


def green(text: str) -> Span:
    """What went well."""
    return Span(text, "32")


def red(text: str) -> Span:
    """What went wrong."""
    return Span(text, "31")


def cyan(text: str) -> Span:
    """What is under way, and identifiers."""
    return Span(text, "36")


class Symbols(NamedTuple):
    """Signs for what ASCII says in words."""

    step: str
    good: str
    bad: str
    ellipsis: str
    full: str
    empty: str


UNICODE = Symbols("▸", "✓", "✗", "…", "█", "░")
ASCII = Symbols("*", "+", "-", "...", "#", ".")


class Screen:
    """One output, and what may be done to it."""

    def __init__(self, out: TextIO, width: int, *, coloured: bool) -> None:
        self.width = width
        self.coloured = coloured
        self._out = out
        self._encoding = out.encoding or "utf-8"
        self.symbols = UNICODE if coloured and self._can_write("".join(UNICODE)) else ASCII

    @classmethod
    def standard_output(cls) -> Screen:
        """`sys.stdout`, as it is now.

        Colour and symbols only in a terminal, and not when `NO_COLOR` is set (no-color.org) or
        the terminal is known not to understand.
        """
        out = sys.stdout
        if not out.isatty():
            return cls(out, UNLIMITED, coloured=False)
        width = min(shutil.get_terminal_size().columns, WIDEST)
        return cls(out, width, coloured=not os.environ.get("NO_COLOR") and _understands_colour())

    def line(self, *texts: Text) -> None:
        """Write one line, cut off where the screen ends."""
        spans = [_span(text) for text in texts]
        spans = [Span(printable(text), style) for text, style in spans]
        for span in self._fitted(spans):
            self.write(*span)
        self.end_line()

    def whole(self, *texts: Text) -> None:
        """Write one line whole, whatever the width: something to be copied."""
        for text in texts:
            span = _span(text)
            self.write(printable(span.text), span.style)
        self.end_line()

    def flow(self, lead: Sequence[Text], style: str = "") -> Flow:
        """A paragraph to be written piece by piece, with `lead` before its first line."""
        return Flow(self, lead, style)

    def paragraph(self, lead: Sequence[Text], text: Text) -> None:
        """Write text wrapped at words, each line beginning where the `lead` ends."""
        span = _span(text)
        flow = self.flow(lead, span.style)
        flow.add(span.text)
        flow.end()

    def write(self, text: str, style: str = "") -> None:
        """Write some text as it is; what the encoding lacks becomes `?`."""
        if not self._can_write(text):
            text = text.encode(self._encoding, "replace").decode(self._encoding)
        self._out.write(f"\x1b[{style}m{text}\x1b[0m" if style and self.coloured else text)

    def end_line(self) -> None:
        """End the line, and show it."""
        self._out.write("\n")
        self.flush()

    def flush(self) -> None:
        """Show what was written."""
        self._out.flush()

    def _fitted(self, spans: Sequence[Span]) -> Iterator[Span]:
        """The spans, or as much of them as leaves room for an ellipsis."""
        if sum(columns(span.text) for span in spans) <= self.width:
            yield from spans
            return
        ellipsis = self.symbols.ellipsis[: self.width]
        room = self.width - columns(ellipsis)
        for text, style in spans:
            shown = _beginning(text, room)
            room -= columns(shown)
            yield Span(shown, style)
            if shown != text:
                yield Span(ellipsis, style)
                return

    def _can_write(self, text: str) -> bool:
        try:
            text.encode(self._encoding)
        except UnicodeEncodeError:
            return False
        return True


class Flow:
    """A paragraph that grows as its pieces come, wrapped at words."""

    def __init__(self, screen: Screen, lead: Sequence[Text], style: str) -> None:
        self._screen = screen
        self._style = style
        self._gap = ""
        self._blank = True
        self._column = 0
        for span in map(_span, lead):
            screen.write(span.text, span.style)
            self._column += columns(span.text)
        self._indent = self._column

    def add(self, text: str) -> None:
        """Write some text at once; white space at its end waits for what follows."""
        for piece in re.findall(r"\s+|\S+", text):
            if piece.isspace():
                self._gap += piece
            else:
                self._add_word(printable(piece))
        self._screen.flush()

    def end(self) -> None:
        """End the paragraph."""
        self._screen.end_line()

    def _add_word(self, word: str) -> None:
        gap, self._gap = self._gap, ""
        space = " " if gap and not self._blank else ""
        crowded = self._column + columns(space + word) > self._screen.width
        if not self._blank and (crowded or "\n" in gap):
            self._screen.end_line()
            self._screen.write(" " * self._indent)
            self._column, space = self._indent, ""
        self._screen.write(space + word, self._style)
        self._column += columns(space + word)
        self._blank = False


def printable(text: str) -> str:
    """The text with a space for every character that is no sign, terminal controls above all."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def columns(text: str) -> int:
    """How many columns a terminal takes for the text (Unicode Annex 11)."""
    return len(text) if text.isascii() else sum(_columns_of(sign) for sign in text)


def _columns_of(sign: str) -> int:
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def _beginning(text: str, room: int) -> str:
    """As much of the text as fits."""
    while columns(text) > room:
        text = text[:-1]
    return text


def _span(text: Text) -> Span:
    return Span(text, "") if isinstance(text, str) else text


def _understands_colour() -> bool:
    if os.name == "nt":  # the old console shows escape sequences as they are
        return "WT_SESSION" in os.environ
    return os.environ.get("TERM", "dumb") != "dumb"
