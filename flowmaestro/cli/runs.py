"""`run`, `watch`, `cancel` and `fire`: executions."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from typing import Any, Deque, Dict, Mapping, Optional, cast

from flowmaestro import FlowMaestroClient, TimeoutError
from flowmaestro.cli import FAILED, INTERRUPTED, TIMED_OUT, CommandFailed
from flowmaestro.cli.console import console
from flowmaestro.cli.run_view import RunView, run_view
from flowmaestro.cli.session import (
    check_workflow_inputs,
    client_for,
    inputs_of,
    print_json,
    written,
)
from flowmaestro.timeline import timeline_svg

MOST_EVENTS = 10_000
"""How many events a timeline is drawn from: the last ones."""


def run_command(options: argparse.Namespace) -> None:
    """Start an execution and follow it; its outputs go to standard output."""
    inputs = inputs_of(options)
    with client_for(options) as client:
        check_workflow_inputs(client, options.workflow, options)(inputs)
        started = client.workflows.execute(options.workflow, inputs=inputs)["data"]
        execution_id = started["execution_id"]
        if options.detach:
            if options.json:
                print_json(started)
            else:
                print(execution_id)
            return
        execution = _follow(client, execution_id, options)
        if options.json:
            print_json(execution)
        elif execution["status"] == "completed":
            print(written(execution["outputs"]))


def watch_command(options: argparse.Namespace) -> None:
    """Follow an execution that somebody started."""
    with client_for(options) as client:
        client.executions.get(options.execution)  # an unknown id is told before any drawing
        execution = _follow(client, options.execution, options, as_json=options.json)
        if execution["status"] == "completed" and not options.json:
            print(written(execution["outputs"]))


def cancel_command(options: argparse.Namespace) -> None:
    """Cancel an execution."""
    with client_for(options) as client:
        cancelled = client.executions.cancel(options.execution)["data"]
    if options.json:
        print_json(cancelled)
    else:
        print(f"{options.execution} is {cancelled['status']}")


def fire_command(options: argparse.Namespace) -> None:
    """Fire a trigger; the id of its execution goes to standard output."""
    inputs = inputs_of(options)
    with client_for(options) as client:
        started = client.triggers.execute(options.trigger, inputs=inputs)["data"]
    if options.json:
        print_json(started)
    else:
        print(started["execution_id"])


def _follow(
    client: FlowMaestroClient,
    execution_id: str,
    options: argparse.Namespace,
    as_json: bool = False,
) -> Dict[str, Any]:
    """The ended execution; `CommandFailed` unless it completed."""
    events: Deque[Mapping[str, Any]] = deque(maxlen=MOST_EVENTS)
    view: Optional[RunView] = None
    try:
        with run_view(execution_id) as view:
            for event in client.executions.stream(execution_id, timeout=options.timeout):
                view.show(event)
                events.append(cast("Mapping[str, Any]", event))
                if as_json:
                    print_json(event)
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
        _draw(options.timeline, timeline_svg(events, execution=execution))
    if execution["status"] != "completed":
        if getattr(options, "json", False) and not as_json:
            print_json(execution)
        raise CommandFailed(_failure(cast("Mapping[str, Any]", execution), view), FAILED)
    return cast("Dict[str, Any]", execution)


def _draw(path: str, svg: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(svg)
    except OSError as error:
        raise CommandFailed(f"--timeline {path}: {error.strerror}") from error


def _failure(execution: Mapping[str, Any], view: RunView) -> str:
    what = {"failed": "failed", "cancelled": "was cancelled"}.get(
        execution["status"], "did not end"
    )
    where = f" at the node {', '.join(dict.fromkeys(view.failed))}" if view.failed else ""
    why = f": {execution['error']}" if execution["error"] else ""
    return f"the execution {execution['id']} {what}{where}{why}"


def _say_how_to_go_on(execution_id: str) -> None:
    screen = console(sys.stderr)
    screen.line("The execution runs on.")
    screen.copyable(f"  watch it:  flowmaestro watch {execution_id}")
    screen.copyable(f"  cancel it: flowmaestro cancel {execution_id}")
