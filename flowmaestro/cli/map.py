"""`map`: a workflow for each row of a file, with a journal; the same command again goes on."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from typing import Any, Callable, ContextManager, Dict, Iterator, List, Mapping

from flowmaestro.cli import FAILED, INTERRUPTED, USAGE, CommandFailed
from flowmaestro.cli.console import Console, RichConsole, console
from flowmaestro.cli.session import check_workflow_inputs, client_for, print_json
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
    with client_for(options) as client, _progress(len(rows)) as show:
        check = check_workflow_inputs(client, options.workflow, options)
        for number, row in enumerate(rows, 1):
            _check_row(check, options.rows, number, row)
        outcomes = client.workflows.run_many(
            options.workflow,
            rows,
            journal=journal,
            concurrency=options.concurrency,
            timeout=options.timeout,
            progress=show,
        )
        try:
            with outcomes, open(options.out, "w", encoding="utf-8") as out:
                for outcome in outcomes:
                    line = _line(outcome)
                    out.write(json.dumps(line, ensure_ascii=False) + "\n")
                    out.flush()
                    bad += not outcome.ok
                    if options.json:
                        print_json(line)
        except KeyboardInterrupt:
            said = console(sys.stderr)
            said.line(f"{len(outcomes.in_flight)} executions run on; the same command goes on.")
            raise CommandFailed(status=INTERRUPTED) from None
        except OSError as error:
            raise CommandFailed(f"{options.out}: {error.strerror}") from error
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


def _csv_rows(path: str, file: Any) -> Iterator[Row]:
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


def _json_rows(path: str, file: Any) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CommandFailed(
                f"{path}, line {number}: this is no JSON: {error}", USAGE
            ) from error
        if not isinstance(row, dict):
            raise CommandFailed(f"{path}, line {number}: it must be a JSON object", USAGE)
        yield row


def _check_row(
    check: Callable[[Mapping[str, Any]], None], path: str, number: int, row: Row
) -> None:
    try:
        check(row)
    except CommandFailed as failure:
        raise CommandFailed(f"{path}, row {number}: {failure}", failure.status) from failure


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


class _Progress:
    """Progress in plain lines, about twenty of them."""

    def __init__(self, screen: Console, total: int) -> None:
        self._screen = screen
        self._step = max(total // 20, 1)

    def __enter__(self) -> Callable[[BatchProgress], None]:
        return self._show

    def __exit__(self, *exc: object) -> None:
        pass

    def _show(self, progress: BatchProgress) -> None:
        if progress.done % self._step == 0 or progress.done == progress.total:
            self._screen.line(_said(progress))


class _Bar:
    """Progress as a bar of rich's."""

    def __init__(self, screen: RichConsole, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
        self._bar = Progress(*columns, console=screen.terminal)
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Callable[[BatchProgress], None]:
        self._bar.start()
        return self._show

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def _show(self, progress: BatchProgress) -> None:
        description = _said(progress).partition(", ")[2]
        self._bar.update(self._task, completed=progress.done, description=description)


def _said(progress: BatchProgress) -> str:
    text = f"{progress.done} of {progress.total}, {progress.failed} failed"
    if progress.in_flight:
        text += f", {progress.in_flight} running"
    return text + (f", about {progress.seconds_left:.0f} s left" if progress.seconds_left else "")


def _progress(total: int) -> ContextManager[Callable[[BatchProgress], None]]:
    screen = console(sys.stderr)
    return _Bar(screen, total) if isinstance(screen, RichConsole) else _Progress(screen, total)
