r"""The output of commands: drawn by rich, or plain `Lines` where no extra is needed.

A text may come from a server. So in what is written to a terminal, a space replaces each bidi mark
and each control character; only `document` and `stream` keep line feeds. Every character
that the output cannot express becomes a `\u` or `\U` escape, never a question mark.
"""

from __future__ import annotations

import os
import sys
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    List,
    NamedTuple,
    Optional,
    Sequence,
    TextIO,
    Tuple,
    Union,
)

from flowmaestro.cli import discard
from flowmaestro.printable import printable, printable_lines

if TYPE_CHECKING:
    from rich.text import Text as RichText

Span = Tuple[str, str]
"""A text and its style in rich: `bold`, `dim`, `green`, `red`, `cyan` or `yellow`; "" is none."""
Text = Union[str, Span]
WIDEST = 110
"""The most columns that sentences use, on any terminal: longer lines are hard to read."""
FRAMES_PER_SECOND = 8
"""How often a live view is redrawn in a second, besides the redraws for events. Its clock then runs
evenly, and a terminal behind a slow connection can follow."""
GAP = "  "
"""Stands between the columns of a table."""


class Symbols(NamedTuple):
    """The signs that a console shows, in Unicode or in ASCII."""

    step: str
    good: str
    bad: str
    running: str
    times: str
    cut: str
    """Ends a text that was shortened."""


UNICODE = Symbols("▸", "✓", "✗", "●", "\N{MULTIPLICATION SIGN}", "…")
ASCII = Symbols("*", "+", "x", ">", "x", "~")
_JOINERS = "\u200c\u200d"
"""ZWNJ and ZWJ, which part and join letters."""


class Lines:
    """One output, in plain lines without styles. On a terminal, `line` wraps at words.

    Commands that need no extra print these, and so does the error of any command.

    Attributes:
        symbols: signs that the encoding of the output has.

    """

    def __init__(self, out: TextIO) -> None:
        self._is_terminal = out.isatty()
        self._out = Writer(out)
        is_unicode = self._out.encoding.lower().startswith("utf")
        self.symbols: Symbols = UNICODE if is_unicode else ASCII

    @property
    def columns(self) -> Optional[int]:
        """Width of the terminal now (`Writer.columns`); `None` if the output is not a terminal."""
        return self._out.columns() if self._is_terminal else None

    @property
    def width(self) -> Optional[int]:
        """Columns used for sentences, at most `WIDEST`; `None` if the output is not a terminal."""
        columns = self.columns
        return None if columns is None else min(columns, WIDEST)

    def line(self, *texts: Text, indent: int = 0) -> None:
        """Write one line. On a terminal, it is wrapped if it is longer than `width`.

        The part after a wrap is indented by `indent` columns, unless a word is too long for that.
        """
        whole = "".join(text for text, _ in _spans(texts)).rstrip()
        if self.width is not None and text_width(whole) > self.width:
            from textwrap import wrap

            indent = _fitting(indent, whole, self.width)
            parts = wrap(
                whole[indent:],
                self.width - indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
            whole = whole[:indent] + ("\n" + " " * indent).join(parts)
        self._out.write(whole + "\n")

    def copyable(self, text: str) -> None:
        """Write one line that is never wrapped, so that the user can copy it."""
        self._out.write(printable(text) + "\n")

    def command(self, lead: str, command: str) -> None:
        r"""Write a command that the user can copy, after `lead`.

        On a terminal that is too narrow, the command begins on a line of its own, and continues
        after `\\` at the end of a line, as shells read it. It never breaks within a word, such as
        an id.
        """
        columns = self.columns
        if columns is None or text_width(lead + command) <= columns:
            self.copyable(lead + command)
            return
        self.copyable(lead.rstrip())
        line = " "
        for word in command.split(" "):
            if line.strip() and text_width(f"{line} {word} \\") > columns:
                self.copyable(f"{line} \\")
                line = "   "
            line += f" {word}"
        self.copyable(line)

    def document(self, text: str) -> None:
        """Write a text of several lines, and the end of its last line. It is never wrapped.

        On a terminal, each of its lines is made `printable`; elsewhere, control characters stay.
        """
        self._out.write((text if self.columns is None else printable_lines(text)) + "\n")


class Console(Lines):
    """One output that rich writes to. Lines and tables have styles on a terminal.

    `NO_COLOR` takes the colors away there, and `FORCE_COLOR` keeps them in a pipe.
    """

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        from rich.console import Console as Terminal

        self.terminal: Any = Terminal(
            file=self._out,  # type: ignore[arg-type]  # it uses `write`, `flush`, `isatty`, `fileno`
            width=self.columns or WIDEST,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._colors = not os.environ.get("NO_COLOR")
        self._streams = False

    @property
    def is_live(self) -> bool:
        """Whether a picture can be drawn again: the output is a terminal that moves its cursor."""
        return self._is_terminal and os.environ.get("TERM") != "dumb"

    def line(self, *texts: Text, indent: int = 0) -> None:
        """Write one line with its styles. On a terminal, it is wrapped if it is too long.

        The part after a wrap is indented by `indent` columns, unless a word is too long for that.
        """
        whole = self.styled(*texts)
        if self.width is None:
            whole.rstrip()
            self.terminal.print(whole, soft_wrap=True)
            return
        indent = _fitting(indent, whole.plain, self.width)
        lead, rest = whole[:indent], whole[indent:]
        for part in rest.wrap(self.terminal, self.width - indent):
            part.rstrip()
            self.terminal.print(lead + part, soft_wrap=True)
            lead = self.styled(" " * indent)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
        """Write the headings and the rows in columns.

        On a terminal, cells are shortened so that a row fits on a line. If the last columns have no
        room, they are left out. If ids in the first column have no room beside the other columns,
        each is written on a line of its own above them; these ids are shortened only if the longest
        is wider than the terminal. If the output is not a terminal, no cell is shortened.
        """
        cells = [_spans(row) for row in (headings, *rows)]
        widths = [max(text_width(text) for text, _ in column) for column in zip(*cells)]
        are_ids = [head.split()[-1] == "id" for head in headings]
        columns, first = self.columns, 0
        if columns is not None and are_ids[0] and widths[0] <= columns:
            least = sum(_least(widths[1:], are_ids[1:])) + len(GAP) * (len(widths) - 1)
            first = int(widths[0] + least > columns)
        if columns is not None and first:
            widths = [widths[0], *_shrink(widths[1:], columns - len(GAP), are_ids[1:])]
        elif columns is not None:
            widths = _shrink(widths, columns, are_ids)
        for number, row in enumerate(cells):
            spans: List[Text] = []
            for (text, style), width in zip(row, widths):
                padded = pad(shorten(text, width, self.symbols.cut), width)
                spans += [GAP, (padded, "bold" if number == 0 else style)]
            if first:
                self._row(spans[1:2])
                self._row(spans[2:])
            else:
                self._row(spans[1:])

    def stream(self, piece: str, lead: str = "") -> None:
        """Write a piece of a growing text; `lead` goes before its first line.

        On a terminal, control characters but the line feed become spaces. Elsewhere, they stay.
        """
        if not self._streams:
            self._streams = True
            self._out.write(lead)
        self._out.write(piece if self.columns is None else printable_lines(piece))

    def end_stream(self) -> None:
        """End the line of a text that `stream` has written. Do nothing if there is none."""
        if self._streams:
            self._streams = False
            self._out.write("\n")

    def show_cursor(self) -> None:
        """Show the cursor, after a signal that came while a live view was begun or ended."""
        self.terminal.show_cursor(True)

    def live(self, render: Callable[[], Any], *, transient: bool = False) -> Any:
        """Return a `rich.live.Live`, not started yet, that draws what `render` returns.

        At its end, the last picture stays, or with `transient`, nothing.

        It redirects neither standard output nor standard error, because data is written to the
        real standard output meanwhile.
        """
        from rich.live import Live

        def fitted() -> Any:
            self.fit()
            return render()

        return Live(
            get_renderable=fitted,
            console=self.terminal,
            refresh_per_second=FRAMES_PER_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=transient,
        )

    def fit(self) -> None:
        """Let rich draw as wide as the terminal is now, because the user may have resized it."""
        self.terminal.width = self.columns or WIDEST

    def styled(self, *texts: Text) -> RichText:
        """Return the texts as one `rich.text.Text`, without styles if `NO_COLOR` is set."""
        from rich.text import Text as RichText

        spans = _spans(texts)
        if self._colors:
            return RichText.assemble(*spans)
        return RichText.assemble(*(text for text, _ in spans))

    def bar(self, total: float, done: float, width: int, style: str = "cyan") -> Any:
        """Return a progress bar for rich: `width` columns, of which `done` of `total` is filled."""
        from rich.progress_bar import ProgressBar

        style = style if self._colors else "default"
        return ProgressBar(
            total=total, completed=done, width=width, complete_style=style, finished_style=style
        )

    def _row(self, spans: Sequence[Text]) -> None:
        row = self.styled(*spans)
        row.rstrip()
        self.terminal.print(row, soft_wrap=True)


class Writer:
    """Writes text to an output. Characters that its encoding lacks are escaped (`expressible`)."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.encoding: str = out.encoding or "utf-8"

    def write(self, text: str) -> int:
        """Write a text and flush it. Return the length of `text`.

        If standard error cannot be written, the text is dropped, and so is all that follows there:
        the results on standard output count more.
        """
        try:
            self._out.write(expressible(text, self.encoding))
            self._out.flush()
        except OSError:
            if self._out is not sys.stderr:
                raise
            discard(self._out)
        return len(text)

    def flush(self) -> None:
        """Flush the output."""
        self._out.flush()

    def isatty(self) -> bool:
        """Return whether the output is a terminal."""
        return self._out.isatty()

    def fileno(self) -> int:
        """Return the file descriptor of the output."""
        return self._out.fileno()

    def columns(self) -> int:
        """Return the width in columns: a positive `COLUMNS`, else that of this terminal, else 80.

        `shutil.get_terminal_size` would look at standard output, which may be a pipe.
        """
        given = os.environ.get("COLUMNS", "")
        if given.isdecimal() and int(given) > 0:
            return int(given)
        try:
            return os.get_terminal_size(self._out.fileno()).columns or 80
        except OSError:
            return 80


def expressible(text: str, encoding: str) -> str:
    r"""Return the text with a `\u` or `\U` escape for each character that the encoding lacks."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(s if _has(encoding, s) else _escape(s) for s in text)
    return text


def shorten(text: str, width: int, cut: str) -> str:
    """Return the text in at most `width` columns, with `cut` at its end if it was longer.

    Return "" if it was longer and `cut` does not fit.
    """
    if text_width(text) <= width:
        return text
    kept, used = "", len(cut)
    for sign in text:
        used += text_width(sign)
        if used > width:
            break
        kept += sign
    return kept + cut if width >= len(cut) else ""


def pad(text: str, width: int) -> str:
    """Return the text, followed by spaces up to `width` columns."""
    return text + " " * (width - text_width(text))


def text_width(text: str) -> int:
    """Return how many columns a terminal uses for a text.

    A wide character counts as two, a combining one as none.
    """
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(s) or s in _JOINERS else 2 if east_asian_width(s) in "WF" else 1
        for s in text
    )


def _shrink(widths: Sequence[int], columns: int, are_ids: Sequence[bool]) -> List[int]:
    """Return the columns' widths, reduced so that a row fits a terminal `columns` wide.

    `are_ids` says which columns hold ids. If the last columns have no room, the result is shorter
    than `widths`. The first two columns are never left out.
    """
    least = _least(widths, are_ids)
    count = len(widths)
    while count > 2 and sum(least[:count]) + len(GAP) * (count - 1) > columns:
        count -= 1
    found = list(widths[:count])
    others = [place for place in range(1, count) if not are_ids[place]]
    ids = [place for place in range(1, count) if are_ids[place]]
    excess = sum(found) + len(GAP) * (count - 1) - columns
    # 13 columns show the first two groups of a UUID, 12 a time such as `12 min ago`, and 10 a
    # status.
    steps = (
        (others, 12),
        (ids, 13),
        (others, 10),
        ([0], least[0]),
        (others, 1),
        (ids, 1),
        ([0], 1),
    )
    for places, smallest in steps:
        while excess > 0 and places:
            widest = max(places, key=found.__getitem__)
            if found[widest] <= smallest:
                break
            found[widest] -= 1
            excess -= 1
    return found


def _least(widths: Sequence[int], are_ids: Sequence[bool]) -> List[int]:
    """Return the smallest useful width of each column.

    `widths` are the full widths. `are_ids` says which columns hold ids: they need more.
    """
    # With 8, `list executions` has all its columns on 40.
    return [min(width, 13 if is_id else 8) for width, is_id in zip(widths, are_ids)]


def _fitting(indent: int, text: str, width: int) -> int:
    """Return `indent`, or 0 if a word of `text[indent:]` is wider than `width - indent`."""
    longest = max(map(text_width, text[indent:].split()), default=0)
    return indent if indent + longest <= width else 0


def _has(encoding: str, sign: str) -> bool:
    try:
        sign.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escape(sign: str) -> str:
    number = ord(sign)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _spans(texts: Sequence[Text]) -> List[Span]:
    spans = [(text, "") if isinstance(text, str) else text for text in texts]
    return [(printable(text), style) for text, style in spans]
