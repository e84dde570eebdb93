"""From the command line to an exit status."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Sequence, Tuple

from flowmaestro import cli
from flowmaestro.cli.arguments import COMMANDS, build_parser, suggestion
from flowmaestro.cli.console import Console

_MODULES = {
    **dict.fromkeys(("run", "watch", "cancel", "fire"), "runs"),
    **dict.fromkeys(("list", "get", "query"), "resources"),
}
"""Where a command is; the others are in a module of their own name."""
_STREAMS = ("watch", "map")  # with `--json`, a document for each event or row, and nothing else
_ADVICE = {
    cli.NOT_FOUND: "; check the id, `flowmaestro list` shows what there is",
    cli.AUTHENTICATION: "; `flowmaestro doctor` says more about this key",
    cli.NETWORK: "; `flowmaestro doctor` looks for the cause",
}


def main(words: Sequence[str]) -> int:
    """Run the command that these words name, and return its exit status.

    Raises `SystemExit` for what `argparse` answers itself: help and version.
    """
    command = words[0] if words and not words[0].startswith("-") else ""
    text, document = "", None
    try:
        status, document = _run(command, words)
        sys.stdout.flush()
    except Exception as error:
        if "--debug" in words:
            import traceback

            traceback.print_exc()
        status, text = _judge(error)
        document = getattr(error, "document", None) or {"error": text, "exit_status": status}
    if text:
        name = f"flowmaestro {command}" if command in COMMANDS else "flowmaestro"
        Console(sys.stderr).line(f"{name}: {text}")
    if "--json" in words and command not in _STREAMS:
        from flowmaestro.cli.session import print_json

        print_json(document)
    return status


def _run(command: str, words: Sequence[str]) -> Tuple[int, Any]:
    """The exit status, and what the command returned for `--json`."""
    parser = build_parser(command)
    if command and command not in COMMANDS:
        parser.error(f"there is no command {command!r}{suggestion(command, tuple(COMMANDS))}")
    options, unknown = parser.parse_known_args(words)
    if unknown:
        _, _, arguments = COMMANDS.get(command, ("", (), ()))
        known = tuple(flag for flags, _ in arguments for flag in flags if flag[0] == "-")
        parser.prog = f"flowmaestro {command}".rstrip()
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{suggestion(unknown[0], known)}")
    if options.print_completion is not None:
        return _print_completion(options.print_completion), None
    if options.command is None:
        parser.print_help(sys.stderr)
        return cli.USAGE, None
    module = import_module(f"flowmaestro.cli.{_MODULES.get(command, command)}")
    return cli.DONE, getattr(module, f"{command}_command")(options)


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
    if isinstance(error, BrokenPipeError):  # nobody reads on
        return cli.FAILED, ""
    from flowmaestro import FlowMaestroError

    if isinstance(error, FlowMaestroError):
        status, text = status_of(error), " ".join(str(error).split())
        malformed_id = text.partition("invalid input syntax for type uuid: ")[2]
        text = f"there is no id {malformed_id}" if malformed_id else text
        if error.retry_after:
            text += f"; try again in {error.retry_after:.0f} s"
        if error.code == "journal_mismatch":
            return cli.USAGE, f"{error.message}; name another --out or --journal"
        return status, text + _ADVICE.get(status, "")
    if isinstance(error, OSError):
        file = "" if error.filename is None else f"{error.filename}: "
        return cli.FAILED, f"{file}{error.strerror or error}"
    if isinstance(error, ValueError):  # of the SDK, which names the argument
        return cli.USAGE, str(error)
    return cli.FAILED, f"{type(error).__name__}: {error}; --debug shows where"


def _print_completion(shell: str) -> int:
    parser = build_parser()
    try:
        import shtab
    except ImportError:
        parser.error("--print-completion needs shtab: pip install 'flowmaestro[cli]'")
    if shell not in shtab.SUPPORTED_SHELLS:
        parser.error(f"--print-completion takes one of: {', '.join(shtab.SUPPORTED_SHELLS)}")
    print(shtab.complete(parser, shell))
    return cli.DONE
