"""From the command line to an exit status: 0 for done, 1 for failed, 2 for misused."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Optional, Sequence

from flowmaestro.cli import CommandFailed
from flowmaestro.cli.arguments import build_parser, server_to_visit
from flowmaestro.errors import FlowMaestroError

INTERRUPTED = 130
"""What a shell reports of a command that Ctrl-C ended: 128 and the number of SIGINT."""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command, by default the one in `sys.argv`, and return its exit status.

    Raises `SystemExit` for what `argparse` answers itself: help, version, wrong arguments.
    """
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        _run(options)
        sys.stdout.flush()
    except (CommandFailed, FlowMaestroError) as failure:
        sys.stdout.flush()
        print(f"{parser.prog} {options.command}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads on. The interpreter flushes once more at exit and must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.command == "serve":
        from flowmaestro.cli.serve import serve

        serve(
            options.host,
            options.port,
            options.shapes,
            options.events,
            options.api_key,
            options.allow_webhooks_to,
        )
        return
    server = server_to_visit(options)
    from flowmaestro.cli.demo import demo, visit

    if server is None:
        demo(options.transport, options.shapes or "deployed", options.events or "live")
    else:
        visit(options.transport, server)
