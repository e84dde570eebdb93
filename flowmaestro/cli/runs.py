"""`run`, `watch`, `cancel` and `fire`: executions."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generator, List, Mapping, Optional, Union, cast

from flowmaestro import Checkpoint, FlowMaestroClient, Hooks, errors
from flowmaestro.cli import (
    NOT_FOUND,
    TIMED_OUT,
    USAGE,
    CommandFailed,
    output,
    session,
    status_after,
)
from flowmaestro.cli.console import Console
from flowmaestro.cli.entry import sdk_failure
from flowmaestro.cli.resources import ago
from flowmaestro.cli.run_view import LiveRunView, RunView, run_view
from flowmaestro.cli.state import last_execution, remember_execution, remember_ids
from flowmaestro.timeline import timeline_svg
from flowmaestro.types import EndedExecution, EventStream, Execution, ExecutionEvent
from flowmaestro_core.http.dates import parse_timestamp
from flowmaestro_core.payloads.shapes import is_terminal

_JSON = ("json", "jsonl")


def run_command(options: argparse.Namespace) -> None:
    """Start an execution, follow it, and print its outputs on standard output.

    With `-o json` or `jsonl`, print the whole execution instead. With `--detach`, print its id
    (with `-o json` or `jsonl`, the server's reply), and do not follow it. If `--checkpoint` holds
    an execution that was started before, follow that one, and start none, unless `--rerun` asks for
    it.

    Raises `CommandFailed` if a followed execution did not complete, or not within `--timeout`, and
    after a Ctrl-C while it is started or followed.
    """
    inputs, view = session.inputs_of(options), run_view()
    if options.detach and options.timeline is not None:
        raise CommandFailed("--timeline cannot be combined with --detach", USAGE)
    if options.rerun and options.checkpoint is None:
        raise CommandFailed("--rerun needs a --checkpoint", USAGE)
    with session.client_for(options, Hooks(retry=view.retrying)) as client:
        workflow_id, name = session.find(client, "workflow", options.workflow)
        workflow = session.workflow_schema(client, options, workflow_id)
        session.check_all_inputs(workflow, [("", inputs)])
        kept = _checkpoint_of(options)
        with _maybe_started(f"--workflow {workflow_id} ", options):
            reply = client.workflows.execute(workflow_id, inputs=inputs, checkpoint=kept)
        started: Mapping[str, Any] = {**reply["data"]}
        execution_id = _started_id(started, options)
        remember_execution(session.root_of(options), execution_id)
        place = session.place_of(options)
        remember_ids(place, "executions", [execution_id])
        remember_ids(place, "workflows", [workflow_id])
        # Not `completed_at`: it stays null if the execution was cancelled.
        was_ended = kept is not None and is_terminal(started)
        if was_ended:
            _report_earlier_end(started, options)
        if options.detach:
            _print_started(execution_id, started, options)
            return
        if was_ended:
            _end(client.executions.get(execution_id)["data"], view, options)
            return
        view.workflow = str(workflow.get("name") or name)
        _follow(client, execution_id, view, options)


def _checkpoint_of(options: argparse.Namespace) -> Optional[Checkpoint]:
    """Return the checkpoint of `--checkpoint`, or `None` without the option.

    If its execution may have been started before, write to standard error in how many seconds the
    SDK will look for it.
    """
    if options.checkpoint is None:
        return None
    rerun: Any = ("failed", "cancelled") if options.rerun else ()
    kept = Checkpoint.file(options.checkpoint, rerun=rerun)
    with suppress(
        OSError, ValueError, AttributeError, RecursionError
    ):  # The client reports what is wrong.
        state = json.loads(Path(options.checkpoint).read_bytes())
        if state.get("state") == "starting":
            text = f"may have been started before; looking for it in {kept.settle_after:g} s"
            Console(sys.stderr).line(text)
    return kept


def _report_earlier_end(execution: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Write on standard error that the execution had ended before this command, and when."""
    when = "before"
    with suppress(ValueError):
        when = ago(time.time() - parse_timestamp(str(execution["completed_at"])))
    Console(sys.stderr).line(
        f"ended {when}; nothing was started; "
        f"delete {options.checkpoint} or name another for a new run"
    )


def watch_command(options: argparse.Namespace) -> None:
    """Show the events of an earlier execution until it has ended, and print its outputs.

    With `--json`, print the events instead of the outputs. Raises `CommandFailed` if the execution
    did not complete, or not within `--timeout`, and after a Ctrl-C while it is followed.
    """
    view = run_view(prints_events=options.output is not None)
    with session.client_for(options, Hooks(retry=view.retrying)) as client:
        execution_id = _execution_to_watch(client, options)
        # An unknown id is reported before anything is drawn.
        execution = cast("Mapping[str, Any]", client.executions.get(execution_id)["data"])
        if isinstance(view, LiveRunView):
            view.workflow = _workflow_name(client, execution.get("workflow_id"))
        _follow(client, execution_id, view, options)


def cancel_command(options: argparse.Namespace) -> None:
    """Cancel executions. If one cannot be cancelled, cancel the others all the same.

    Then raise `CommandFailed` at the end. If only one was to be cancelled, raise its error.
    """
    failed = 0
    replies: List[Any] = []
    with session.client_for(options) as client:
        for execution_id in options.execution:
            try:
                reply = client.executions.cancel(execution_id)["data"]
            except (errors.FlowMaestroError, ValueError) as error:  # ValueError: an empty id.
                if len(options.execution) == 1:
                    raise
                failed += 1
                text = str(error)
                if isinstance(error, errors.FlowMaestroError):
                    text = f"{execution_id}: {sdk_failure(error, ('cancel',), options).text}"
                Console(sys.stderr).line(text)
                continue
            replies.append(reply)
            if options.output is None:
                session.print_server_text(f"{execution_id} is {reply['status']}")
    if options.output is not None:
        output.print_json(replies)
    if failed:
        text = f"{failed} of {len(options.execution)} could not be cancelled"
        raise CommandFailed(text)


def fire_command(options: argparse.Namespace) -> None:
    """Fire a trigger, and print the id of its execution, or with `--json` the server's reply."""
    inputs = session.inputs_of(options)
    with session.client_for(options) as client:
        trigger_id = session.find(client, "trigger", options.trigger).id
        with _maybe_started("", options):
            started = client.triggers.execute(trigger_id, inputs=inputs)["data"]
        execution_id = _started_id(cast("Mapping[str, Any]", started), options)
        remember_execution(session.root_of(options), execution_id)
        remember_ids(session.place_of(options), "executions", [execution_id])
    _print_started(execution_id, started, options)


def _started_id(started: Mapping[str, Any], options: argparse.Namespace) -> str:
    """Return the id of the execution that a start has returned. Raise `CommandFailed` without one.

    Otherwise a script would take the word `None` for an id.
    """
    execution_id: Any = started.get("execution_id")
    if isinstance(execution_id, str) and execution_id:
        return execution_id
    text = "the server's response names no execution; one may have been started"
    hint = f"look with: flowmaestro list executions --since 5m{session.server_words(options)}"
    raise CommandFailed(text, hint=hint)


def _print_started(execution_id: str, reply: Any, options: argparse.Namespace) -> None:
    if options.output in _JSON:
        output.print_json(reply)
    else:
        session.print_server_text(execution_id)


@contextmanager
def _maybe_started(which: str, options: argparse.Namespace) -> Generator[None, None, None]:
    """Raise `CommandFailed` for a Ctrl-C in a `with` block that starts an execution.

    The error says that the execution may have been started, and which command looks for it. `which`
    is text to insert into that command: an option and a space, or "".
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        words = f"{which}--since 5m{session.server_words(options)}"
        hint = f"look with: flowmaestro list executions {words}"
        text = "interrupted; the execution may have been started"
        raise CommandFailed(text, status_after(interrupt), hint=hint) from None


def _workflow_name(client: FlowMaestroClient, workflow_id: Any) -> str:
    """Return the name of a workflow; "" if it has none, or the first attempt to get it fails."""
    if isinstance(workflow_id, str):  # Some executions have none.
        with suppress(errors.FlowMaestroError, ValueError):
            asking = client.with_options(max_retries=0)
            return str(asking.workflows.get(workflow_id)["data"]["name"] or "")
    return ""


def _execution_to_watch(client: FlowMaestroClient, options: argparse.Namespace) -> str:
    """Return the id of the execution that the user named: by id, `--last` or `--workflow`.

    Raises `CommandFailed` unless exactly one of them is given, and if there is no such execution.
    An id is not looked up.
    """
    ways = (options.execution is not None) + options.last + (options.workflow is not None)
    if ways != 1:
        raise CommandFailed("name one execution: its id, --last or --workflow", USAGE)
    if options.execution is not None:
        return str(options.execution)
    chosen: Optional[str]
    if options.workflow is not None:
        workflow_id = session.find(client, "workflow", options.workflow).id
        found = client.executions.list(workflow_id=workflow_id, per_page=1)["data"]
        chosen = next((row["id"] for row in session.objects(found)), None)
        missing = f"the workflow {options.workflow} has no executions"
    else:
        chosen = last_execution(session.root_of(options))
        missing = "no execution was started from this machine on this server"
    if chosen is None:
        hint = "`flowmaestro list executions` shows what runs"
        raise CommandFailed(missing, NOT_FOUND, hint=hint)
    return chosen


def _follow(
    client: FlowMaestroClient, execution_id: str, view: RunView, options: argparse.Namespace
) -> None:
    """Follow the execution, and print its result.

    Raises `CommandFailed` if the execution does not complete, after `--timeout`, and after Ctrl-C.
    The file of `--timeline` is written then, too. It is written last, so that no problem with it
    loses the outputs. If it cannot be written, an `OSError` is raised unless there is another
    error.
    """
    execution: Optional[EndedExecution] = None
    view.execution_id = execution_id
    stream = client.executions.stream(execution_id, timeout=options.timeout)
    view.follow(stream)
    try:
        execution = _wait(client, stream, view, options)
        _end(execution, view, options)
    except BaseException:
        try:
            _draw_timeline(stream, execution, view, options)
        except OSError as problem:  # The other failure says more.
            Console(sys.stderr).line(f"{options.timeline}: {problem.strerror or problem}")
        raise
    _draw_timeline(stream, execution, view, options)


def _wait(
    client: FlowMaestroClient,
    stream: EventStream[ExecutionEvent],
    view: RunView,
    options: argparse.Namespace,
) -> EndedExecution:
    """Show the events of the execution, and return it when it has ended."""
    try:
        with view:
            for event in stream:
                view.show(event)
                if options.command == "watch" and options.output is not None:
                    fields = output.event_fields(cast("Mapping[str, Any]", event))
                    output.print_json_line(fields)
            # The reply may lag behind the terminal event.
            execution = client.executions.wait_for_completion(view.execution_id)
            view.end(execution, stream.seen_events or ())
        return execution
    except KeyboardInterrupt as interrupt:
        view.screen.show_cursor()
        text = "" if options.output is None else "interrupted"
        raise _left(view, options, text, status_after(interrupt)) from None
    except errors.NotFoundError:
        raise  # The execution is gone: there is nothing to watch or cancel.
    except errors.FlowMaestroError as error:
        if not isinstance(error, errors.TimeoutError) or error.attempts:  # Not of `--timeout`.
            _say_how_to_continue(view, options)
            raise
        text = f"the execution did not end within {options.timeout:g} s"
        raise _left(view, options, text, TIMED_OUT) from error


def _draw_timeline(
    stream: EventStream[ExecutionEvent],
    execution: Optional[EndedExecution],
    view: RunView,
    options: argparse.Namespace,
) -> None:
    """Write the file of `--timeline`, if it is given."""
    if options.timeline is not None:
        now, known = time.monotonic() + view.ahead, {"id": view.execution_id}
        if view.workflow:
            known["workflow_name"] = view.workflow
        about = {**(execution or stream.last_seen or {}), **known}
        svg = timeline_svg(stream.seen_events, execution=about, now=now)
        Path(options.timeline).write_text(svg, "utf-8")


def _end(
    execution: Union[Execution, EndedExecution], view: RunView, options: argparse.Namespace
) -> None:
    """Print the result of an ended execution. Raise `CommandFailed` unless it completed.

    For `watch --json`, which has printed the events, print nothing.
    """
    outputs = execution["outputs"]
    if options.command == "run" and options.output == "json":
        output.print_json(execution)
    elif options.command == "run" and options.output == "jsonl":
        output.print_json_line(execution)
    if execution["status"] != "completed":
        said = {"failed": "failed", "cancelled": "was cancelled"}
        which = f" {execution['id']}" if options.output in _JSON else ""
        text = f"the execution{which} {said.get(execution['status'], 'did not end')}"
        text += f" at the node {', '.join(view.failed)}" if view.failed else ""
        text += f": {execution['error']}" if execution["error"] else ""
        code = f"execution_{execution['status']}"
        is_kept = options.command == "run" and options.checkpoint is not None
        hint = "with --rerun, this command starts it again" if is_kept else ""
        if options.output not in _JSON:
            screen = Console(sys.stderr)
            screen.line((f"flowmaestro {options.command}: {text}", "red"))
            if hint:
                screen.line(f"{hint[0].upper()}{hint[1:]}.")
            words = execution["id"] + session.server_words(options)
            screen.command("  look at it: ", f"flowmaestro get executions {words}")
            text = ""
        raise CommandFailed(text, code=code, hint=hint, execution_id=execution["id"])
    if options.output == "table" and isinstance(outputs, dict):
        output.print_fields(outputs)
    elif options.output not in _JSON:
        output.print_text(outputs)


def _say_how_to_continue(view: RunView, options: argparse.Namespace) -> None:
    """Print the commands to watch or cancel an execution that still runs.

    A paused execution cannot be cancelled, so only the first command is printed for it.
    """
    screen, is_paused = Console(sys.stderr), view.status == "paused"
    waits = "is paused: it waits for a person, who answers in FlowMaestro, not through the API"
    screen.line(f"The execution {waits if is_paused else 'is still running'}.")
    words = view.execution_id + session.server_words(options)
    screen.command("  watch it:  ", f"flowmaestro watch {words}")
    if not is_paused:
        screen.command("  cancel it: ", f"flowmaestro cancel {words}")


def _left(view: RunView, options: argparse.Namespace, text: str, status: int) -> CommandFailed:
    _say_how_to_continue(view, options)
    return CommandFailed(text, status, execution_id=view.execution_id)
