"""`completion`: a script that makes a shell complete commands, options, choices and files."""

from __future__ import annotations

import argparse
import sys

from flowmaestro.cli.arguments import COMMANDS, build_parser
from flowmaestro.cli.console import Writer

_NAMES = " ".join(COMMANDS)
_COMMANDS = {
    "bash": "_flowmaestro_commands",
    "zsh": f"({_NAMES})",
    "fish": _NAMES,
    "preamble": {"bash": f'_flowmaestro_commands() {{ compgen -W "{_NAMES}" -- "$1"; }}\n'},
}
"""How shells complete the name of a command after `help`."""


def completion_command(options: argparse.Namespace) -> None:
    """Print the completion script for the shell that the user names."""
    import shtab

    parser = build_parser(completed={"file": shtab.FILE, "command": _COMMANDS})
    script = shtab.complete(parser, options.shell)
    # shtab tells apart `eval` and a file that zsh loads by itself, but not `source <(...)`.
    script = script.replace("$zsh_eval_context[-1] == eval", "$funcstack[1] != _flowmaestro")
    Writer(sys.stdout).write(script + "\n")
