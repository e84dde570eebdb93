"""`list`, `get` and `query`: resources."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from itertools import islice, takewhile
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, cast

from flowmaestro import FlowMaestroClient
from flowmaestro.cli import NOT_FOUND, USAGE, CommandFailed, output
from flowmaestro.cli.console import Console, Text
from flowmaestro.cli.output import written
from flowmaestro.cli.run_view import in_short
from flowmaestro.cli.session import client_for, find, objects, place_of, unusable
from flowmaestro.cli.state import remember_ids
from flowmaestro.errors import FlowMaestroError
from flowmaestro_core.http.secrets import showable_value
from flowmaestro_core.payloads.json_values import LONGEST_NAME
from flowmaestro_core.showing.texts import event_time

_COLUMNS: Dict[str, Tuple[str, ...]] = {
    "workflows": ("id", "name", "description"),
    "executions": ("id", "status", "started_at", "duration", "workflow_id"),
    "agents": ("id", "name", "model"),
    "knowledge-bases": ("id", "name", "document_count"),
    "triggers": ("id", "name", "type", "enabled"),
    "webhooks": ("id", "name", "url"),
}
"""The columns of tables and of CSV."""
_LIMIT = 20
"""How many resources `list` shows at most, without `--limit` and `--all`: one page of the server,
and a terminal of 24 lines."""
_STYLES = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "paused": "yellow",
    "running": "cyan",
    "pending": "cyan",
}


def list_command(options: argparse.Namespace) -> None:
    """Print resources as a table, JSON, JSON lines or CSV.

    Raises `CommandFailed` for a filter that these resources do not have.
    """
    _check_filters(options)
    limit = min(options.limit or _LIMIT, sys.maxsize)  # `islice` takes no larger number.
    with client_for(options) as client:
        found = islice(_iterate(client, options, limit), None if options.all else limit)
        rows = [dict(row) for row in found]
        if options.resource in ("workflows", "executions"):
            ids = (row.get("id") for row in rows)
            remember_ids(place_of(options), options.resource, ids)
        if options.resource == "executions" and options.output not in ("json", "jsonl"):
            for row in rows:
                row["duration"] = _duration(row)
            if rows and options.output != "csv" and Console(sys.stdout).columns is not None:
                _name_workflows(client, rows)
    names = _COLUMNS[options.resource]
    if options.output == "json":
        output.print_json(rows)
    elif options.output in ("jsonl", "csv"):
        results = output.Results(sys.stdout, options.output, names)
        for row in rows:
            results.add(row)
    elif rows:
        _print_table(names, rows)
    if not rows and options.output in (None, "table"):
        Console(sys.stderr).line("none")
    if not options.all and options.limit is None and len(rows) == limit:
        Console(sys.stderr).line(f"the first {limit}; --all shows all")


def get_command(options: argparse.Namespace) -> None:
    """Print one resource: lines for its fields, or JSON.

    Only the lines redact the secret header fields of a webhook. An unknown resource raises
    `CommandFailed` or `NotFoundError`.
    """
    with client_for(options) as client:
        resource: Any = getattr(client, options.resource.replace("-", "_"))
        if options.resource == "triggers":  # The API only lists them.
            rows = objects(resource.iterate())
            found = next((row for row in rows if row["id"] == options.id), None)
        elif options.resource == "workflows":
            found = resource.get(find(client, "workflow", options.id).id)["data"]
        elif options.resource == "agents":
            found = resource.get(find(client, "agent", options.id).id)["data"]
        else:
            found = resource.get(options.id)["data"]
    if found is None:
        hint = "`flowmaestro list triggers` shows all"
        raise CommandFailed(f"there is no trigger {options.id!r}", NOT_FOUND, hint=hint)
    if options.output == "json":
        output.print_json(found)
    elif options.output == "jsonl":
        output.print_json_line(found)
    else:
        output.print_fields(_without_secrets(found))


def query_command(options: argparse.Namespace) -> None:
    """Print the chunks of a knowledge base that match a text, in the server's order."""
    top_k = {} if options.top_k is None else {"top_k": options.top_k}
    with client_for(options) as client:
        found = find(client, "knowledge base", options.kb)
        reply = client.knowledge_bases.query(found.id, options.text, **top_k)
    results = list(objects(reply["data"]["results"], "results"))
    if options.output is not None:
        output.print_json(results)
        return
    if not results:
        Console(sys.stderr).line("none")
    screen = Console(sys.stdout)
    for result in results:
        try:
            score = f"{result['similarity'] or 0.0:.3f}  "
        except (TypeError, ValueError, OverflowError) as error:
            raise unusable('has no number as the "similarity" of a result') from error
        screen.line(score, (written(result["document_name"]), "bold"), indent=len(score))
        screen.line(" " * len(score), written(result["content"]), indent=len(score))


def _check_filters(options: argparse.Namespace) -> None:
    if len(options.status or ()) > 1:
        raise CommandFailed("--status is given twice; the API filters by one status", USAGE)
    for name in ("status", "since"):
        if getattr(options, name) is not None and options.resource != "executions":
            raise CommandFailed(f"--{name} is for executions", USAGE)
    if options.workflow is not None and options.resource not in ("executions", "triggers"):
        raise CommandFailed("--workflow is for executions and triggers", USAGE)


def _iterate(
    client: FlowMaestroClient, options: argparse.Namespace, limit: int
) -> Iterable[Mapping[str, Any]]:
    resource: Any = getattr(client, options.resource.replace("-", "_"))
    filters: Dict[str, Any] = {}
    if options.workflow is not None:
        filters["workflow_id"] = find(client, "workflow", options.workflow).id
    if options.status is not None:
        filters["status"] = options.status[0]
    per_page = 100 if options.all else min(limit, 100)  # One page for a short list.
    found = objects(resource.iterate(per_page=per_page, **filters))
    if options.since is None:
        return found
    oldest = time.time() - options.since
    return takewhile(lambda row: _created(row) >= oldest, found)  # The newest come first.


def _created(execution: Mapping[str, Any]) -> float:
    """Return when an execution was created, or else started, in Unix seconds.

    Return the time now if neither is known.
    """
    time_of = (event_time(execution.get(name)) for name in ("created_at", "started_at"))
    return next((at for at in time_of if at is not None), time.time())


def _duration(execution: Mapping[str, Any]) -> Optional[float]:
    """Return how many seconds an ended execution took, to the millisecond; `None` if unknown."""
    began, ended = (event_time(execution.get(key)) for key in ("started_at", "completed_at"))
    return None if began is None or ended is None else round(max(ended - began, 0.0), 3)


def _name_workflows(client: FlowMaestroClient, rows: List[Dict[str, Any]]) -> None:
    """Give each execution the name of its workflow as `workflow`, or the id if that is unknown.

    One page of workflows is read. If the key may not read it, or the call fails, ids must do.
    """
    names: Dict[Any, Any] = {}
    with suppress(FlowMaestroError):
        asking = client.with_options(max_retries=0)
        names = {each["id"]: each["name"] for each in asking.workflows.list(per_page=100)["data"]}
    for row in rows:
        row["workflow_id"] = names.get(row.get("workflow_id")) or row.get("workflow_id")


def _without_secrets(row: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the fields of a resource, with the secret header fields of a webhook redacted."""
    fields = dict(row)
    headers = fields.get("headers")
    if isinstance(headers, dict):
        given = cast("Mapping[str, str]", headers)
        fields["headers"] = {name: showable_value(name, given[name]) for name in given}
    return fields


def _print_table(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    screen, now = Console(sys.stdout), time.time()
    cells: List[List[Text]] = []
    for row in rows:
        cells.append([])
        for name in names:
            text = written(row.get(name))[:LONGEST_NAME]
            at = event_time(row.get(name)) if name.endswith("_at") else None
            if at is not None and screen.columns is not None:  # A script gets the time itself.
                text = ago(now - at)
            if name == "duration" and row.get(name) is not None:
                text = in_short(float(row[name]))
            cells[-1].append((text, _STYLES.get(text, "") if name == "status" else ""))
    headings = [name.replace("_", " ").replace(" at", "") for name in names]
    if "duration" in names and screen.columns is not None:
        headings[-1] = "workflow"
    screen.table(headings, cells)


def ago(seconds: float) -> str:
    """Return a text such as `3 h ago` or `just now` for a number of seconds."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now" if seconds < 10 else f"{int(seconds)} s ago"
