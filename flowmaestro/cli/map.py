"""`map`: a workflow for each row of a file, with a journal; the same command again goes on."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from contextlib import contextmanager
from typing import Any, Callable, Dict, Generator, Iterable, Iterator, List, TextIO, cast

from flowmaestro.cli import FAILED, INTERRUPTED, USAGE, CommandFailed
from flowmaestro.cli.console import RichConsole, console
from flowmaestro.cli.session import (
    check_workflow_inputs,
    client_for,
    json_line,
    json_of,
    print_json,
)
from flowmaestro_core.executions.outcome import BatchProgress, RunOutcome

Row = Dict[str, Any]


def map_command(options: argparse.Namespace) -> None:
    """Run the rows; `CommandFailed` if one of them did not complete."""
    journal = options.journal or f"{options.out}.journal"
    if os.path.exists(options.out) and not os.path.exists(journal):
        text = f"{options.out} is there and {journal} is not; move it away, or name its --journal"
        raise CommandFailed(text, USAGE)
    rows = read_rows(options.rows)
    bad = 0
    with client_for(options) as client:
        check = check_workflow_inputs(client, options.workflow, options)
        for number, row in enumerate(rows, 1):
            try:
                check(row)
            except CommandFailed as failure:
                text = f"{options.rows}, row {number}: {failure}"
                raise CommandFailed(text, failure.status) from failure
        with _progress(len(rows)) as show:
            outcomes = client.workflows.run_many(
                options.workflow,
                rows,
                journal=journal,
                concurrency=options.concurrency,
                timeout=options.timeout,
                settle_after=options.settle_after,
                progress=show,
            )
            try:
                with outcomes, open(options.out, "a", encoding="utf-8") as out:
                    for number, outcome in enumerate(outcomes):
                        if not number:  # the journal is that of these rows
                            out.truncate(0)
                        line = _line(outcome)
                        print(json_line(line), end="", file=out, flush=True)
                        bad += not outcome.ok
                        if options.json:
                            print_json(line)
            except KeyboardInterrupt:
                said = f"{len(outcomes.in_flight)} executions run on; the same command goes on."
                console(sys.stderr).line(said)
                raise CommandFailed(status=INTERRUPTED) from None
    if bad:
        raise CommandFailed(
            f"{bad} of {len(rows)} rows did not complete; see {options.out}", FAILED
        )


def read_rows(path: str) -> List[Row]:
    """The rows of a `.csv` file, cells as text, or of a `.jsonl` file.

    Raises `CommandFailed` that names the file, the row and the column.
    """
    if not path.endswith((".csv", ".jsonl")):
        raise CommandFailed(f"{path} must be a .csv or a .jsonl file", USAGE)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return list(_csv_rows(path, file) if path.endswith(".csv") else _json_rows(path, file))
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}", USAGE) from error
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{path}: it is not UTF-8", USAGE) from error


def _csv_rows(path: str, file: Iterable[str]) -> Iterator[Row]:
    lines = csv.reader(file, strict=True)
    try:
        names: List[str] = next(lines, [])  # pyright: ignore[reportUnknownArgumentType]
        for column, name in enumerate(names, 1):
            if not name or name in names[: column - 1]:
                what = "has no name" if not name else f"is named {name!r} like another"
                raise CommandFailed(f"{path}: column {column} {what}", USAGE)
        for number, cells in enumerate(lines, 1):
            if cells and len(cells) != len(names):
                text = f"{path}, row {number}: {len(cells)} cells, but {len(names)} columns"
                raise CommandFailed(text, USAGE)
            if cells:
                yield dict(zip(names, cells))
    except csv.Error as error:
        raise CommandFailed(f"{path}, line {lines.line_num}: {error}", USAGE) from error


def _json_rows(path: str, file: TextIO) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if line.strip():
            where = f"{path}, line {number}"
            row = json_of(line.strip(), where)
            if not isinstance(row, dict):
                raise CommandFailed(f"{where}: it must be a JSON object", USAGE)
            yield cast("Row", row)


def _line(outcome: RunOutcome) -> Dict[str, Any]:
    """A row of the results."""
    execution = outcome.execution
    error = None if outcome.error is None else str(outcome.error)
    return {
        "index": outcome.index,
        "inputs": outcome.inputs,
        "execution_id": outcome.execution_id,
        "status": None if execution is None else execution["status"],
        "outputs": outcome.outputs,
        "error": error if execution is None else execution["error"],
    }


@contextmanager
def _progress(total: int) -> Generator[Callable[[BatchProgress], None], None, None]:
    """A bar of rich's, or about twenty plain lines."""
    screen = console(sys.stderr)
    if isinstance(screen, RichConsole):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
        with Progress(*columns, console=screen.terminal) as bar:
            task = bar.add_task("", total=total)
            yield lambda at: bar.update(task, completed=at.done, description=_said(at))
        return

    def show(at: BatchProgress) -> None:
        if at.done % max(total // 20, 1) == 0 or at.done == total:
            screen.line(f"{at.done} of {total}, {_said(at)}")

    yield show


def _said(at: BatchProgress) -> str:
    text = f"{at.failed} failed" + (f", {at.in_flight} running" if at.in_flight else "")
    return text + (f", about {at.seconds_left:.0f} s left" if at.seconds_left else "")
