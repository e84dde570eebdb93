"""`run`, `watch`, `cancel` and `fire`: executions."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from pathlib import Path
from typing import Any, Deque, Mapping, cast

from flowmaestro import FlowMaestroClient, TimeoutError
from flowmaestro.cli import FAILED, INTERRUPTED, TIMED_OUT, CommandFailed, session
from flowmaestro.cli.console import console
from flowmaestro.cli.run_view import RunView, run_view
from flowmaestro.timeline import timeline_svg
from flowmaestro.types import Execution

MOST_EVENTS = 10_000
"""How many events a timeline is drawn from: the last ones."""


def run_command(options: argparse.Namespace) -> None:
    """Start an execution and follow it; its outputs go to standard output."""
    inputs, view = session.inputs_of(options), run_view()
    _open_timeline(options)
    with session.client_for(options) as client:
        session.check_workflow_inputs(client, options.workflow, options)(inputs)
        started = client.workflows.execute(options.workflow, inputs=inputs)["data"]
        if options.detach:
            _print_started(started, options)
        else:
            execution = _follow(client, started["execution_id"], view, options)
            _end(execution, view, options)


def watch_command(options: argparse.Namespace) -> None:
    """Follow an execution that somebody started."""
    view = run_view()
    _open_timeline(options)
    with session.client_for(options) as client:
        client.executions.get(options.execution)  # an unknown id is told before any drawing
        _end(_follow(client, options.execution, view, options), view, options)


def cancel_command(options: argparse.Namespace) -> None:
    """Cancel an execution."""
    with session.client_for(options) as client:
        cancelled = client.executions.cancel(options.execution)["data"]
    if options.json:
        session.print_json(cancelled)
    else:
        print(f"{options.execution} is {cancelled['status']}")


def fire_command(options: argparse.Namespace) -> None:
    """Fire a trigger; the id of its execution goes to standard output."""
    inputs = session.inputs_of(options)
    with session.client_for(options) as client:
        _print_started(client.triggers.execute(options.trigger, inputs=inputs)["data"], options)


def _print_started(started: Mapping[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        session.print_json(started)
    else:
        print(started["execution_id"])


def _follow(
    client: FlowMaestroClient, execution_id: str, view: RunView, options: argparse.Namespace
) -> Execution:
    """The ended execution."""
    events: Deque[Mapping[str, Any]] = deque(maxlen=MOST_EVENTS)
    view.execution_id = execution_id
    try:
        with view:
            for event in client.executions.stream(execution_id, timeout=options.timeout):
                view.show(event)
                events.append(cast("Mapping[str, Any]", event))
                if options.json and options.command == "watch":
                    session.print_json(event)
        execution = client.executions.get(execution_id)["data"]
    except KeyboardInterrupt:
        _say_how_to_go_on(execution_id)
        raise CommandFailed(status=INTERRUPTED) from None
    except TimeoutError as error:
        if error.execution_id is None:
            raise  # of one request, not of `--timeout`
        _say_how_to_go_on(execution_id)
        text = f"it did not end within {options.timeout:g} s"
        raise CommandFailed(text, TIMED_OUT) from error
    if options.timeline is not None:
        svg = timeline_svg(events, execution=cast("Mapping[str, Any]", execution))
        Path(options.timeline).write_text(svg, "utf-8")
    return execution


def _end(execution: Execution, view: RunView, options: argparse.Namespace) -> None:
    """Print the result; `CommandFailed` unless the execution completed."""
    if options.json and options.command == "run":
        session.print_json(execution)
    elif not options.json and execution["status"] == "completed":
        session.print_result(execution["outputs"])
    if execution["status"] != "completed":
        said = {"failed": "failed", "cancelled": "was cancelled"}
        text = f"the execution {execution['id']} {said.get(execution['status'], 'did not end')}"
        text += f" at the node {', '.join(view.failed)}" if view.failed else ""
        text += f": {execution['error']}" if execution["error"] else ""
        raise CommandFailed(text, FAILED)


def _open_timeline(options: argparse.Namespace) -> None:
    """Raise what stands in the way of the file before anything is started."""
    if options.timeline is not None:
        Path(options.timeline).touch()


def _say_how_to_go_on(execution_id: str) -> None:
    screen = console(sys.stderr)
    screen.line("The execution runs on.")
    screen.copyable(f"  watch it:  flowmaestro watch {execution_id}")
    screen.copyable(f"  cancel it: flowmaestro cancel {execution_id}")
