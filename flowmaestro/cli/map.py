"""`map`: a workflow for each row of a file, with a journal; the same command again goes on."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import contextmanager
from typing import Any, Callable, Dict, Generator

from flowmaestro.cli import INTERRUPTED, USAGE, CommandFailed
from flowmaestro.cli.console import RichConsole, console
from flowmaestro.cli.session import check_workflow_inputs, client_for, json_line, print_json
from flowmaestro.input_files import read_rows
from flowmaestro_core.executions.outcome import BatchProgress, RunOutcome


def map_command(options: argparse.Namespace) -> None:
    """Run the rows; `CommandFailed` if one of them did not complete."""
    journal = options.journal or f"{options.out}.journal"
    if len({os.path.realpath(path) for path in (options.rows, options.out, journal)}) < 3:
        raise CommandFailed("ROWS, --out and --journal must be three files", USAGE)
    is_new = not os.path.exists(options.out)
    if not is_new and not os.path.exists(journal):
        text = f"{options.out} is there and {journal} is not; move it away, or name its --journal"
        raise CommandFailed(text, USAGE)
    rows = read_rows(options.rows)
    if not rows:
        console(sys.stderr).line(f"{options.rows} has no rows")
    bad = written = 0
    with client_for(options) as client:
        named = ((f"{options.rows}, row {number}: ", row) for number, row in enumerate(rows, 1))
        check_workflow_inputs(client, options, named)
        with _progress(len(rows)) as show:
            outcomes = client.workflows.run_many(
                options.workflow,
                rows,
                journal=journal,
                rerun=("failed", "cancelled") if options.rerun else (),
                concurrency=options.concurrency,
                timeout=options.timeout,
                settle_after=options.settle_after,
                progress=show,
            )
            try:
                with outcomes, open(options.out, "a", encoding="utf-8") as out:
                    for outcome in outcomes:
                        if not written:  # the journal is that of these rows
                            out.truncate(0)
                        line = _line(outcome)
                        print(json_line(line), end="", file=out, flush=True)
                        bad += not outcome.ok
                        written += 1
                        if options.json:
                            print_json(line)
            except KeyboardInterrupt:
                said = f"{len(outcomes.in_flight)} executions run on; the same command goes on."
                console(sys.stderr).line(said)
                raise CommandFailed(status=INTERRUPTED) from None
            finally:
                if is_new and rows and os.path.exists(options.out) and not written:
                    os.remove(options.out)
    if bad:
        text = f"{bad} of {len(rows)} rows did not complete; see {options.out}"
        raise CommandFailed(f"{text}; with --rerun, this command starts failed ones again")


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
        if at.done % max(total // 20, 1) == 0 or at.done + at.in_doubt == total:
            screen.line(f"{at.done} of {total}, {_said(at)}")

    yield show


def _said(at: BatchProgress) -> str:
    text = f"{at.failed} failed" + (f", {at.in_flight} running" if at.in_flight else "")
    if at.done + at.in_doubt == at.total and at.in_doubt:
        return f"{text}; looking for {at.in_doubt} that may have been started"
    return text + (f", about {at.seconds_left:.0f} s left" if at.seconds_left else "")
