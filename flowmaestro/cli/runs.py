"""`run`, `watch`, `cancel` and `fire`: executions."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Optional

from flowmaestro import FlowMaestroClient, Hooks, errors
from flowmaestro.cli import INTERRUPTED, TIMED_OUT, USAGE, CommandFailed, session
from flowmaestro.cli.console import console
from flowmaestro.cli.run_view import RunView, run_view
from flowmaestro.timeline import timeline_svg
from flowmaestro.types import Execution


def run_command(options: argparse.Namespace) -> Any:
    """Start an execution and follow it; its outputs go to standard output."""
    inputs, view = session.inputs_of(options), run_view()
    if options.detach and options.timeline is not None:
        raise CommandFailed("--detach leaves before there is a --timeline", USAGE)
    with session.client_for(options, Hooks(retry=view.retrying)) as client:
        session.check_workflow_inputs(client, options, [("", inputs)])
        started = client.workflows.execute(options.workflow, inputs=inputs)["data"]
        if options.detach:
            return session.shown(started["execution_id"], started, options)
        return _end(_follow(client, started["execution_id"], view, options), view, options)


def watch_command(options: argparse.Namespace) -> None:
    """Follow an execution that somebody started."""
    view = run_view()
    with session.client_for(options, Hooks(retry=view.retrying)) as client:
        client.executions.get(options.execution)  # an unknown id is told before any drawing
        _end(_follow(client, options.execution, view, options), view, options)


def cancel_command(options: argparse.Namespace) -> Any:
    """Cancel an execution."""
    with session.client_for(options) as client:
        cancelled = client.executions.cancel(options.execution)["data"]
    return session.shown(f"{options.execution} is {cancelled['status']}", cancelled, options)


def fire_command(options: argparse.Namespace) -> Any:
    """Fire a trigger; the id of its execution goes to standard output."""
    inputs = session.inputs_of(options)
    with session.client_for(options) as client:
        started = client.triggers.execute(options.trigger, inputs=inputs)["data"]
    return session.shown(started["execution_id"], started, options)


def _follow(
    client: FlowMaestroClient, execution_id: str, view: RunView, options: argparse.Namespace
) -> Execution:
    """The ended execution; its timeline is written also where it is left running."""
    execution: Optional[Execution] = None
    view.execution_id = execution_id
    stream = client.executions.stream(execution_id, timeout=options.timeout)
    try:
        with view:
            for event in stream:
                view.show(event)
                if options.json and options.command == "watch":
                    session.print_json(event)
            execution = client.executions.wait_for_completion(execution_id)  # it may lag behind
            view.end(execution, stream.seen_events or ())
        return execution
    except KeyboardInterrupt:
        raise _left(view, "", INTERRUPTED) from None
    except errors.NotFoundError:
        raise  # it is gone, and cannot be gone on with
    except errors.FlowMaestroError as error:
        failure = _left(view, f"it did not end within {options.timeout:g} s", TIMED_OUT)
        if not isinstance(error, errors.TimeoutError) or error.attempts:  # not of `--timeout`
            raise
        raise failure from error
    finally:
        if options.timeline is not None:
            now, seen = time.monotonic() + view.ahead, execution or stream.last_seen
            svg = timeline_svg(stream.seen_events, execution=seen, now=now)
            try:
                Path(options.timeline).write_text(svg, "utf-8")
            except OSError as problem:
                if execution is not None:
                    raise
                console(sys.stderr).line(f"{options.timeline}: {problem.strerror or problem}")


def _end(execution: Execution, view: RunView, options: argparse.Namespace) -> Execution:
    """Print the result; `CommandFailed` unless the execution completed."""
    if execution["status"] != "completed":
        said = {"failed": "failed", "cancelled": "was cancelled"}
        text = f"the execution {execution['id']} {said.get(execution['status'], 'did not end')}"
        text += f" at the node {', '.join(view.failed)}" if view.failed else ""
        text += f": {execution['error']}" if execution["error"] else ""
        raise CommandFailed(text, document=execution)
    if not options.json:
        session.print_result(execution["outputs"])
    return execution


def _left(view: RunView, text: str, status: int) -> CommandFailed:
    """Say how to go on with an execution that is left; one that is paused cannot be cancelled."""
    screen, is_paused = console(sys.stderr), view.status == "paused"
    screen.line(f"The execution {'waits for a human' if is_paused else 'runs on'}.")
    screen.copyable(f"  watch it:  flowmaestro watch {view.execution_id}")
    if not is_paused:
        screen.copyable(f"  cancel it: flowmaestro cancel {view.execution_id}")
    document = {"error": text, "exit_status": status, "execution_id": view.execution_id}
    return CommandFailed(text, status, document)
