"""`map`: a workflow for each row of a file, with a journal; the same command again resumes."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from operator import itemgetter
from typing import Any, Dict, List, Optional, TextIO, Tuple

from flowmaestro import Hooks, ResponseInfo
from flowmaestro.cli import TIMED_OUT, USAGE, CommandFailed, session, status_after
from flowmaestro.cli.console import Console, Text, text_width
from flowmaestro.cli.output import FORMULA_SIGNS, Results, replacing, written
from flowmaestro.cli.run_view import in_short
from flowmaestro.input_files import Rows, counted, read_rows, typed_rows
from flowmaestro.inputs import is_strict, mapping_or_empty
from flowmaestro_core.errors import FlowMaestroError, TimeoutError
from flowmaestro_core.executions.outcome import BatchProgress, RunOutcome, RunOutcomes, day_ends

COLUMNS = ("execution_id", "status", "error", "outputs")
"""Columns of results, after those of the sheet."""
REFUSED = "refused"
"""The status of a row whose start the server refused: nothing was run."""
MOST_CAUSES = 5
"""How many causes of failures are printed at most, the most frequent ones: with their texts they
fill about half of a terminal."""
_VARYING = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d+")
"""Ids and numbers, in which the errors of one cause may differ."""


def map_command(options: argparse.Namespace) -> None:
    """Run a workflow for each row, or continue an earlier command, and write the results.

    Raises `CommandFailed` if a row did not complete, and after a Ctrl-C while rows are run.
    """
    began = time.monotonic()
    journal = options.journal or f"{options.out}.journal"
    _check_files(options.rows, options.out, journal)
    rows = read_rows(options.rows, delimiter=options.delimiter)
    name = "stdin" if options.rows == "-" else options.rows
    if not rows:
        Console(sys.stderr).line(f"{name} has no rows")
    redo = range(1, len(rows) + 1) if options.redo is None else options.redo
    beyond = [row for row in redo if row > len(rows)]
    if beyond:
        raise CommandFailed(f"--redo: there is no row {beyond[0]} in {name}", USAGE)
    if options.columns is not None and not options.out.lower().endswith(".csv"):
        raise CommandFailed("--columns is for results as CSV: --out must end in .csv", USAGE)
    view = _view(len(rows), options)
    with session.client_for(options, Hooks(response=view.responded)) as client:
        workflow_id = session.find(client, "workflow", options.workflow).id
        workflow = session.workflow_schema(client, options, workflow_id)
        schema = workflow.get("input_schema")
        rows = typed_rows(rows, schema if is_strict(schema) else None, name)
        leads = (f"{name}, row {number}: " for number in range(1, len(rows) + 1))
        session.check_all_inputs(workflow, zip(leads, rows))
        outcomes = client.workflows.run_many(
            workflow_id,
            rows,
            journal=journal,
            rerun=("failed", "cancelled") if options.rerun else (),
            redo=[row - 1 for row in redo],
            concurrency=options.concurrency,
            timeout=options.timeout,
            settle_after=options.settle_after,
            progress=view.update,
        )
        failures = _Failures(options.out)
        with outcomes:
            interrupted = _run(outcomes, rows, view, failures, options)
    failures.print_causes()
    if interrupted is not None:
        running, status = interrupted
        are = "is" if running == 1 else "are"
        said = f"{counted(running, 'execution')} {are} still running"
        Console(sys.stderr).line(f"{said}; run the same command again to resume.")
        text = "" if options.output is None else "interrupted"
        raise CommandFailed(text, status)
    failures.report(len(rows), options.timeout)
    if rows:
        screen, took = Console(sys.stderr), in_short(time.monotonic() - began)
        said = f"{counted(len(rows), 'row')} completed in {took}; the results are in {options.out}"
        screen.line((f"{screen.symbols.good} {said}", "green"))


def _check_files(rows: str, out: str, journal: str) -> None:
    """Raise `CommandFailed` if files would overwrite each other or the journal is missing.

    The journal is missing if the results exist without it. A device, such as /dev/null, has none.
    """
    files = [path for path in (rows, out, journal) if path != "-"]
    pairs = [(one, two) for place, one in enumerate(files) for two in files[:place]]
    if any(_is_same(one, two) for one, two in pairs):
        raise CommandFailed("ROWS, --out and --journal must be three files", USAGE)
    if os.path.isfile(out) and not os.path.exists(journal):
        text = f"{out} exists, but its journal {journal} does not"
        hint = f"move {out} away, or name its --journal"
        raise CommandFailed(text, USAGE, hint=hint)


def _is_same(one: str, two: str) -> bool:
    """Return whether two paths name one file, which may not exist yet. Links are followed."""
    with suppress(OSError):
        return os.path.samefile(one, two)
    return os.path.realpath(one) == os.path.realpath(two)


def _run(
    outcomes: RunOutcomes,
    rows: Rows,
    view: _View,
    failures: _Failures,
    options: argparse.Namespace,
) -> Optional[Tuple[int, int]]:
    """Write each outcome to the results.

    After Ctrl-C or a signal, return how many executions still run, and the exit status; else
    `None`.
    """
    is_new = not os.path.exists(options.out)
    shown: List[Dict[str, Any]] = []
    results = None
    sheet = _Sheet(rows, options.columns)
    if options.output in ("json", "jsonl", "csv"):
        results = sheet.results(sys.stdout, options.output)
    file = _ResultsFile(options.out, sheet)
    try:
        with view:
            try:
                for outcome in outcomes:
                    line = _line(outcome)
                    file.add(line)
                    failures.add(line, outcome)
                    view.refused, view.unfinished = failures.refused, failures.unfinished
                    view.delivered(replayed=outcome.replayed)
                    if results is not None:
                        results.add(sheet.line(line) if options.output == "csv" else line)
                    elif options.output == "table":
                        shown.append(line)
            finally:
                view.stop(len(outcomes.in_flight))
        file.sort()
    except KeyboardInterrupt as interrupt:
        view.screen.show_cursor()
        return len(outcomes.in_flight), status_after(interrupt)
    finally:
        file.close()
        if is_new and rows and not file.count:
            with suppress(OSError):
                os.remove(options.out)
        if results is not None:
            results.close()
        if shown:
            shown.sort(key=itemgetter("row"))
            cells = [[_cell(line, name) for name in ("row", *COLUMNS)] for line in shown]
            headings = ["row", "execution id", *COLUMNS[1:]]
            Console(sys.stdout).table(headings, cells)
    return None


class _Sheet:
    """Results as lines of a sheet: its own columns in their order, and then those of results.

    With `outputs`, these outputs have columns of their own, in place of `outputs` as JSON. A name
    that the sheet has, too, begins with `flowmaestro.`.
    """

    def __init__(self, rows: Rows, outputs: Optional[List[str]]) -> None:
        self._rows = rows
        self._outputs = outputs
        names = COLUMNS if outputs is None else (*COLUMNS[:-1], *outputs)
        self._added = [f"flowmaestro.{name}" if name in rows.names else name for name in names]

    def results(self, out: TextIO, form: str) -> Results:
        """Return what writes results to `out`."""
        return Results(out, form, [*self._rows.names, *self._added], self._rows.delimiter)

    def line(self, line: Dict[str, Any]) -> Dict[str, Any]:
        """Return the cells of a result, by the names of their columns.

        A cell of the sheet is unchanged, except that a number which a spreadsheet could take for a
        formula, such as -5, is a number.
        """
        index: int = line["index"]
        inputs = line["inputs"]
        cells: Dict[str, Any] = dict(inputs)
        if self._rows.are_cells:
            cells = dict(zip(self._rows.names, self._rows.cells[index]))
            for name, text in cells.items():
                value = inputs.get(name.removesuffix(":="))
                if text.startswith(FORMULA_SIGNS) and isinstance(value, (int, float)):
                    cells[name] = value
        found = [line[name] for name in COLUMNS[:-1]]
        if self._outputs is None:
            found.append(line["outputs"])
        else:
            found += [mapping_or_empty(line["outputs"]).get(name) for name in self._outputs]
        return {**cells, **dict(zip(self._added, found))}


class _ResultsFile:
    """The file of `--out`. It is emptied before the first result is written, not when it is opened.

    Before the first result, `run_many` has checked that the journal belongs to these rows. Results
    are written as rows end, so that a killed command leaves them. `sort` then puts them into the
    order of the rows.
    """

    def __init__(self, path: str, sheet: _Sheet) -> None:
        self.count = 0
        self._places: List[Tuple[int, int]] = []
        """The index of each row, and where its result begins in the file, in bytes."""
        self._path = path
        self._sheet = sheet
        self._is_csv = path.lower().endswith(".csv")
        self._file: TextIO = open(path, "a", encoding="utf-8", newline="")  # noqa: SIM115
        self._results: Optional[Results] = None

    def add(self, line: Dict[str, Any]) -> None:
        """Write a result, and flush it. Raises `CommandFailed`, naming the file, if that fails."""
        try:
            if self._results is None:
                if os.path.isfile(self._path):  # A device, such as /dev/null, cannot be emptied.
                    self._file.truncate(0)
                if self._is_csv:
                    self._file.write("\ufeff")  # Without it, Excel does not read UTF-8.
                form = "csv" if self._is_csv else "jsonl"
                self._results = self._sheet.results(self._file, form)
            if os.path.isfile(self._path):
                # What was written is flushed. `tell` has the size at `open` until the first result.
                size = os.fstat(self._file.fileno()).st_size
                self._places.append((line["index"], size))
            self._results.add(self._sheet.line(line) if self._is_csv else line)
        except OSError as error:
            hint = "run the same command again to resume"
            raise CommandFailed(
                f"{self._path}: {error.strerror}", code="os_error", hint=hint
            ) from error
        self.count += 1

    def sort(self) -> None:
        """Close the file, and put its results into the order of the rows.

        If a sorted copy cannot be written beside it, leave the file as it is and say so.
        """
        self.close()
        if self._places == sorted(self._places):
            return
        path = os.path.realpath(self._path)  # A symbolic link stays one.
        try:
            self._replace_by_sorted(path)
        except OSError as error:
            said = f"{self._path}: its results stay in the order in which rows ended"
            Console(sys.stderr).line(f"{said}, because it cannot be replaced: {error.strerror}")

    def _replace_by_sorted(self, path: str) -> None:
        begins = [begin for _, begin in self._places]
        ends = [*begins[1:], os.path.getsize(path)]
        spans = sorted(zip((index for index, _ in self._places), begins, ends))
        with open(path, "rb") as results, replacing(path) as new:
            for begin, end in [(0, begins[0]), *(span[1:] for span in spans)]:
                results.seek(begin)
                new.write(results.read(end - begin))

    def close(self) -> None:
        """Close the file. Ignore errors: `add` flushes each result, and raises its error."""
        with suppress(OSError):
            self._file.close()


class _Failures:
    """The rows that did not complete, grouped by cause.

    Attributes:
        count: how many rows did not complete; `refused` rows are counted, `unfinished` ones are
            not.
        refused: how many rows the server refused to start.
        unfinished: how many rows have an execution that did not end within `--timeout`. It still
            runs, or is paused.

    """

    def __init__(self, out: str) -> None:
        self.count = self.refused = self.unfinished = 0
        self._paused = self._ended = 0
        self._out = out
        self._causes: Dict[str, List[Tuple[int, str]]] = defaultdict(list)

    def add(self, line: Dict[str, Any], outcome: RunOutcome) -> None:
        """Count the row unless its execution completed."""
        if outcome.ok:
            return
        if _is_unfinished(outcome):
            self.unfinished += 1
            self._paused += line["status"] == "paused"
            return
        self.count += 1
        self._ended += outcome.execution is not None
        self.refused += line["status"] == REFUSED
        error = outcome.error
        text = error.message if isinstance(error, FlowMaestroError) else line["error"]
        text = " ".join(str(text or line["status"]).split())
        text = f"refused: {text}" if line["status"] == REFUSED else text
        self._causes[_VARYING.sub("…", text)].append((line["row"], text))

    def print_causes(self) -> None:
        """Print the most frequent causes, each with its first rows."""
        screen = Console(sys.stderr)
        causes = sorted(self._causes.items(), key=lambda cause: -len(cause[1]))
        for pattern, found in causes[:MOST_CAUSES]:
            texts = {text for _, text in found}
            rows = ", ".join(str(row) for row, _ in sorted(found)[:3])
            label = "rows" if len(found) > 1 else "row"
            example = f"e.g. {label} {rows}" if len(found) > 3 else f"{label} {rows}"
            text = texts.pop() if len(texts) == 1 else pattern
            lead = f"{len(found):>5} {screen.symbols.times} "
            # 200 characters are two or three lines of a terminal.
            screen.line(lead, f"{text[:200]}, {example}", indent=len(lead))
        rest = len(causes) - MOST_CAUSES
        if rest > 0:
            screen.line(f"        and {counted(rest, 'other cause')}; {self._out} has them all")

    def report(self, total: int, timeout: float) -> None:
        """Raise `CommandFailed` if a row did not complete. Its `hint` may say what to do.

        `total` is the number of all rows, `timeout` the value of `--timeout` in seconds.
        """
        texts: List[str] = []
        hints: List[str] = []
        if self.count:
            texts.append(f"{self.count} of {counted(total, 'row')} did not complete")
        if self.unfinished:
            paused = f", {self._paused} of them paused" if self._paused else ""
            said = f"{self.unfinished} of {counted(total, 'row')} still running"
            texts.append(f"{said} after {timeout:g} s{paused}")
            hints.append("repeat the same command to wait on")
        if self._ended:
            hints.append("with --rerun, this command starts failed ones again")
        elif self.refused:
            hints.append("correct the refused rows: the same command starts them then")
        if self.count:
            text = f"{'; '.join(texts)}; see {self._out}"
            raise CommandFailed(text, code="rows_failed", hint="; ".join(hints))
        if self.unfinished:
            text = f"{texts[0]}; see {self._out}"
            raise CommandFailed(text, TIMED_OUT, hint=hints[0])


def _line(outcome: RunOutcome) -> Dict[str, Any]:
    """Return the result of a row as a dict, for a line of the results."""
    execution, error = outcome.execution, outcome.error
    status = None if execution is None else execution["status"]
    if error is not None and outcome.execution_id is None and _is_refusal(error):
        status = REFUSED  # type: ignore[assignment]
    if isinstance(error, TimeoutError) and error.last_execution is not None:
        status = error.last_execution.get("status")
    text = None if error is None else str(error)
    return {
        "row": outcome.index + 1,
        "index": outcome.index,
        "inputs": outcome.inputs,
        "execution_id": outcome.execution_id,
        "status": status,
        "outputs": outcome.outputs,
        "error": text if execution is None else execution["error"],
    }


def _is_unfinished(outcome: RunOutcome) -> bool:
    return isinstance(outcome.error, TimeoutError) and outcome.execution_id is not None


def _is_refusal(error: FlowMaestroError) -> bool:
    return error.status_code is not None and 400 <= error.status_code < 500


def _cell(line: Dict[str, Any], name: str) -> Text:
    value = line[name]
    if name == "status":
        return (str(value or "unknown"), _STYLES.get(value, "red"))
    return str(value) if name == "row" else written(value)


_STYLES = {"completed": "green", "cancelled": "yellow"}


class _View:
    """The progress of a batch, in plain lines: in a long batch, about one each 5 % of the rows."""

    def __init__(self, total: int, settle_after: float, screen: Console) -> None:
        self.refused = self.unfinished = 0
        self.screen = screen
        self._replayed, self._is_resumed = 0, False
        self._has_warned = False
        """Whether a line has said that the requests of the day will not suffice."""
        self._at = BatchProgress(0, 0, 0, total, None)
        self._total = total
        self._settle_after = settle_after
        self._doubted_at = time.monotonic()

    def __enter__(self) -> None:
        """Begin to show the progress."""

    def __exit__(self, *exc: object) -> None:
        """Stop showing the progress."""

    def update(self, at: BatchProgress) -> None:
        """Store the progress `at`. If the number of rows in doubt has changed, show it.

        After the end of a row, `delivered` is called next and shows the progress. While rows are
        settled, the same progress comes every second: one line of it is enough.
        """
        is_of_a_row = at.done > self._at.done or at.in_doubt == self._at.in_doubt
        if at.day_ends_after is not None and not self._has_warned:
            self._has_warned = True
            self.screen.line(day_ends(at))
        self._at = at
        if not is_of_a_row:
            self._show_progress()

    def delivered(self, *, replayed: bool) -> None:
        """Show the progress after a row has ended, if a line is due.

        Rows whose outcome is that of an earlier command (`replayed`) get no lines of their own. One
        line, before those of other rows, says how many they are. If such a row is the last one, the
        line of the end is shown, unless all rows were done before.
        """
        self._replayed += replayed
        if replayed and self._at.done < self._total:
            return
        if self._replayed and not self._is_resumed:
            self._is_resumed = True
            were = "was" if self._replayed == 1 else "were"
            said = f"{counted(self._replayed, 'row')} {were} done before"
            self.screen.line(f"{said}, {self._total - self._replayed} to go")
        if self._replayed < self._total:
            self._show_progress()

    def _show_progress(self) -> None:
        at = self._at
        # In a log, a line for each twentieth of the rows is enough.
        if at.done % max(self._total // 20, 1) == 0 or at.done + at.in_doubt == self._total:
            self.screen.line(f"{at.done} of {self._total}, {', '.join(self._parts())}")

    def responded(self, info: ResponseInfo) -> None:
        """Store the time if a POST got no response or a 5xx: its row may then be in doubt.

        From this time, the view counts down to the search for rows that may have been started.
        """
        if info.request.method == "POST" and (info.status is None or info.status >= 500):
            self._doubted_at = time.monotonic()

    def stop(self, running: int) -> None:
        """Store how many executions still run when the command ends, for the bar's last frame."""
        self._at = replace(self._at, in_flight=running, seconds_left=None)

    def _parts(self) -> List[str]:
        """Return the parts of the status line, such as `2 failed`, the most important first."""
        at = self._at
        parts = [f"{max(at.failed - self.refused - self.unfinished, 0)} failed"]
        parts += [f"{self.refused} refused"] if self.refused else []
        parts += [f"{self.unfinished} timed out"] if self.unfinished else []
        parts += [f"{at.in_flight} running"] if at.in_flight else []
        if at.in_doubt and at.done + at.in_doubt == at.total:
            left = max(self._doubted_at + self._settle_after - time.monotonic(), 0)
            look = f" in {in_short(int(left))}" if left >= 1 else ""
            return [*parts, f"{at.in_doubt} may have been started, looking{look}"]
        left = at.seconds_left or 0.0
        return [*parts, *([f"{in_short(int(left))} left"] if left >= 1 else [])]


class _LiveView(_View):
    """The progress of a batch as a bar, on one line that fits the terminal."""

    def __init__(self, total: int, settle_after: float, screen: Console) -> None:
        super().__init__(total, settle_after, screen)
        self._live = screen.live(self._bar)

    def __enter__(self) -> None:
        """Begin to draw the bar."""
        self._live.start()

    def __exit__(self, *exc: object) -> None:
        """Stop drawing the bar. The last one stays on the screen."""
        self._live.stop()

    def _show_progress(self) -> None:
        """Draw nothing: the next frame of the bar shows the progress."""

    def _bar(self) -> Any:
        from rich.table import Table

        columns = (self.screen.width or 80) - 2  # Leaves room for the `^C` of a terminal.
        count = f" {self._at.done}/{self._total} "
        room = columns - len(count) - 5  # The bar has at least 5 columns.
        spans: List[Text] = []
        for part in self._parts():
            part = f", {part}" if spans else part
            if text_width(part) > room:
                break
            room -= text_width(part)
            is_bad = re.match(r"(, )?[1-9]\d* (failed|refused)", part)
            spans.append((part, "red" if is_bad else ""))
        width = min(room + 5, 40)
        is_good = self._at.done == self._total and not self._at.failed
        style = "green" if is_good else "cyan"
        bar = self.screen.bar(self._total, self._at.done, width, style)
        grid = Table.grid()
        grid.add_row(bar, self.screen.styled((count, "bold"), *spans))
        return grid


def _view(total: int, options: argparse.Namespace) -> _View:
    """Return the best view that standard error allows.

    If `--output` writes each result to a terminal at once, the progress is plain lines, because
    results would interrupt a bar.
    """
    screen = Console(sys.stderr)
    is_free = options.output in (None, "table") or not sys.stdout.isatty()
    if screen.is_live and is_free:
        return _LiveView(total, options.settle_after, screen)
    return _View(total, options.settle_after, screen)
