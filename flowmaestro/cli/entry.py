"""From the command line to an exit status."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import Optional, Sequence

from flowmaestro.cli import (
    AUTHENTICATION,
    DONE,
    FAILED,
    INTERRUPTED,
    NETWORK,
    NOT_FOUND,
    RATE_LIMIT,
    USAGE,
    CommandFailed,
)
from flowmaestro.cli.arguments import COMMANDS, build_parser, suggestion

_MODULES = {
    "run": "runs",
    "watch": "runs",
    "cancel": "runs",
    "fire": "runs",
    "list": "resources",
    "get": "resources",
    "query": "resources",
}
"""Where a command is; the others are in a module of their own name."""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command, by default the one in `sys.argv`, and return its exit status.

    Raises `SystemExit` for what `argparse` answers itself: help, version, wrong arguments.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = build_parser()
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        close = suggestion(words[0], tuple(COMMANDS))
        parser.error(f"there is no command {words[0]!r}{close}")
    if words and words[0] == "--print-completion":
        return _print_completion(parser, words[1:])
    options = parser.parse_args(words)
    if options.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    try:
        status = _run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads on. The interpreter flushes once more at exit and must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        judged, text = _judge(error)
        if judged is None or options.debug:
            raise
        status = judged
        _flush()
        if text:
            print(f"flowmaestro {options.command}: {text}", file=sys.stderr)
    return status


def _run(options: argparse.Namespace) -> int:
    module = import_module(f"flowmaestro.cli.{_MODULES.get(options.command, options.command)}")
    status: Optional[int] = getattr(module, f"{options.command}_command")(options)
    return DONE if status is None else status


def _judge(error: Exception) -> tuple[Optional[int], str]:
    """The exit status for an error, and the line for the user; no status for a bug of ours."""
    if isinstance(error, CommandFailed):
        return error.status, str(error)
    from flowmaestro import errors

    if not isinstance(error, errors.FlowMaestroError):
        return None, ""
    statuses = (
        (errors.NotFoundError, NOT_FOUND),
        (errors.AuthenticationError, AUTHENTICATION),
        (errors.AuthorizationError, AUTHENTICATION),
        (errors.RateLimitError, RATE_LIMIT),
        (errors.ConnectionError, NETWORK),
        (errors.TimeoutError, NETWORK),
        (errors.StreamError, NETWORK),
    )
    status = next((status for kind, status in statuses if isinstance(error, kind)), FAILED)
    text = " ".join(str(error).split())
    if isinstance(error, errors.RateLimitError) and error.retry_after:
        text += f"; try again in {error.retry_after:.0f} s"
    elif status == AUTHENTICATION:
        text += "; `flowmaestro doctor` says more about this key"
    elif status == NETWORK:
        text += "; `flowmaestro doctor` looks for the cause"
    return status, text


def _print_completion(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    try:
        import shtab
    except ImportError:
        parser.error("--print-completion needs shtab: pip install 'flowmaestro[cli]'")
    if len(words) != 1 or words[0] not in shtab.SUPPORTED_SHELLS:
        parser.error(f"--print-completion takes one of: {', '.join(shtab.SUPPORTED_SHELLS)}")
    print(shtab.complete(parser, words[0]))
    return DONE


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
