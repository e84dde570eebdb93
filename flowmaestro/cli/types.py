"""`types`: a file with the types of your own workflows, and its comparison with the server."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from flowmaestro.cli import FAILED, RATE_LIMIT, USAGE, CommandFailed
from flowmaestro.cli.account import PER_PAGE, Account, Rows, read_account
from flowmaestro.cli.console import Console
from flowmaestro.cli.entry import sdk_failure
from flowmaestro.cli.output import replacing
from flowmaestro.cli.pins import Pins, pins_of, read_pins
from flowmaestro.cli.session import Found, client_for, meant
from flowmaestro.errors import FlowMaestroError
from flowmaestro.input_files import counted
from flowmaestro.workflow_types.changes import Change, changes_of, new_workflows
from flowmaestro.workflow_types.evidence import (
    DECLARED,
    KNOWN,
    PINNED,
    SEEN,
    UNKNOWN,
    WorkflowTypes,
    types_of,
    with_pins,
)
from flowmaestro.workflow_types.names import names_of
from flowmaestro.workflow_types.read_back import FileOfTypes, is_ours, read_source
from flowmaestro.workflow_types.source import write_source
from flowmaestro_core.payloads.json_values import text_or_empty

MANY = 50
"""So many requests are most of what a free key may send in a minute. More are announced."""


def types_command(options: argparse.Namespace) -> None:
    """Write a file with the types of workflows, or with `--check` compare it with the server.

    Raises `CommandFailed` if the file is not one of types, or the key may not list workflows; and
    with `--check` for changes that break callers (status 1), and for any other reason (status 2).
    """
    if not options.check:
        _write(options)
        return
    try:
        changes = _changes(options)
    except FlowMaestroError as error:
        text = sdk_failure(error, ("types",), options).text
        raise CommandFailed(text, USAGE, code="not_compared") from error
    except CommandFailed as error:
        raise CommandFailed(str(error), USAGE, hint=error.hint, code="not_compared") from error
    except OSError as error:
        text = f"{error.filename}: {error.strerror}"
        raise CommandFailed(text, USAGE, code="not_compared") from error
    screen = Console(sys.stdout)
    for change in changes:
        lead = ("breaks  ", "red") if change.breaks else ("safe    ", "green")
        screen.line(lead, change.text, indent=len(lead[0]))
    breaks = sum(change.breaks for change in changes)
    if breaks:
        text = f"{options.out}: {counted(breaks, 'change')} may break callers"
        hint = f"run `flowmaestro types --out {options.out}`, and then your type checker"
        raise CommandFailed(text, FAILED, hint=hint, code="changed")
    Console(sys.stderr).line(f"{options.out}: nothing has changed that could break a caller")


def _write(options: argparse.Namespace) -> None:
    """Write the file, and print what is in it on standard error."""
    path = Path(options.out)
    constants = {} if options.force else _read(path).constants if path.exists() else {}
    pins = read_pins(path.absolute().parent)

    def choose(rows: Rows) -> Rows:
        return _named(rows, options.workflow)

    account = _account(options, choose, outputs=options.outputs)
    workflows = _types(account, pins, outputs=options.outputs)
    names = names_of([(it.id, it.name) for it in workflows], constants)
    with replacing(options.out) as file:
        file.write(write_source(workflows, names).encode())
    screen = Console(sys.stderr)
    for line in _unmatched(pins, account):
        screen.line(line)
    for line in _unread(account):
        screen.line(line)
    screen.line(f"{options.out}: {_summary(workflows)}, {counted(account.requests, 'request')}")


def _changes(options: argparse.Namespace) -> List[Change]:
    """Return the differences between the file and the server; those that break callers first."""
    path = Path(options.out)
    file = _read(path)
    pins = read_pins(path.absolute().parent)
    outputs = any(it.outputs is not None for it in file.workflows.values())
    others: List[str] = []
    asked = set(file.workflows)

    def choose(rows: Rows) -> Rows:
        if options.workflow:
            chosen = {row["id"] for row in _named(rows, options.workflow)}
            asked.intersection_update(chosen)
        else:
            others.extend(_name(row) for row in rows if row["id"] not in asked)
        return [row for row in rows if row["id"] in asked]

    account = _account(options, choose, outputs=outputs)
    now = {it.id: it for it in _types(account, pins, outputs=outputs)}
    found = [
        change
        for id, old in file.workflows.items()
        if id in asked
        for change in changes_of(file.constants[id], old, now.get(id), account.runs.get(id, ()))
    ]
    for line in _unread(account):
        Console(sys.stderr).line(line)
    found.sort(key=lambda it: not it.breaks)
    return found + new_workflows(others)


def _read(path: Path) -> FileOfTypes:
    """Return what a file of types holds. Raises `CommandFailed` if it is any other file."""
    text = path.read_bytes().decode("utf-8", "replace")
    if not is_ours(text):
        hint = "name another --out, or give --force to overwrite it"
        text = f"{path} was not written by `flowmaestro types`"
        raise CommandFailed(text, USAGE, hint=hint)
    try:
        return read_source(text)
    except ValueError as error:
        hint = "give --force to write it anew; names in it may then change"
        raise CommandFailed(f"{path}: {error}", USAGE, hint=hint) from error


def _account(options: argparse.Namespace, choose: Any, *, outputs: bool) -> Account:
    screen = Console(sys.stderr)
    announced = 0

    def announce(requests: int, left_today: Optional[int]) -> None:
        nonlocal announced
        if left_today is not None and requests > left_today:
            text = f"this needs about {requests} requests, and the key has {left_today} left today"
            raise CommandFailed(text, RATE_LIMIT, hint="name the workflows that you need")
        if requests > max(MANY, announced):
            announced = requests
            screen.line(f"this needs about {requests} requests")

    with client_for(options) as client:
        return read_account(client, choose, announce, outputs=outputs)


def _named(rows: Rows, names: Sequence[str]) -> Rows:
    """Return the rows that the user means; all without names."""
    if not names:
        return rows
    found = [Found(str(row["id"]), text_or_empty(row.get("name"))) for row in rows]
    ids = {meant("workflow", name, found).id for name in names}
    return [row for row in rows if row["id"] in ids]


def _types(account: Account, pins: Dict[str, Pins], *, outputs: bool) -> List[WorkflowTypes]:
    return [
        with_pins(
            types_of(row, account.runs.get(row["id"], ()), outputs=outputs),
            pins_of(pins, row["id"], text_or_empty(row.get("name"))),
        )
        for row in account.workflows
    ]


def _name(row: Dict[str, Any]) -> str:
    return text_or_empty(row.get("name")) or str(row["id"])


def _unmatched(pins: Dict[str, Pins], account: Account) -> List[str]:
    """Return a line for each table of `pyproject.toml` that sets keys of no workflow."""
    known = {text for row in account.workflows for text in (row["id"], row.get("name"))}
    return [
        f'pyproject.toml: no workflow in the file is called "{name}" (tool.flowmaestro.types)'
        for name in pins
        if name not in known
    ]


def _unread(account: Account) -> List[str]:
    """Return lines that say which runs could not be read, and why."""
    names = {str(row["id"]): _name(row) for row in account.workflows}
    lines = [
        f'the runs of "{names[id]}" cannot be read: the server answers with status 500, as it does '
        "after inputs that were no object"
        for id in account.unreadable
    ]
    if not account.may_read_runs:
        lines.append(
            "the key lacks the scope executions:read: only inputs that the server declares are "
            "known"
        )
    return lines


def _summary(workflows: Sequence[WorkflowTypes]) -> str:
    """Return how many workflows and inputs there are, and how these are known."""
    keys = [key for it in workflows for key in it.inputs.by_name.values()]
    count = {known: sum(key.known == known for key in keys) for known in KNOWN}
    told = [
        f"{count[DECLARED]} declared" if count[DECLARED] else "",
        f"{count[SEEN]} as seen in the last {PER_PAGE} runs of each" if count[SEEN] else "",
        f"{count[PINNED]} set in pyproject.toml" if count[PINNED] else "",
    ]
    about = ", ".join(filter(None, told))
    text = f"{counted(len(workflows), 'workflow')}, {counted(len(keys), 'input')}"
    text += f" ({about})" if about else ""
    unknown = sum(it.inputs.known == UNKNOWN for it in workflows)
    return text + (f", {counted(unknown, 'workflow')} without known inputs" if unknown else "")
