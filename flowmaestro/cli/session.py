"""What commands share: the client, their inputs, and JSON on standard output."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Dict, Iterable, Mapping, Optional, Tuple

from flowmaestro import FlowMaestroClient, Hooks
from flowmaestro.cli import AUTHENTICATION, USAGE, CommandFailed
from flowmaestro.cli.console import console
from flowmaestro.input_files import parse_json, read_object
from flowmaestro.inputs import check_inputs


def client_for(options: argparse.Namespace, hooks: Optional[Hooks] = None) -> FlowMaestroClient:
    """A client for the server and the key of the arguments or the environment."""
    try:
        return FlowMaestroClient(options.api_key, base_url=options.base_url, hooks=hooks)
    except ValueError as error:
        if str(error).startswith("no API key"):
            text = "there is no API key; set FLOWMAESTRO_API_KEY or give --api-key"
            raise CommandFailed(text, AUTHENTICATION) from error
        raise


def inputs_of(options: argparse.Namespace) -> Dict[str, Any]:
    """The inputs from `--input-file` and `-i`; the latter win."""
    inputs: Dict[str, Any] = {}
    if options.input_file is not None:
        inputs.update(read_object(options.input_file, f"--input-file {options.input_file}"))
    for given in options.input:
        name, equals, text = given.partition("=")
        is_json = name.endswith(":")
        name = name[:-1] if is_json else name
        if not equals or not name:
            raise CommandFailed(f"-i {given}: write -i NAME=TEXT or -i NAME:=JSON", USAGE)
        inputs[name] = parse_json(text, f"-i {name}:={text[:40]!r}") if is_json else text
    return inputs


def check_workflow_inputs(
    client: FlowMaestroClient,
    options: argparse.Namespace,
    given: Iterable[Tuple[str, Mapping[str, Any]]],
) -> None:
    """Raise `CommandFailed` for inputs that do not fit `--schema`, or what the server declares.

    `given` are inputs and what leads to them in an error.
    """
    if options.no_check:
        return
    if options.schema is None:
        workflow: Mapping[str, Any] = client.workflows.get(options.workflow)["data"]
    else:
        workflow = {"input_schema": read_object(options.schema, f"--schema {options.schema}")}
    for lead, inputs in given:
        problems = check_inputs(workflow, inputs)
        if problems:
            raise CommandFailed(f"{lead}{'; '.join(problems)}; nothing was started", USAGE)


def json_line(value: Any, encoding: str = "utf-8") -> str:
    """A JSON document and the end of its line; escapes stand for what the encoding lacks."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(value)
    return text + "\n"


def print_json(value: Any) -> None:
    """One JSON document on a line of standard output."""
    sys.stdout.write(json_line(value, sys.stdout.encoding or "utf-8"))
    sys.stdout.flush()


def shown(text: str, document: Any, options: argparse.Namespace) -> Any:
    """Print the text without `--json`, and return the document."""
    if not options.json:
        print(text)
    return document


def print_result(value: Any) -> None:
    """A value as it is read most easily, on standard output."""
    screen = console(sys.stdout)
    for line in written(value).split("\n"):
        screen.line(line)


def written(value: Any) -> str:
    """A value as it is read most easily."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)
