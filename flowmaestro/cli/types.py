"""`types`: a module of typed functions that run workflows."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from flowmaestro.cli import USAGE, CommandFailed
from flowmaestro.cli.session import client_for
from flowmaestro.codegen import typed_module
from flowmaestro.input_files import read_object


def types_command(options: argparse.Namespace) -> Any:
    """Write the module, or with `--check` say whether it is up to date."""
    if options.check and options.output is None:
        raise CommandFailed("--check needs -o FILE", USAGE)
    if options.schema is not None and len(options.workflow) > 1:
        raise CommandFailed("--schema is for one workflow", USAGE)
    with client_for(options) as client:
        workflows = [dict(client.workflows.get(each)["data"]) for each in options.workflow]
    if options.schema is not None:
        workflows[0]["input_schema"] = read_object(options.schema, f"--schema {options.schema}")
    source = typed_module(workflows)
    said = {"file": options.output, "workflows": [each["id"] for each in workflows]}
    if options.check:
        file = Path(options.output)
        said["is_up_to_date"] = file.exists() and file.read_text("utf-8") == source
        if not said["is_up_to_date"]:
            raise CommandFailed(f"{file} is out of date; run this without --check", document=said)
    elif options.output is not None:
        Path(options.output).write_text(source, "utf-8")
    elif options.json:
        said["source"] = source
    else:
        sys.stdout.write(source)
    return said
