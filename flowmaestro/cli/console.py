"""Where commands write: rich in a terminal, plain lines in a pipe or where rich is not installed.

Text may come from a server, so control characters never reach the terminal.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Sequence, TextIO, Tuple, Union

if TYPE_CHECKING:
    from rich.text import Text as RichText

Span = Tuple[str, str]
"""A text and its style, one of rich's: `bold`, `dim`, `green`, `red`, `cyan`, `yellow`."""
Text = Union[str, Span]
WIDEST = 110
"""Columns used of a terminal, however wide: longer lines are hard to read."""


class Symbols(NamedTuple):
    """Signs for what ASCII says in words."""

    step: str
    good: str
    bad: str
    running: str


UNICODE = Symbols("▸", "✓", "✗", "●")
ASCII = Symbols("*", "+", "-", ">")
_words = re.compile(r"(?<=\s)").split
"""Words, each with the white space after it."""


class Console:
    """One output, in plain lines: wrapped at words in a terminal, whole in a pipe."""

    symbols = ASCII

    def __init__(self, out: TextIO) -> None:
        self.width: Optional[int] = None
        if out.isatty():
            import shutil  # which loads every kind of compression

            self.width = min(shutil.get_terminal_size().columns, WIDEST)
        self._out = out
        self._streams, self._column = False, 0
        self._word = self._gap = ""

    def line(self, *texts: Text, indent: int = 0) -> None:
        """Write one line; where it is wrapped, the rest is indented by `indent` columns."""
        whole = "".join(text for text, _ in _spans(texts)).rstrip()
        if self.width is not None and len(whole) > self.width:
            indent = _fitting(indent, whole, self.width)
            self._write(whole[:indent])
            self._column, self._gap = indent, ""
            for word in _words(whole[indent:]):
                self._add_word(word, self.width, indent)
            whole = ""
        self._write(whole + "\n")

    def copyable(self, text: str) -> None:
        """Write one line that is never wrapped."""
        self._write(printable(text) + "\n")

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write rows in columns. Only the last column is wrapped; where its words do not fit
        beside the others, it stands below them.
        """
        cells = [[printable(cell) for cell in row] for row in (headings, *rows)]
        *widths, _ = [max(map(len, column)) + 2 for column in zip(*cells)]
        longest = max(len(word) for row in cells for word in (row[-1].split() or [""]))
        if self.width is None or sum(widths) + longest <= self.width:
            self._columns(cells, widths)
            return
        for *first, last in cells:
            self.line("  ".join(first), indent=4)
            if last:
                self.line("    ", last, indent=4)

    def stream(self, piece: str, lead: str = "") -> None:
        """Write a piece of a text that grows; `lead` goes before its first line.

        In a terminal a word is held back until it is whole, so that no line ends within one.
        """
        if not self._streams:
            self._streams = True
            self._write(lead)
            self._column, self._gap = len(lead), ""
        if self.width is None:
            self._write(_without_controls(piece))
            return
        *whole, self._word = _words(self._word + _without_controls(piece))
        for word in whole:
            self._add_word(word, self.width, len(lead))

    def end_stream(self, indent: int = 0) -> None:
        """End the text that grew."""
        if self._streams:
            if self._word and self.width is not None:
                self._add_word(self._word, self.width, indent)
            self._streams, self._word = False, ""
            self._write("\n")

    def _columns(self, cells: Sequence[List[str]], widths: Sequence[int]) -> None:
        for *first, last in cells:
            self.line(*map(str.ljust, first, widths), last, indent=sum(widths))

    def _add_word(self, word: str, width: int, indent: int) -> None:
        text, indent = word.rstrip(), _fitting(indent, " " * indent + word, width)
        if self._column > indent and self._column + len(self._gap + text) > width:
            self._break_line(indent)
        self._write(self._gap + text)
        self._column += len(self._gap + text)
        self._gap = "" if text == word else " "
        if "\n" in word:
            self._break_line(indent)

    def _break_line(self, indent: int) -> None:
        self._write("\n" + " " * indent)
        self._column, self._gap = indent, ""

    def _write(self, text: str) -> None:
        encoding = self._out.encoding or "utf-8"
        self._out.write(text.encode(encoding, "replace").decode(encoding))
        self._out.flush()


class RichConsole(Console):
    """One terminal, in colour, written to by rich."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        from rich.console import Console as Terminal

        self.terminal: Any = Terminal(
            file=out, width=self.width, highlight=False, markup=False, emoji=False
        )
        if self.terminal.encoding.lower().startswith("utf"):
            self.symbols = UNICODE

    def line(self, *texts: Text, indent: int = 0) -> None:
        """As `Console.line`, in colour."""
        whole, width = rich_text(*texts), self.width or WIDEST
        indent = _fitting(indent, whole.plain, width)
        lead, rest = whole[:indent], whole[indent:]
        for part in rest.wrap(self.terminal, width - indent):
            part.rstrip()
            self.terminal.print(lead + part)
            lead = rich_text(" " * indent)

    def _columns(self, cells: Sequence[List[str]], widths: Sequence[int]) -> None:
        from rich.table import Table

        table = Table(*cells[0], box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for column in table.columns[:-1]:
            column.no_wrap = True
        for row in cells[1:]:
            table.add_row(*map(rich_text, row))
        self.terminal.print(table)


def console(out: TextIO) -> Console:
    """The best console for `out`.

    Rich only in a terminal, and not when `NO_COLOR` is set (no-color.org) or the terminal is
    known not to understand.
    """
    if out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        try:
            return RichConsole(out)
        except ImportError:
            pass
    return Console(out)


def rich_text(*texts: Text) -> RichText:
    """The texts as one of rich's."""
    from rich.text import Text as RichText

    return RichText.assemble(*_spans(texts))


def printable(text: str) -> str:
    """The text with a space for every character that is no sign, terminal controls above all."""
    return text if text.isprintable() else "".join(s if s.isprintable() else " " for s in text)


def _fitting(indent: int, text: str, width: int) -> int:
    """How far the lines of a text are indented: not at all where a word would not fit then."""
    longest = max(map(len, text[indent:].split()), default=0)
    return indent if indent + longest <= width else 0


def _without_controls(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _spans(texts: Sequence[Text]) -> Sequence[Span]:
    spans = [(text, "") if isinstance(text, str) else text for text in texts]
    return [(printable(text), style) for text, style in spans]
