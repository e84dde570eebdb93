"""From the command line to an exit status."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import Optional, Sequence, Tuple

from flowmaestro import cli
from flowmaestro.cli.arguments import COMMANDS, build_parser, suggestion

_MODULES = {
    **dict.fromkeys(("run", "watch", "cancel", "fire"), "runs"),
    **dict.fromkeys(("list", "get", "query"), "resources"),
}
"""Where a command is; the others are in a module of their own name."""
_ADVICE = {
    cli.NOT_FOUND: "; check the id, `flowmaestro list` shows what there is",
    cli.AUTHENTICATION: "; `flowmaestro doctor` says more about this key",
    cli.NETWORK: "; `flowmaestro doctor` looks for the cause",
}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command, by default the one in `sys.argv`, and return its exit status.

    Raises `SystemExit` for what `argparse` answers itself: help, version, wrong arguments.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = build_parser()
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        close = suggestion(words[0], tuple(COMMANDS))
        parser.error(f"there is no command {words[0]!r}{close}")
    options = parser.parse_args(words)
    if options.print_completion is not None:
        return _print_completion(parser, options.print_completion)
    if options.command is None:
        parser.print_help(sys.stderr)
        return cli.USAGE
    try:
        module = import_module(f"flowmaestro.cli.{_MODULES.get(options.command, options.command)}")
        getattr(module, f"{options.command}_command")(options)
        sys.stdout.flush()
        return cli.DONE
    except KeyboardInterrupt:
        return cli.INTERRUPTED
    except BrokenPipeError:
        # Nobody reads on. The interpreter flushes once more at exit and must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return cli.FAILED
    except Exception as error:
        if options.debug:
            raise
        status, text = _judge(error)
    if text:
        from flowmaestro.cli.console import Console

        Console(sys.stderr).line(f"flowmaestro {options.command}: {text}")
    return status


def status_of(error: Exception) -> int:
    """The exit status for an error of the SDK."""
    from flowmaestro import errors

    statuses = (
        (errors.NotFoundError, cli.NOT_FOUND),
        ((errors.AuthenticationError, errors.AuthorizationError), cli.AUTHENTICATION),
        (errors.RateLimitError, cli.RATE_LIMIT),
        ((errors.ConnectionError, errors.TimeoutError, errors.StreamError), cli.NETWORK),
    )
    return next((status for kinds, status in statuses if isinstance(error, kinds)), cli.FAILED)


def _judge(error: Exception) -> Tuple[int, str]:
    """The exit status for an error, and the line for the user."""
    if isinstance(error, cli.CommandFailed):
        return error.status, str(error)
    from flowmaestro import FlowMaestroError

    if isinstance(error, FlowMaestroError):
        status, text = status_of(error), " ".join(str(error).split())
        malformed_id = text.partition("invalid input syntax for type uuid: ")[2]
        text = f"there is no id {malformed_id}" if malformed_id else text
        wait = getattr(error, "retry_after", None)
        if wait:
            text += f"; try again in {wait:.0f} s"
        return status, text + _ADVICE.get(status, "")
    if isinstance(error, OSError) and error.filename is not None:
        return cli.FAILED, f"{error.filename}: {error.strerror}"
    if isinstance(error, ValueError):  # of the SDK, which names the argument
        return cli.USAGE, str(error)
    return cli.FAILED, f"{type(error).__name__}: {error}; --debug shows where"


def _print_completion(parser: argparse.ArgumentParser, shell: str) -> int:
    try:
        import shtab
    except ImportError:
        parser.error("--print-completion needs shtab: pip install 'flowmaestro[cli]'")
    if shell not in shtab.SUPPORTED_SHELLS:
        parser.error(f"--print-completion takes one of: {', '.join(shtab.SUPPORTED_SHELLS)}")
    print(shtab.complete(parser, shell))
    return cli.DONE
