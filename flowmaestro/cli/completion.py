"""`completion`: a script that makes a shell complete commands, options, choices, files and ids.

The ids are those that earlier commands have remembered (`state.py`). The script reads them from the
command `flowmaestro __ids KIND`, and offers a line only if it is an id. It passes no line to
`compgen -W` or `eval`, which would run a `$(...)` in it.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from typing import Any, Dict, Sequence

from flowmaestro.cli.arguments import COMMANDS, build_parser
from flowmaestro.cli.console import Writer
from flowmaestro.cli.credentials import place_without_key
from flowmaestro.cli.state import known_ids

_NAMES = " ".join(COMMANDS)
_COMMANDS = {
    "bash": "_flowmaestro_commands",
    "zsh": f"({_NAMES})",
    "fish": _NAMES,
    "preamble": {"bash": f'_flowmaestro_commands() {{ compgen -W "{_NAMES}" -- "$1"; }}\n'},
}
"""How shells complete the name of a command after `help`."""


def _ids(kind: str) -> Dict[str, Any]:
    """Return how shells complete the ids of a kind: `workflows` or `executions`."""
    name, read = f"_flowmaestro_{kind}", f"command flowmaestro __ids {kind} 2>/dev/null"
    bash = f"""\
{name}() {{
  local id
  while IFS= read -r id; do
    [[ $id =~ ^[A-Za-z0-9_-]{{1,64}}$ && $id == "$1"* ]] && printf '%s\\n' "$id"
  done < <({read})
}}
"""
    zsh = f"""\
{name}() {{
  local id
  local -a ids
  while IFS= read -r id; do
    [[ $id =~ '^[A-Za-z0-9_-]{{1,64}}$' ]] && ids+=("$id")
  done < <({read})
  compadd -a ids
}}
"""
    # The script has this within double quotes, in which fish would expand a dollar sign.
    fish = rf"({read} | string match -r '^[A-Za-z0-9_-]{{1,64}}\z')"
    return {"bash": name, "zsh": name, "fish": fish, "preamble": {"bash": bash, "zsh": zsh}}


def print_ids(kinds: Sequence[str]) -> None:
    """Print the remembered ids of these kinds, each on a line; none if they cannot be read."""
    with suppress(Exception):  # A shell would show the error within the line that is typed.
        place = place_without_key()
        for kind in kinds:
            for id in known_ids(place, kind):
                print(id)


def completion_command(options: argparse.Namespace) -> None:
    """Print the completion script for the shell that the user names."""
    import shtab

    completed = {
        "file": shtab.FILE,
        "command": _COMMANDS,
        "workflow": _ids("workflows"),
        "execution": _ids("executions"),
    }
    parser = build_parser(completed=completed)
    script = shtab.complete(parser, options.shell)
    # shtab tells apart `eval` and a file that zsh loads by itself, but not `source <(...)`.
    script = script.replace("$zsh_eval_context[-1] == eval", "$funcstack[1] != _flowmaestro")
    Writer(sys.stdout).write(script + "\n")
