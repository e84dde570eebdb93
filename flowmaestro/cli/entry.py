"""Runs a command line, reports its error, and returns its exit status."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Mapping, NamedTuple, Optional, Sequence

from flowmaestro import cli
from flowmaestro.cli.arguments import COMMANDS, RESOURCES, build_parser, suggestion
from flowmaestro.cli.console import Lines, Writer, shorten
from flowmaestro_core import __version__

_MODULES = {
    **dict.fromkeys(("run", "watch", "cancel", "fire"), "runs"),
    **dict.fromkeys(("list", "get", "query"), "resources"),
    **dict.fromkeys(("login", "logout"), "profiles"),
}
"""The module of a command; the others are in a module of their own name."""
_WITHOUT_EXTRA = ("doctor", "mcp", "serve")
"""The commands that print plain lines. The others need the packages of the extra `cli`."""
_EXTRA = ("rich", "prompt_toolkit", "shtab")
_STOPPED = ("run", "map", "watch")
"""The commands that SIGTERM and SIGHUP end as Ctrl-C does, because something runs on after them."""
_LISTS = {
    **dict.fromkeys(("run", "map", "mcp"), "workflows"),
    **dict.fromkeys(("watch", "cancel"), "executions"),
    "chat": "agents",
    "query": "knowledge-bases",
    "fire": "triggers",
}
"""The resource whose id a command takes; that of `get` is its first argument."""
_HINTS = {
    cli.AUTHENTICATION: "says more about this key",
    cli.NETWORK: "looks for the cause",
}
"""What `flowmaestro doctor` does after errors of the SDK, by exit status."""
_MALFORMED_ID = re.compile('invalid input syntax for type uuid: "([^"]*)')
"""Matches what the server's database says of an id that is not a UUID. The end of a long id is
missing, because the SDK truncates the message."""
_LONGEST_ID = 80
"""The most columns of a malformed id that an error shows: those of one line."""
_NOT_CANCELLED = re.compile(r"cannot be cancelled\. Current status: (\w+)")
_RETRIES = re.compile(r" \(gave up after attempt (\d+): max_retries=\d+ is used up\)")
"""Matches the words of an SDK error that name `max_retries`, which the command line lacks."""
_NOT_UNICODE = "holds a lone surrogate, which UTF-8 cannot express"
"""The words of an SDK error for a text that is not valid Unicode, which `cli.NOT_UNICODE` replaces
by words for users."""
_OTHER_FILES = "name another --out or --journal"


class Failure(NamedTuple):
    """An error as the user gets it: the exit status, a line of text, and the JSON object.

    If the text is empty, nothing is printed.
    """

    status: int
    text: str = ""
    error: Mapping[str, Any] = {}


def main(words: Sequence[str]) -> int:
    """Run the command that these words name, and return its exit status.

    An error is one line on standard error, which is wrapped on a terminal. If `words` ask for JSON,
    the error is a JSON object there: one line, or indented on a terminal. Other lines may precede
    the error. Raises `SystemExit` after `--help` or the command `help` has printed the help, and
    `KeyboardInterrupt` after Ctrl-C, unless the command handles it. `run`, `map` and `watch` treat
    SIGTERM and SIGHUP as Ctrl-C.
    """
    command = words[0] if words and not words[0].startswith("-") else ""
    with ExitStack() as until_the_end:
        return _status(command, words, until_the_end)


def _status(command: str, words: Sequence[str], until_the_end: ExitStack) -> int:
    """Run the command, print its error, if any, and return its exit status.

    The handlers of signals that `run`, `map` and `watch` set stay set `until_the_end`.
    """
    options = Namespace()
    try:
        status = _run(command, words, options, until_the_end)
        sys.stdout.flush()
    except Exception as error:
        if "--debug" in words:
            _print_traceback()
        failure = _judge(error, words, options)
        status = failure.status
        if isinstance(error, OSError) and error.filename is None:
            # What could not be written is still buffered: the end would report it once more.
            try:
                sys.stdout.flush()
            except OSError:
                cli.discard(sys.stdout)
        if failure.text and wants_json(words):
            _print_json_error(failure)
        elif failure.text:
            name = f"flowmaestro {command}" if command in COMMANDS else "flowmaestro"
            Lines(sys.stderr).line(f"{name}: {failure.text}")
    return status


def wants_json(words: Sequence[str]) -> bool:
    """Return whether the command line `words` asks for errors as JSON.

    This must also work for a command line that cannot be parsed.
    """
    wanted = ("json", "jsonl")
    pairs = zip(words, words[1:])
    return (
        "--json" in words
        or any(name in ("-o", "--output") and form in wanted for name, form in pairs)
        or any(word in (f"-o{form}", f"--output={form}") for word in words for form in wanted)
    )


def _print_json_error(failure: Failure) -> None:
    from flowmaestro.cli.output import print_json

    print_json({"error": failure.error, "exit_status": failure.status}, sys.stderr)


def _print_traceback() -> None:
    import traceback

    Lines(sys.stderr).document(_without_keys(traceback.format_exc().rstrip("\n")))


def _without_keys(text: str) -> str:
    """Return the text with `***` for what looks like an API key: an argument may have been one."""
    from flowmaestro_core.http.secrets import without_keys

    return without_keys(text)


def _run(command: str, words: Sequence[str], options: Namespace, until_the_end: ExitStack) -> int:
    """Parse `words` into `options`, run the command, and return its exit status."""
    if command == "help" and not any(word.startswith("-") for word in words):
        topic = words[1] if len(words) > 1 else ""
        words = [topic, "--help"] if topic else ["--help"]
        return _run(topic, words, options, until_the_end)
    if command == "__ids":  # Scripts of `completion` call it.
        from flowmaestro.cli.completion import print_ids

        print_ids(words[1:])
        return cli.DONE
    parser = build_parser(command)
    if command and command not in COMMANDS:
        parser.error(f"there is no command {command!r}{suggestion(command, tuple(COMMANDS))}")
    option = words[0].partition("=")[0] if words and not command else ""
    if any(option in flags for _, _, arguments in COMMANDS.values() for flags, _ in arguments):
        parser.error(f"write {option} after the command")
    _, unknown = parser.parse_known_args(words, options)
    if options.version or (options.command == "version" and not unknown):
        Writer(sys.stdout).write(f"flowmaestro {__version__}\n")
        return cli.DONE
    if unknown and command == "login":  # One of them may be a key: it is not repeated.
        hint = "it asks for the key, because others can see the arguments of a command"
        raise cli.CommandFailed("login takes no other arguments", cli.USAGE, hint=hint)
    if unknown:
        _, _, arguments = COMMANDS.get(command, ("", (), ()))
        known = tuple(flag for flags, _ in arguments for flag in flags if flag[0] == "-")
        names = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        if any(suggestion(name, ("--api-key",)) for name in names):
            unknown = names  # What follows such an option may be a key of any form.
        hint = suggestion(unknown[0], known)
        if "--json" in known and unknown[0].partition("=")[0] in ("-o", "--output"):
            hint = "; this command has --json"
        elif not hint and "--input" in known:
            hint = f"; write -i {unknown[0]}" if "=" in unknown[0] else ""
            hint = "; an input is written -i NAME=TEXT" if unknown[0].startswith("-") else hint
        parser.prog = f"flowmaestro {command}".rstrip()
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    if options.command is None:
        parser.print_help(sys.stderr)
        return cli.USAGE
    if command == "version":
        Writer(sys.stdout).write(f"flowmaestro {__version__}\n")
        return cli.DONE
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing and command not in _WITHOUT_EXTRA:
        text = f"it needs {', '.join(missing)}: pip install 'flowmaestro[cli]'"
        raise cli.CommandFailed(text)
    if command in _STOPPED:
        from flowmaestro.cli.signals import stopped_by_signals

        until_the_end.enter_context(stopped_by_signals())
    module = import_module(f"flowmaestro.cli.{_MODULES.get(command, command)}")
    getattr(module, f"{command}_command")(options)
    return cli.DONE


def status_of(error: Exception) -> int:
    """Return the exit status for an error of the SDK."""
    from flowmaestro import errors

    statuses = (
        (errors.NotFoundError, cli.NOT_FOUND),
        ((errors.AuthenticationError, errors.AuthorizationError), cli.AUTHENTICATION),
        (errors.RateLimitError, cli.RATE_LIMIT),
        ((errors.ConnectionError, errors.TimeoutError, errors.StreamError), cli.NETWORK),
    )
    return next((status for kinds, status in statuses if isinstance(error, kinds)), cli.FAILED)


def _judge(error: Exception, words: Sequence[str], options: Namespace) -> Failure:
    """Return an error as the user gets it. `words` are the arguments of the command line."""
    if isinstance(error, cli.CommandFailed):
        return _failure(error.status, str(error), error.code, error.hint, error.execution_id)
    if isinstance(error, BrokenPipeError):  # The reader has closed the pipe: it wants no more.
        return Failure(cli.FAILED)
    from flowmaestro import FlowMaestroError

    if isinstance(error, FlowMaestroError):
        return sdk_failure(error, words, options)
    if isinstance(error, OSError):
        file = "" if error.filename is None else f"{error.filename}: "
        return _failure(cli.FAILED, f"{file}{error.strerror or error}", "os_error")
    if isinstance(error, ValueError):  # The SDK refused an argument, which its text names.
        text = str(error).replace(_NOT_UNICODE, cli.NOT_UNICODE)
        return _failure(cli.USAGE, _with_row_numbers(text))
    text = f"{type(error).__name__}: {error}"
    return _failure(cli.FAILED, text, "internal", "--debug shows where")


def sdk_failure(error: Any, words: Sequence[str], options: Namespace) -> Failure:
    """Return an error of the SDK as the user gets it, with advice for the command.

    The database's message for a malformed id is replaced, and words about the SDK's arguments
    `max_retries` and `redo`.
    """
    status, text, message = status_of(error), " ".join(str(error).split()), error.message
    if error.hint and getattr(options, "credentials", None) is not None:
        # The command passes each key as an argument, wherever the user keeps it.
        text = text.replace("the argument api_key", options.credentials.key_source)
    text = _RETRIES.sub(lambda match: f" (after {match[1]} attempts)", text)
    hint = ""
    if status == cli.NOT_FOUND:
        hint = _where_ids_are(words, options)
    elif status in _HINTS and words[0] != "login":  # It has kept no key that `doctor` could find.
        hint = f"{_doctor(options)} {_HINTS[status]}"
    if "(maybe processed)" in text and words[0] == "run":
        # The same command would start another one.
        hint = f"it may have been started: {_the_list(options)} shows whether it was"
    if status == cli.NOT_FOUND and message.startswith("The server answered with status"):
        # The API says more than a status.
        hint = f"is this the base URL of a FlowMaestro server? {_doctor(options)} shows it"
    not_cancelled = _NOT_CANCELLED.search(message)
    if not_cancelled:
        is_paused = not_cancelled[1] == "paused"
        hint = "it waits for a person, and can be cancelled once it runs on"
        hint = hint if is_paused else "it has ended"
    malformed_id = _MALFORMED_ID.search(message)
    if malformed_id:
        text = message = f'there is no id "{shorten(malformed_id[1], _LONGEST_ID, "...")}"'
    if error.code == "journal_mismatch":
        # The text names arguments of `run_many`; those of `map` do the same.
        text, _, redo = _with_row_numbers(message).partition("; pass redo=[")
        message, status, hint = text, cli.USAGE, _OTHER_FILES
        if redo:
            row = int(redo.partition("]")[0]) + 1
            hint = f"give --redo {row} to start the changed row again"
        elif "more rows" in text or "end with" in text or "are no rows" in text:
            hint = "put the removed rows back"
        elif "old row first" in text:  # The text itself says what to do.
            hint = ""
    elif error.code == "journal_unusable":
        # With another journal, every row would start again.
        same = ("make the same call again", "run the same command again")
        text, message = text.replace(*same), message.replace(*same)
        hint = f"if it never was one, {_OTHER_FILES}" if "is not a " in text else ""
    elif error.retry_after:
        hint = f"try again in {error.retry_after:.0f} s"
    about = {
        "code": error.code or cli.CODES[status],
        "message": message,
        "status": error.status_code,
        "request_id": error.request_id,
        "hint": hint or None,
    }
    return Failure(status, f"{text}; {hint}" if hint else text, about)


def _doctor(options: Namespace) -> str:
    """Return the command that looks at the server and the key that this command has used."""
    same = "" if getattr(options, "api_key", None) is None else ", with the same --api-key,"
    return f"`flowmaestro doctor{_server_words(options)}`{same}"


def _server_words(options: Namespace) -> str:
    """Return the options that name the server, to add to a command that the user is shown."""
    from flowmaestro.cli.session import server_words  # Only here: an error is rare.

    return server_words(options) if hasattr(options, "base_url") else ""


def _where_ids_are(words: Sequence[str], options: Namespace) -> str:
    """Return a hint that names the command which lists the ids of the resource.

    It names none for an unknown resource, and for threads, because the API cannot list them.
    """
    kinds = [word if word.endswith("s") else f"{word}s" for word in words if word in RESOURCES]
    kind = _LISTS.get(words[0]) or next(iter(kinds), "threads")
    the_list = f"`flowmaestro list {kind}{_server_words(options)}`"
    return "check the id" + (f"; {the_list} shows all" if kind != "threads" else "")


def _the_list(options: Namespace) -> str:
    """Return the command that lists the executions of the workflow of `run`."""
    import shlex  # Only here: it takes a millisecond of each command.

    which = f"--workflow {shlex.quote(options.workflow)}{_server_words(options)}"
    return f"`flowmaestro list executions {which}`"


def _with_row_numbers(text: str) -> str:
    """Return an error text of `run_many` with each `inputs[0]` replaced by `row 1`.

    Users count rows from 1.
    """
    return re.sub(r"inputs\[(\d+)\]", lambda match: f"row {int(match[1]) + 1}", text)


def _failure(
    status: int, text: str, code: str = "", hint: str = "", execution_id: Optional[str] = None
) -> Failure:
    """Return a failure for an error that is not of the SDK.

    `status` is the exit status, which also decides the code of an error without `code`. `text` and
    `hint` are printed, unless `text` is empty; `execution_id` is only in the JSON form.
    """
    text, hint = _without_keys(text), _without_keys(hint)
    about = {
        "code": code or cli.CODES[status],
        "message": text,
        "status": None,
        "request_id": None,
        "hint": hint or None,
    }
    if execution_id is not None:
        about["execution_id"] = execution_id
    return Failure(status, f"{text}; {hint}" if text and hint else text, about)
