"""`list`, `get` and `query`: what there is."""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from typing import Any, Dict, Iterable, Mapping, Sequence, Tuple, cast

from flowmaestro import FlowMaestroClient
from flowmaestro.cli import NOT_FOUND, USAGE, CommandFailed
from flowmaestro.cli.console import console
from flowmaestro.cli.session import client_for, written
from flowmaestro_core.http.secrets import showable_value
from flowmaestro_core.payloads.json_values import LONGEST_NAME

_COLUMNS: Dict[str, Tuple[str, ...]] = {
    "workflows": ("id", "name", "description"),
    "executions": ("id", "status", "started_at", "workflow_id"),
    "agents": ("id", "name", "model"),
    "knowledge-bases": ("id", "name", "document_count"),
    "triggers": ("id", "name", "type", "enabled"),
    "webhooks": ("id", "name", "url"),
}


def list_command(options: argparse.Namespace) -> Any:
    """A table of resources, or a JSON array."""
    _check_filters(options)
    with client_for(options) as client:
        found = islice(_iterate(client, options), None if options.all else options.limit)
        rows = [dict(row) for row in found]
    if options.json or not rows:
        if not options.json:
            print("none", file=sys.stderr)
        return rows
    names = _COLUMNS[options.resource]
    cells = [[written(row.get(name))[:LONGEST_NAME] for name in names] for row in rows]
    console(sys.stdout).table([name.replace("_", " ") for name in names], cells)
    if not options.all and len(rows) == options.limit:
        print(f"the first {options.limit}; --all shows all", file=sys.stderr)
    return rows


def get_command(options: argparse.Namespace) -> Any:
    """One resource, a line for each field, or as a JSON object."""
    with client_for(options) as client:
        resource: Any = getattr(client, options.resource.replace("-", "_"))
        if options.resource == "triggers":  # which the API only lists
            found = next((row for row in resource.iterate() if row["id"] == options.id), None)
        else:
            found = resource.get(options.id)["data"]
    if found is None:
        text = f"there is no trigger {options.id!r}; `flowmaestro list triggers` shows all"
        raise CommandFailed(text, NOT_FOUND)
    if not options.json:
        _print_fields(found)
    return found


def query_command(options: argparse.Namespace) -> Any:
    """What a knowledge base has on a text, the best first."""
    top_k = {} if options.top_k is None else {"top_k": options.top_k}
    with client_for(options) as client:
        reply = client.knowledge_bases.query(options.kb, options.text, **top_k)
    results = cast("Sequence[Mapping[str, Any]]", reply["data"]["results"])
    if options.json:
        return results
    if not results:
        print("none", file=sys.stderr)
    screen = console(sys.stdout)
    for result in results:
        score = f"{result['similarity'] or 0.0:.3f}  "
        screen.line(score, (written(result["document_name"]), "bold"), indent=len(score))
        screen.line(" " * len(score), written(result["content"]), indent=len(score))
    return results


def _check_filters(options: argparse.Namespace) -> None:
    if options.resource == "threads":
        text = "the API has no list of threads; `flowmaestro get threads ID` shows one"
        raise CommandFailed(text, USAGE)
    if options.status is not None and options.resource != "executions":
        raise CommandFailed("--status is for executions", USAGE)
    if options.workflow is not None and options.resource not in ("executions", "triggers"):
        raise CommandFailed("--workflow is for executions and triggers", USAGE)


def _iterate(client: FlowMaestroClient, options: argparse.Namespace) -> Iterable[Mapping[str, Any]]:
    resource: Any = getattr(client, options.resource.replace("-", "_"))
    filters = {"workflow_id": options.workflow, "status": options.status}
    given = {name: value for name, value in filters.items() if value is not None}
    per_page = 100 if options.all else min(options.limit, 100)  # one page for a short list
    found: Iterable[Mapping[str, Any]] = resource.iterate(per_page=per_page, **given)
    return found


def _print_fields(found: Mapping[str, Any]) -> None:
    screen = console(sys.stdout)
    width = max(map(len, found), default=0)
    for name, value in found.items():
        if name == "headers" and isinstance(value, dict):  # of a webhook
            fields = cast("Mapping[str, str]", value)
            value = {field: showable_value(field, fields[field]) for field in fields}
        if value is not None:
            screen.line((name.ljust(width) + "  ", "dim"), written(value), indent=width + 2)
