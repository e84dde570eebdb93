"""What commands share: the client, their inputs, and JSON on standard output."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Mapping

from flowmaestro import FlowMaestroClient
from flowmaestro.cli import AUTHENTICATION, USAGE, CommandFailed
from flowmaestro.cli.console import console

InputCheck = Callable[[Mapping[str, Any]], None]
"""Raises `CommandFailed` for inputs that do not fit."""


def client_for(options: argparse.Namespace) -> FlowMaestroClient:
    """A client for the server and the key of the arguments or the environment."""
    try:
        return FlowMaestroClient(options.api_key or None, base_url=options.base_url or None)
    except ValueError as error:
        if str(error).startswith("no API key"):
            text = "there is no API key; set FLOWMAESTRO_API_KEY or give --api-key"
            raise CommandFailed(text, AUTHENTICATION) from error
        raise


def inputs_of(options: argparse.Namespace) -> Dict[str, Any]:
    """The inputs from `--input-file` and `-i`; the latter win."""
    inputs: Dict[str, Any] = {}
    if options.input_file is not None:
        inputs.update(json_object(options.input_file, "--input-file"))
    for given in options.input:
        name, equals, text = given.partition("=")
        is_json = name.endswith(":")
        name = name[:-1] if is_json else name
        if not equals or not name:
            raise CommandFailed(f"-i {given}: write -i NAME=TEXT or -i NAME:=JSON", USAGE)
        inputs[name] = json_of(text, f"-i {name}:=") if is_json else text
    return inputs


def json_of(text: str, where: str) -> Any:
    """The value that a JSON text stands for; `CommandFailed` names `where` it was and the place."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}"
        place = f"line {error.lineno}, {place}" if "\n" in text else place
        raise CommandFailed(f"{where}: this is no JSON: {error.msg}: {place}", USAGE) from error


def json_object(path: str, argument: str) -> Dict[str, Any]:
    """The JSON object in a file; `-` is standard input."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise CommandFailed(f"{argument} {path}: {reason}", USAGE) from error
    value = json_of(text, f"{argument} {path}")
    if not isinstance(value, dict):
        raise CommandFailed(f"{argument} {path}: it must hold a JSON object", USAGE)
    return value  # pyright: ignore[reportUnknownVariableType]


def check_workflow_inputs(
    client: FlowMaestroClient, workflow_id: str, options: argparse.Namespace
) -> InputCheck:
    """How inputs for a workflow are checked: by `--schema`, else by what the server declares."""
    from flowmaestro.inputs import check_inputs

    workflow: Mapping[str, Any] = {}
    if options.no_check:
        pass
    elif options.schema is not None:
        workflow = {"input_schema": json_object(options.schema, "--schema")}
    else:
        workflow = client.workflows.get(workflow_id)["data"]

    def check(inputs: Mapping[str, Any]) -> None:
        problems = check_inputs(workflow, inputs)
        if problems:
            raise CommandFailed("; ".join(problems) + "; nothing was started", USAGE)

    return check


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
