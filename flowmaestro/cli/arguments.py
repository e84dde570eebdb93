"""The arguments of every command."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import Any, Callable, Dict, NoReturn, Optional, Tuple

from flowmaestro.cli import USAGE, CommandFailed
from flowmaestro.cli.console import Console
from flowmaestro_core import __version__

_KINDS = ("workflows", "executions", "agents", "threads", "knowledge-bases", "triggers", "webhooks")
_ABOUT = """\
Run FlowMaestro workflows and talk to its agents. The key is --api-key or
$FLOWMAESTRO_API_KEY, the server --base-url or $FLOWMAESTRO_BASE_URL.
"""
_EXAMPLES = """\
examples:
  flowmaestro run wf_123 -i name=Ada
  flowmaestro map wf_123 rows.csv --out results.jsonl
  flowmaestro chat agent_123
  flowmaestro list workflows --json
  flowmaestro doctor
  flowmaestro serve

exit status:
  0 done, 1 failed, 2 wrong arguments, 3 not found, 4 key refused,
  5 rate limit, 6 network, 124 --timeout was over, 130 Ctrl-C
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise CommandFailed(f"{message} (see {self.prog} --help)", USAGE)


_Argument = Tuple[Tuple[str, ...], Dict[str, Any]]
"""What `add_argument` takes."""
_Command = Tuple[str, Tuple[str, ...], Tuple[_Argument, ...]]


def build_parser(only: Optional[str] = None) -> argparse.ArgumentParser:
    """The parser; it leaves `command` at `None` when there is none.

    It is made faster for `only` one command: the others then have no arguments.
    """
    width = (Console(sys.stdout).width or 80) - 2
    shape = partial(argparse.RawDescriptionHelpFormatter, width=width)
    common: Any = {"formatter_class": shape, "allow_abbrev": False}
    parser = _Parser(prog="flowmaestro", description=_ABOUT, epilog=_EXAMPLES, **common)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("--print-completion", metavar="SHELL", help="for bash, zsh and others")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, (what, examples, arguments) in COMMANDS.items():
        about = what[0].upper() + what[1:] + "."
        shown = "examples:" + "".join(f"\n  flowmaestro {name} {it}".rstrip() for it in examples)
        command = commands.add_parser(name, help=what, description=about, epilog=shown, **common)
        for flags, settings in arguments if only in (None, name) else ():
            command.add_argument(*flags, **settings)
    return parser


def suggestion(text: str, names: Tuple[str, ...]) -> str:
    """`"; did you mean ...?"` where one of the names is close to the text, else `""`."""
    from difflib import get_close_matches

    close = get_close_matches(text, names, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _command(what: str, examples: Tuple[str, ...], *arguments: _Argument) -> _Command:
    return what, examples, (*arguments, _flag("--debug", "show tracebacks"))


def _of(name: str, help: str, **more: Any) -> _Argument:
    """A positional argument, shown in capitals."""
    return (name,), {"metavar": name.upper(), "help": help, **more}


def _option(flags: str, metavar: str, help: str, **more: Any) -> _Argument:
    return tuple(flags.split()), {"metavar": metavar, "help": help, **more}


def _many(flags: str, metavar: str, help: str, **more: Any) -> _Argument:
    help += "; may be given several times"
    return _option(flags, metavar, help, action="append", default=[], **more)


def _flag(name: str, help: str) -> _Argument:
    return (name,), {"action": "store_true", "help": help}


def _choice(name: str, help: str, *choices: str, default: str) -> _Argument:
    help += f": {', '.join(choices)} [{default}]"
    return _option(name, "X", help, choices=choices, default=default)


def _resource(text: str) -> str:
    if text in _KINDS:
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not {_CHOICES}{suggestion(text, _KINDS)}")


def _checked(is_right: Callable[[str], bool], kind: Callable[[str], Any], what: str) -> Any:
    """A type of `argparse`, which says what is wrong in our words."""

    def convert(text: str) -> Any:
        try:
            if is_right(text):
                return kind(text)
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{text!r} is not a {what}")

    return convert


def _can_be_written(path: str) -> bool:
    there = path if os.path.exists(path) else os.path.dirname(path) or "."
    return path not in ("", "-") and not os.path.isdir(path) and os.access(there, os.W_OK)


def _output(flags: str, help: str, **more: Any) -> _Argument:
    return _option(flags, "FILE", help, type=_FILE, **more)


_PORT = _checked(lambda text: 0 <= int(text) <= 65535, int, "port: 0 to 65535")
_COUNT = _checked(lambda text: int(text) >= 1, int, "whole number of at least 1")
_SECONDS = _checked(lambda text: 0 < float(text) < 1e9, float, "number of seconds above 0")
_FILE = _checked(_can_be_written, str, "file that can be written")

_CHOICES = ", ".join(_KINDS[:-1]) + f" or {_KINDS[-1]}"
_RESOURCE = _of("resource", _CHOICES, type=_resource)
_WORKFLOW = _of("workflow", "id of the workflow")
_EXECUTION = _of("execution", "id of the execution")
_INPUTS = (
    _many("-i --input", "KEY=TEXT", "an input; KEY:=JSON for one that is no text"),
    _option("--input-file", "FILE", "a file with inputs as a JSON object; - for stdin"),
)
_TIMEOUT = _option("--timeout", "SECONDS", "for one execution [300]", type=_SECONDS, default=300.0)
_SETTLE_AFTER = "after a crash, when a row that may have started is surely listed [60]"
_FOLLOW = (_TIMEOUT, _output("--timeline", "draw the run's timeline into an .svg file"))
_CHECK = (
    _option("--schema", "FILE", "a JSON Schema to check the inputs by"),
    _flag("--no-check", "send the inputs unchecked"),
)
_SERVER = (
    _option("--api-key", "KEY", "[$FLOWMAESTRO_API_KEY]"),
    _option("--base-url", "URL", "[$FLOWMAESTRO_BASE_URL]"),
)
_EMBEDDED = (
    _choice("--shapes", "which dialect of the API", "deployed", "documented", default="deployed"),
    _choice("--events", "what event streams are", "live", "silent", default="live"),
)
TRANSPORTS = ("sockets", "requests", "aiohttp", "anyio", "trio", "memory")


def _json(what: str) -> Tuple[_Argument, ...]:
    return (*_SERVER, _flag("--json", what))


COMMANDS: Dict[str, _Command] = {
    "run": _command(
        "run a workflow, show its events, print its outputs",
        ("wf_123 -i name=Ada", "wf_123 -i count:=3 --timeout 60", "wf_123 --input-file in.json"),
        _WORKFLOW,
        *_INPUTS,
        _flag("--detach", "start it, print its execution id, and leave"),
        *_FOLLOW,
        *_CHECK,
        *_json("print the ended execution as JSON"),
    ),
    "watch": _command(
        "follow an execution to its end",
        ("2f1c9a52-…", "2f1c9a52-… --json"),
        _EXECUTION,
        *_FOLLOW,
        *_json("print each event as a line of JSON"),
    ),
    "map": _command(
        "run a workflow for each row of a file; repeat the command to go on",
        ("wf_123 rows.csv --out results.jsonl",),
        _WORKFLOW,
        _of("rows", "a .csv file (cells are text) or a .jsonl file (an object on each line)"),
        _output("--out", "where results go, a JSON line for each row", required=True),
        _output("--journal", "where progress is kept [OUT.journal]"),
        _flag("--rerun", "start the rows again whose execution failed or was cancelled"),
        _option("--concurrency", "N", "how many at a time [10]", type=_COUNT, default=10),
        _option("--settle-after", "SECONDS", _SETTLE_AFTER, type=_SECONDS, default=60.0),
        _TIMEOUT,
        *_CHECK,
        *_json("print each result as a line of JSON, too"),
    ),
    "chat": _command(
        "talk to an agent",
        ("agent_123", "agent_123 --thread thread_123"),
        _of("agent", "id of the agent"),
        _option("--thread", "THREAD", "go on with this thread"),
        *_SERVER,
    ),
    "list": _command(
        "list resources",
        ("workflows", "executions --workflow wf_123 --status failed --all --json"),
        _RESOURCE,
        _option("--limit", "N", "how many at most [20]", type=_COUNT, default=20),
        _flag("--all", "all of them"),
        _option("--workflow", "WORKFLOW", "executions and triggers of this workflow only"),
        _option("--status", "STATUS", "executions with this status only"),
        *_json("print a JSON array"),
    ),
    "get": _command(
        "show one resource",
        ("workflows wf_123", "executions 2f1c9a52-…"),
        _RESOURCE,
        _of("id", "its id"),
        *_json("print a JSON object"),
    ),
    "cancel": _command(
        "cancel a running execution",
        ("2f1c9a52-…",),
        _EXECUTION,
        *_json("print the server's answer as JSON"),
    ),
    "query": _command(
        "search a knowledge base",
        ('kb_123 "How do I reset my password?"',),
        _of("kb", "id of the knowledge base"),
        _of("text", "what to look for"),
        _option("--top-k", "N", "how many results", type=_COUNT),
        *_json("print a JSON array"),
    ),
    "fire": _command(
        "fire a trigger",
        ("trigger_123 -i name=Ada",),
        _of("trigger", "id of the trigger"),
        *_INPUTS,
        *_json("print the server's answer as JSON"),
    ),
    "doctor": _command(
        "check the key, the server and the way to it, and say what to do",
        ("", "--base-url http://127.0.0.1:8787"),
        *_json("print a JSON array of what was checked"),
    ),
    "types": _command(
        "write typed functions that run workflows",
        ("wf_123 wf_456 -o my_flows.py", "wf_123 -o my_flows.py --check"),
        _of("workflow", "id of a workflow", nargs="+"),
        _option("-o --output", "FILE", "where to write [stdout]"),
        _flag("--check", "write nothing; exit 1 if FILE is out of date"),
        _CHECK[0],
        *_json("print JSON that says what was written"),
    ),
    "mcp": _command(
        "offer workflows as tools over the Model Context Protocol, on stdin and stdout",
        ("--workflow wf_123 --workflow wf_456",),
        _many("--workflow", "ID", "offer this workflow", required=True),
        _TIMEOUT,
        *_SERVER,
    ),
    "serve": _command(
        "serve an embedded FlowMaestro over HTTP",
        ("", "--port 0"),
        _option("--host", "HOST", "where to listen [127.0.0.1]", default="127.0.0.1"),
        _option("--port", "N", "0 for a free one [8787]", type=_PORT, default=8787),
        *_EMBEDDED,
        _option(
            "--messages",
            "X",
            "how a streamed message is answered: sse, or refused (501) as deployed [sse for "
            "agents of --seed, otherwise as the shapes have it]",
            choices=("refused", "sse"),
        ),
        _option("--api-key", "KEY", "the key [a new one at each start]"),
        _option("--seed", "FILE", "a Python file whose `def seed(fake)` adds resources"),
        _flag("--reload", "take changes of the --seed file at once"),
        _many("--allow-webhooks-to", "HOST", "send webhooks to this host, too"),
    ),
    "demo": _command(
        "see what this SDK does, on an embedded FlowMaestro",
        ("", "--transport trio --shapes documented"),
        _choice("--transport", "the carrier", *TRANSPORTS, default="sockets"),
        *_EMBEDDED,
    ),
}
"""What each command does, examples, and its arguments."""
