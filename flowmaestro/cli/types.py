"""`types`: a module of typed functions that run workflows."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List

from flowmaestro.cli import USAGE, CommandFailed
from flowmaestro.cli.session import client_for, json_object, print_json
from flowmaestro.codegen import typed_module


def types_command(options: argparse.Namespace) -> None:
    """Write the module, or with `--check` say whether it is up to date."""
    if options.check and options.output is None:
        raise CommandFailed("--check needs -o FILE", USAGE)
    if options.schema is not None and len(options.workflow) > 1:
        raise CommandFailed("--schema is for one workflow", USAGE)
    with client_for(options) as client:
        workflows: List[Dict[str, Any]]
        workflows = [dict(client.workflows.get(each)["data"]) for each in options.workflow]
    if options.schema is not None:
        workflows[0]["input_schema"] = json_object(options.schema, "--schema")
    source = typed_module(workflows)
    if options.output is None:
        sys.stdout.write(source)
        return
    file = Path(options.output)
    if not options.check:
        file.write_text(source, "utf-8")
    elif file.read_text("utf-8") != source:
        raise CommandFailed(f"{file} is out of date; run this without --check")
    if options.json:
        print_json({"file": options.output, "workflows": [each["id"] for each in workflows]})
