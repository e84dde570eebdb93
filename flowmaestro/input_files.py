"""Inputs of workflows from files: a JSON object, or rows of a `.csv` or `.jsonl` file.

Reads the file, or standard input. Every error is a `ValueError` of one line that names the place.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Generator, Iterable, Iterator, List

_CELL = re.compile(r'(?:"(?:[^"]|"")*"|[^",\r\n]*),')
_CELLS = re.compile(f"(?:{_CELL.pattern})*")


def read_object(path: str, where: str) -> Dict[str, Any]:
    """The JSON object in a file; `-` is standard input. Errors begin with `where`."""
    with _named(where):
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8-sig")
    return _object(text, where)


def read_rows(path: str) -> List[Dict[str, Any]]:
    """The rows of a `.csv` file, whose cells are text, or of a `.jsonl` file, one object a line."""
    if not path.endswith((".csv", ".jsonl")):
        raise ValueError(f"{path} must be a .csv or a .jsonl file")
    with _named(path), open(path, encoding="utf-8-sig", newline="") as file:
        if path.endswith(".jsonl"):
            return list(_json_rows(path, file))
        limit = csv.field_size_limit(2**31 - 1)  # a cell may be a whole document
        try:
            return list(_csv_rows(path, file))
        finally:
            csv.field_size_limit(limit)


def parse_json(text: str, where: str) -> Any:
    """The value that a JSON text stands for."""

    def refuse(name: str) -> None:
        raise ValueError(f"{where}: this is not JSON, which has no {name}")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}"
        place = f"line {error.lineno}, {place}" if "\n" in text else place
        raise ValueError(f"{where}: this is not JSON: {error.msg}: {place}") from error
    except RecursionError as error:
        raise ValueError(f"{where}: this is nested too deeply") from error


@contextmanager
def _named(where: str) -> Generator[None, None, None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: it is not UTF-8") from error
    except OSError as error:
        raise ValueError(f"{where}: {error.strerror}") from error


def _object(text: str, where: str) -> Dict[str, Any]:
    value = parse_json(text, where)
    if not isinstance(value, dict):
        raise ValueError(f"{where}: it must be a JSON object")
    return value  # pyright: ignore[reportUnknownVariableType]


def _csv_rows(path: str, file: Iterable[str]) -> Iterator[Dict[str, str]]:
    taken: List[str] = []  # lines of the row that is read

    def take() -> Iterator[str]:
        for line in file:
            taken.append(line)
            yield line

    lines = csv.reader(take(), strict=True)
    try:
        names: List[str] = next(lines, [])  # pyright: ignore[reportUnknownArgumentType]
        for column, name in enumerate(names, 1):
            if not name or name in names[: column - 1]:
                what = "has no name" if not name else f"is named {name!r} like another"
                raise ValueError(f"{path}: column {column} {what}")
        if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
            raise ValueError(
                f"{path}: its one column is named {names[0]!r}; commas must separate columns"
            )
        taken.clear()
        for number, cells in enumerate(lines, 1):
            if cells and len(cells) != len(names):
                text = f"{path}, row {number}: {len(cells)} cells, but {len(names)} columns: "
                text += f"column {min(len(cells), len(names)) + 1} "
                raise ValueError(
                    text + ("has no name" if len(cells) > len(names) else "is missing")
                )
            if cells:
                yield dict(zip(names, cells))
            taken.clear()
    except csv.Error as error:
        whole = _CELLS.match("".join(taken))  # the cells before the one that is malformed
        column = 1 + len(_CELL.findall(whole[0] if whole else ""))
        raise ValueError(f"{path}, line {lines.line_num}: {error} in column {column}") from error


def _json_rows(path: str, file: Iterable[str]) -> Iterator[Dict[str, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield _object(line.strip(), f"{path}, line {number}")
