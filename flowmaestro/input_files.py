"""Inputs of workflows from files: a JSON object, or rows as CSV, TSV, JSON lines or a JSON array.

Reads the file, or standard input. An error of the file is a `ValueError` whose text is one line. If
the parser knows the place of the error, the text names it.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Generator, Iterable, Iterator, List, Optional, cast

from flowmaestro.inputs import mapping_or_empty
from flowmaestro_core.payloads.json_values import list_or_empty

LARGEST_CELL = 2**31 - 1
"""Characters: a cell may be a whole document. More than this the `csv` module does not take on
systems whose C long has 32 bits, such as Windows."""
_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
_TYPED = ":="
"""The end of the name of a column whose cells are JSON."""


class Rows(List[Dict[str, Any]]):
    """Rows of a file, a dict of inputs each.

    Attributes:
        are_cells: whether the file is CSV or TSV, formats without types. A value is then a text,
            unless the name of its column ends in `:=`, or `typed_rows` has converted it.
        names: the names of the columns as the sheet has them; of JSON, the names of all inputs in
            the order of their first rows.
        cells: the texts of each row as the sheet has them; empty for JSON.
        delimiter: the sign between cells; a comma for JSON.

    """

    def __init__(self, rows: Iterable[Dict[str, Any]] = ()) -> None:
        super().__init__(rows)
        self.are_cells = False
        self.names: List[str] = list(dict.fromkeys(name for row in self for name in row))
        self.cells: List[List[str]] = []
        self.delimiter = ","


def read_object(path: str, where: str) -> Dict[str, Any]:
    """Return the JSON object in a file; `-` is standard input.

    If the file cannot be read or is not a JSON object, raises `ValueError`, whose text begins with
    `where`.
    """
    return _object(_read(path, where), where)


def read_rows(path: str, *, delimiter: Optional[str] = None) -> Rows:
    """Return the rows of a file; each is a dict of inputs.

    Cells of CSV are text. In a column whose name ends in `:=` they are JSON, and an empty cell is
    left out.

    Args:
        path: a `.csv` or `.tsv` file with a head, a `.jsonl` file with one object a line, a `.json`
            file with an array of objects, or `-`: standard input, in the form that its first
            character, white space aside, tells (`[` an array, `{` JSON lines, any other CSV).
        delimiter: the character between cells; by default a comma, in a `.tsv` file a tab. Not
            with JSON.

    Raises `ValueError` for a file that cannot be read, is malformed, or has another suffix, and for
    a `delimiter` with JSON.

    """
    suffix = Path(path).suffix.lower()
    where = "stdin" if path == "-" else path
    if path != "-" and suffix not in _SUFFIXES:
        raise ValueError(f"{path} must be a .csv, .tsv, .jsonl or .json file")
    text = _read(path, where)
    if path == "-":
        first = text.lstrip()[:1]
        suffix = ".json" if first == "[" else ".jsonl" if first == "{" else ".csv"
    if suffix in (".json", ".jsonl"):
        if delimiter is not None:
            raise ValueError(f"{where} is JSON, which has no delimiter")
        return Rows(_array(where, text) if suffix == ".json" else _lines(where, text))
    limit = csv.field_size_limit(LARGEST_CELL)
    try:
        rows = Rows()
        rows.delimiter = delimiter or ("\t" if suffix == ".tsv" else ",")
        _read_cells(where, text, rows)
    finally:
        csv.field_size_limit(limit)
    rows.are_cells = True
    return rows


def typed_rows(rows: Rows, schema: Any, where: str) -> Rows:
    """Return the rows with cells as JSON values, where a JSON Schema names a type of the column.

    The cells of a column without a type, or whose type may be `string`, stay as they are. An empty
    cell of any other type is left out. Rows of JSON are returned as they are. `TRUE` and `007`, as
    spreadsheets write them, are converted, too, where the type allows it. Raises `ValueError`,
    whose text begins with `where`, for any other cell that is not JSON. A cell that is JSON of
    another type is not refused: `check_inputs` finds it.
    """
    kinds = _kinds(schema)
    if not rows.are_cells or not kinds:
        return rows
    typed = Rows()
    typed.are_cells = True
    typed.names, typed.cells, typed.delimiter = rows.names, rows.cells, rows.delimiter
    for number, row in enumerate(rows, 1):
        found: Dict[str, Any] = {}
        for name, value in row.items():
            if name not in kinds or not isinstance(value, str):
                found[name] = value
            elif value.strip():
                place = f"{where}, row {number}, column {name!r}"
                found[name] = _typed(value.strip(), kinds[name], place)
        typed.append(found)
    return typed


def parse_json(text: str, where: str) -> Any:
    """Return the value of a JSON text. Raises `ValueError`, whose text begins with `where`."""

    def refuse(name: str) -> None:
        raise ValueError(f"{where}: this is not JSON, which has no {name}")

    def number(text: str) -> float:
        value = float(text)
        if value - value != 0:  # It is infinite.
            raise ValueError(f"{where}: the number {text[:40]} is too large")
        return value

    def integer(text: str) -> int:
        try:
            return int(text)
        except ValueError:  # Python converts at most 4,300 digits, unless told otherwise.
            raise ValueError(f"{where}: an integer of {len(text)} digits is too large") from None

    try:
        return json.loads(text, parse_constant=refuse, parse_float=number, parse_int=integer)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}"
        place = f"line {error.lineno}, {place}" if "\n" in text else place
        raise ValueError(f"{where}: this is not JSON: {error.msg}: {place}") from error
    except RecursionError as error:
        raise ValueError(f"{where}: this is nested too deeply") from error


def _read(path: str, where: str) -> str:
    """Return the text of a file, decoded as UTF-8 whatever the locale is; `-` is standard input.

    Raises `ValueError`, whose text begins with `where`, if the file cannot be read or is not UTF-8.
    """
    with _named(where):
        if path != "-":
            return Path(path).read_bytes().decode("utf-8-sig")
        data = getattr(sys.stdin, "buffer", sys.stdin).read()
        return data if isinstance(data, str) else data.decode("utf-8-sig")


@contextmanager
def _named(where: str) -> Generator[None, None, None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: it is not UTF-8; save it as UTF-8") from error
    except OSError as error:
        raise ValueError(f"{where}: {error.strerror}") from error


def _object(text: str, where: str) -> Dict[str, Any]:
    return _as_object(parse_json(text, where), where)


def _as_object(value: Any, where: str) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: it must be a JSON object")
    return cast("Dict[str, Any]", value)


def _read_cells(where: str, text: str, rows: Rows) -> None:
    """Add the rows of CSV. Raises `ValueError` if it is malformed."""
    delimiter = rows.delimiter
    taken: List[str] = []  # Lines of the row that is being read.

    def take() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            taken.append(line)
            yield line

    lines = csv.reader(take(), strict=True, delimiter=delimiter)
    try:
        none: List[str] = []
        names = rows.names = next((line for line in lines if line), none)
        _check_names(where, names, delimiter)
        taken.clear()
        for number, cells in enumerate(lines, 1):
            if cells and len(cells) != len(names):
                text = f"{where}, row {number}: {counted(len(cells), 'cell')}, "
                text += f"but {counted(len(names), 'column')}: "
                text += f"column {min(len(cells), len(names)) + 1} "
                raise ValueError(
                    text + ("has no name" if len(cells) > len(names) else "is missing")
                )
            if cells:
                rows.append(_row(f"{where}, row {number}", names, cells))
                rows.cells.append(cells)
            taken.clear()
    except csv.Error as error:
        column = _malformed_column("".join(taken), re.escape(delimiter))
        raise ValueError(f"{where}, line {lines.line_num}: {error} in column {column}") from error


def _check_names(where: str, names: List[str], delimiter: str) -> None:
    bare = [re.sub(f"{_TYPED}$", "", name) for name in names]
    for column, name in enumerate(bare, 1):
        if not name or name in bare[: column - 1]:
            what = "has no name" if not name else f"is named {name!r} like another"
            raise ValueError(f"{where}: column {column} {what}")
    other = next((sign for sign in ";\t|" if sign in names[0]), "") if len(names) == 1 else ""
    if delimiter == "," and other:
        shown = "$'\\t'" if other == "\t" else f"'{other}'"
        raise ValueError(
            f"{where}: its one column is named {names[0]!r}; commas must separate columns, "
            f"or --delimiter {shown} must say so"
        )


def _row(where: str, names: List[str], cells: List[str]) -> Dict[str, Any]:
    row: Dict[str, Any] = {}
    for name, cell in zip(names, cells):
        if not name.endswith(_TYPED):
            row[name] = cell
        elif cell.strip():
            bare = name[: -len(_TYPED)]
            row[bare] = parse_json(cell, f"{where}, column {bare!r}")
    return row


def _malformed_column(text: str, delimiter: str) -> int:
    """Return the number, from 1, of the first malformed cell in the text of one row of CSV.

    `delimiter` is escaped for a regular expression.
    """
    cell = f'(?:"(?:[^"]|"")*"|[^"{delimiter}\\r\\n]*){delimiter}'
    whole = re.match(f"(?:{cell})*", text)
    return 1 + len(re.findall(cell, whole[0] if whole else ""))


def _lines(where: str, text: str) -> Iterator[Dict[str, Any]]:
    for number, line in enumerate(io.StringIO(text), 1):
        if line.strip():
            yield _object(line.strip(), f"{where}, line {number}")


def _array(where: str, text: str) -> Iterator[Dict[str, Any]]:
    rows = parse_json(text, where)
    if not isinstance(rows, list):
        raise ValueError(f"{where}: it must be a JSON array of objects")
    for number, row in enumerate(list_or_empty(rows), 1):
        yield _as_object(row, f"{where}, row {number}")


def _kinds(schema: Any) -> Dict[str, List[str]]:
    """Return the JSON types of each property of a schema, by name.

    Properties without a type, and those whose type may be `string`, are left out.
    """
    kinds: Dict[str, List[str]] = {}
    properties = mapping_or_empty(mapping_or_empty(schema).get("properties"))
    for name, about in properties.items():
        wanted = mapping_or_empty(about).get("type")
        named = [kind for kind in list_or_empty(wanted) or [wanted] if isinstance(kind, str)]
        if named and "string" not in named:
            kinds[name] = named
    return kinds


def _typed(text: str, kinds: Iterable[str], where: str) -> Any:
    """Return the JSON value of the text of a cell. Raises `ValueError` if it is not JSON.

    If `kinds` allow it, what spreadsheets write is JSON, too: `TRUE` is true, and `007` is 7. The
    value may be of another type than `kinds`.
    """
    if "boolean" in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if re.fullmatch(r"[+-]?\d+", text) and not {"integer", "number"}.isdisjoint(kinds):
        text = re.sub(r"^\+", "", re.sub(r"^([+-]?)0+(?=\d)", r"\1", text))
    try:
        return parse_json(text, where)
    except ValueError as error:
        if "too large" in str(error):
            raise
        said = f"{where}: {text[:40]!r} is not of type {' or '.join(kinds)}"
        raise ValueError(said) from error


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: `1 cell`, `2 cells`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
