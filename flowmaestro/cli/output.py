"""Data as JSON, JSON lines and CSV, whole and valid; results for people as text.

A JSON document is indented on a terminal and one line elsewhere; JSON lines are never indented. The
JSON is valid whatever the encoding of the output is: if that is not UTF-8, the JSON is ASCII. In
JSON, characters that could control a terminal are escaped. In CSV, they become spaces on a
terminal, and stay elsewhere.
"""

from __future__ import annotations

import codecs
import csv
import errno
import io
import json
import os
import re
import shutil
import sys
import time
from contextlib import contextmanager, suppress
from typing import (
    Any,
    BinaryIO,
    Dict,
    Generator,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    TextIO,
    cast,
)

from flowmaestro.cli.console import Console, Writer
from flowmaestro.printable import printable_lines

_UNSAFE = re.compile(
    "[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""DEL, C1, bidi and other format characters, line separators and lone surrogates.

`json` escapes C0 itself.
"""
FORMULA_SIGNS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r")
"""A spreadsheet may take a cell that begins with one of them for a formula."""
_RENAMED = {"output": "outputs", "duration": "duration_ms", "percentage": "progress"}
"""Keys of live events, and the documented key that the SDK adds beside each."""
_CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")


def json_text(value: Any, encoding: str = "utf-8", indent: Optional[int] = None) -> str:
    """Return a JSON document that the encoding can express and that cannot control a terminal.

    Programs read JSON as UTF-8 (RFC 8259, 8.1). For another encoding every character beyond ASCII
    is escaped, because its bytes would not be UTF-8. Nested values are indented by `indent` spaces;
    with `None`, the document is one line.
    """
    separators = None if indent else (", ", ": ")
    is_utf_8 = codecs.lookup(encoding).name == "utf-8"
    text = json.dumps(value, ensure_ascii=not is_utf_8, indent=indent, separators=separators)
    return _UNSAFE.sub(_escaped, text)


def print_json(value: Any, stream: Optional[TextIO] = None) -> None:
    """Write one JSON document to `stream`, or to standard output, indented on a terminal."""
    out = Writer(stream or sys.stdout)
    out.write(json_text(value, out.encoding, 2 if out.isatty() else None) + "\n")


def print_json_line(value: Any) -> None:
    """Write one JSON document to standard output, on one line."""
    out = Writer(sys.stdout)
    out.write(json_text(value, out.encoding) + "\n")


def print_text(value: Any) -> None:
    """Write a result for people: a string as `Console.document` does, other values as JSON.

    For `None`, write nothing.
    """
    if isinstance(value, str):
        Console(sys.stdout).document(value)
    elif value is not None:
        print_json(value)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Write the name and value of each field that is not `None` to standard output, on a line.

    A list or dict that is not empty is written as JSON, below its name. If a text has several
    lines, the others are written below the first.
    """
    screen = Console(sys.stdout)
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        if value is not None:
            _print_field(screen, name.ljust(width) + "  ", value)


def written(value: Any) -> str:
    """Return a value as text: a string unchanged, `None` as "", other values as a line of JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json_text(value)


def event_fields(event: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the event with each field once, under its documented or snake_case name.

    Values are unchanged. The SDK keeps the server's keys beside the documented ones, so `event` may
    have a field twice, such as `executionId` and `execution_id`.
    """
    fields: Dict[str, Any] = {}
    for key, value in event.items():
        name = _RENAMED.get(key) or _CAMEL.sub(r"_\1", key).lower()
        if name == key or name not in event:
            fields[name] = value
    return fields


@contextmanager
def replacing(path: str) -> Generator[BinaryIO, None, None]:
    """Open a draft beside the file `path`. When the `with` block ends, it replaces the file.

    If the block raises, the file stays as it is. A symbolic link stays one, and permissions stay.
    Raises `OSError` if the file cannot be written, or is not a regular file.
    """
    path = os.path.realpath(path)
    exists = os.path.exists(path)
    if exists and not os.path.isfile(path):  # To replace /dev/null would harm the whole system.
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    draft = os.path.join(os.path.dirname(path), f".flowmaestro-{os.getpid()}-{time.time_ns()}")
    mode = 0o600 if exists else 0o666  # Only this user may have been allowed to read it.
    try:
        with open(draft, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
        if exists:
            shutil.copymode(path, draft)
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            os.remove(draft)
        raise


class Results:
    """Results that come one at a time, written as JSON, JSON lines or CSV.

    The form `json` is one array. `close` ends it, so that the output is valid JSON even if not all
    results have come. In the form `csv`, a result has only the cells of `columns`.
    """

    def __init__(
        self, out: TextIO, form: str, columns: Sequence[str] = (), delimiter: str = ","
    ) -> None:
        self._out = Writer(out)
        self._delimiter = delimiter
        self._form = form
        self._columns = columns
        self._indent = 2 if form == "json" and self._out.isatty() else None
        self._count = 0
        if form == "csv":
            self._out.write(csv_line(columns, delimiter))

    def add(self, result: Mapping[str, Any]) -> None:
        """Write one result."""
        if self._form == "csv":
            cells = [result.get(name) for name in self._columns]
            line = csv_line(cells, self._delimiter)
            self._out.write(printable_lines(line) if self._out.isatty() else line)
            return
        text = json_text(result, self._out.encoding, self._indent)
        if self._form == "jsonl":
            self._out.write(text + "\n")
            return
        lead = "," if self._count else "["
        if self._indent:
            text = "\n" + "\n".join(f"  {line}" for line in text.split("\n"))
        elif self._count:
            lead = ", "
        self._out.write(lead + text)
        self._count += 1

    def close(self) -> None:
        """End the array of the form `json`. In other forms, do nothing."""
        if self._form == "json":
            end = "\n]" if self._indent and self._count else "]"
            self._out.write(("" if self._count else "[") + end + "\n")


def csv_line(cells: Iterable[Any], delimiter: str = ",") -> str:
    """Return one record of CSV, with the line feed after it.

    A text that begins with `=`, `+`, `-`, `@`, the full-width form of one of them, a tab or a
    carriage return gets a leading `'`, so that a spreadsheet does not take it for a formula. `None`
    is an empty cell. Numbers are written as they are, booleans and nested values as JSON.
    """
    line = io.StringIO()
    # Before Python 3.13, the writer quotes of all line breaks only those of its line terminator.
    writer = csv.writer(line, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow([_cell(cell) for cell in cells])
    return line.getvalue()[:-2] + "\n"


def _cell(value: Any) -> Any:
    if isinstance(value, bool) or (value is not None and not isinstance(value, (str, int, float))):
        value = json_text(value)
    if isinstance(value, str) and value.startswith(FORMULA_SIGNS):
        return "'" + value
    return value


def _print_field(screen: Console, lead: str, value: Any) -> None:
    if isinstance(value, (dict, list)) and value:
        screen.line((lead, "dim"))
        encoding = sys.stdout.encoding or "utf-8"
        for line in json_text(cast("List[Any]", value), encoding, 2).split("\n"):
            screen.copyable("  " + line)
        return
    first, *rest = written(value).split("\n")
    screen.line((lead, "dim"), first, indent=len(lead))
    for line in rest:
        screen.line(" " * len(lead), line, indent=len(lead))


def _escaped(match: re.Match[str]) -> str:
    pairs = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{pairs[at : at + 4]}" for at in range(0, len(pairs), 4))
