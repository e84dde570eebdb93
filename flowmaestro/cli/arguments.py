"""Defines which arguments each command takes."""

from __future__ import annotations

import argparse
import os
import re
import sys
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple

from flowmaestro.cli import USAGE, CommandFailed
from flowmaestro.cli.addresses import DOCUMENTATION
from flowmaestro.cli.console import Lines, Writer

_KINDS = ("workflows", "executions", "agents", "threads", "knowledge-bases", "triggers", "webhooks")
RESOURCES = (*_KINDS, *(kind[:-1] for kind in _KINDS))
"""How users may name a kind of resource: in the plural and in the singular."""
STATUSES = ("pending", "running", "paused", "completed", "failed", "cancelled")
"""Statuses of executions."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_ABOUT = """\
Run FlowMaestro workflows and talk to its agents. `flowmaestro login` keeps a
key; --api-key or $FLOWMAESTRO_API_KEY gives another, --base-url or
$FLOWMAESTRO_BASE_URL another server.
"""
_EXAMPLES = """\
examples:
  flowmaestro login
  flowmaestro run "Nightly report" -i name=Ada
  flowmaestro map "Nightly report" rows.csv --out results.csv
  flowmaestro chat agent_123
  flowmaestro list executions --status failed --since 2h
  flowmaestro doctor
  flowmaestro serve
"""
_EXIT_STATUSES = """\
exit status:
  0 done, 1 failed, 2 wrong arguments, 3 not found, 4 key refused,
  5 rate limit, 6 network, 124 timed out (--timeout),
  129 SIGHUP, 130 Ctrl-C, 143 SIGTERM
"""
_PAGES = {
    "map": "batches",
    "chat": "agents",
    "serve": "testing",
    "demo": "testing",
    "types": "types",
}
"""The page about a command in the documentation; that of the others is `cli`."""


_NOTES = {
    "chat": """

in a conversation:
  Enter sends, Alt-Enter begins a new line; /help, /thread, /save FILE;
  Ctrl-C stops an answer, Ctrl-D leaves"""
}
"""What follows the examples in the help of a command."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and raise `CommandFailed`."""

    def error(self, message: str) -> NoReturn:
        # Some patch releases of Python put quotes around the choices, others do not.
        message = re.sub(r"\(choose from .*\)", lambda found: found[0].replace("'", ""), message)
        raise CommandFailed(f"{message} (see {self.prog} --help)", USAGE)

    def print_help(self, file: Any = None) -> None:
        """Write the help. Raises `OSError` if it cannot be written.

        Newer versions of `argparse` ignore that error.
        """
        Writer(file or sys.stdout).write(self.format_help())


def _more(page: str, width: int) -> str:
    """Return the line that leads to a page of the documentation; `""` if that has no address."""
    return _fitted(f"more: {DOCUMENTATION}{page}/", width) if DOCUMENTATION else ""


_Argument = Tuple[Tuple[str, ...], Dict[str, Any]]
"""The arguments of `add_argument`. One more, `complete`, is for `build_parser`."""
_Command = Tuple[str, Tuple[str, ...], Tuple[_Argument, ...]]
"""What a command does, the words of its examples, and its arguments."""


def build_parser(
    only: Optional[str] = None, *, completed: Optional[Mapping[str, Any]] = None
) -> argparse.ArgumentParser:
    """Return a parser. The namespace it returns has `command` None if the user names no command.

    If `only` is the name of a command, the parser knows this command alone. If `only` is any other
    text, the parser knows the names of all commands, without their arguments. If `only` is `None`,
    it knows all commands and their arguments, which takes longest.
    `completed` maps a kind of argument, such as `"file"`, to the value of the attribute `complete`
    that these arguments get, for shtab.
    """
    # A script does not depend on the terminal on which it is printed.
    width = sys.maxsize if completed is not None else (Lines(sys.stdout).width or 80) - 2
    column = min(24, max(width // 3, 10))  # In a narrow terminal, the texts need more room.
    shape = partial(argparse.RawDescriptionHelpFormatter, width=width, max_help_position=column)
    common: Any = {"formatter_class": shape, "allow_abbrev": False}
    about = _fitted(f"{_ABOUT}\n{_EXAMPLES}", width)
    about += "".join(_group(title, names, width) for title, names in _GROUPS.items())
    end = f"{_fitted(_EXIT_STATUSES, width)}\n\n{_more('cli', width)}".rstrip()
    usage = "flowmaestro [-h] [-V] COMMAND ..."
    parser = _Parser(prog="flowmaestro", usage=usage, description=about, epilog=end, **common)
    parser.add_argument("-V", "--version", action="store_true", help="show the version and exit")
    # The description has the commands, in groups, which argparse cannot make.
    hidden: Any = {"help": argparse.SUPPRESS} if completed is None else {}
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", prog="flowmaestro", **hidden
    )
    for name in [only] if only in COMMANDS else COMMANDS:
        what, examples, arguments = COMMANDS[name]
        about = f"{what[0].upper()}{what[1:]}.\n\nexamples:"
        about += "".join(f"\n  flowmaestro {name} {words}".rstrip() for words in examples)
        about += _NOTES.get(name, "")
        page = _more(_PAGES.get(name, "cli"), width)
        usage = f"flowmaestro {name} [options]{''.join(map(_in_usage, arguments))}"
        usage = _fitted(usage, width - len("usage: ")).replace("\n", "\n       ")
        about = _fitted(about, width)
        told: Any = {} if completed is None else {"help": what}
        command = commands.add_parser(
            name, usage=usage, description=about, epilog=page, **common, **told
        )
        for flags, settings in arguments if only in (None, name) else ():
            kind = settings.get("complete")
            argument: Any = command.add_argument(
                *flags, **{key: settings[key] for key in settings if key != "complete"}
            )
            if completed is not None and kind is not None:
                argument.complete = completed[kind]
    return parser


def _group(title: str, names: Sequence[str], width: int) -> str:
    """Return the lines of the help for commands that belong together."""
    from textwrap import fill

    lines = [f"\n{title}:"]
    for name in names:
        lead = f"  {name:12}"
        lines.append(fill(COMMANDS[name][0], max(width, 30), initial_indent=lead,
                          subsequent_indent=" " * len(lead)))  # fmt: skip
    return "\n".join(lines) + "\n"


def _fitted(text: str, width: int) -> str:
    """Return a text of the help. If a line is wider than `width` columns, the text is wrapped.

    Lines break only between words. Examples are not wrapped, so that the user can copy them.
    """
    if max(map(len, text.splitlines())) <= width:
        return text
    from textwrap import fill

    wrapped = partial(fill, width=max(width, 10), break_long_words=False, break_on_hyphens=False)
    blocks: List[str] = []
    for block in text.strip("\n").split("\n\n"):
        head, _, rest = block.partition(":\n")
        if rest and head != "examples":
            rest = wrapped(" ".join(rest.split()), initial_indent="  ", subsequent_indent="  ")
            block = f"{head}:\n{rest}"
        elif not rest:
            block = wrapped(block)
        blocks.append(block)
    return "\n\n".join(blocks)


def _in_usage(argument: _Argument) -> str:
    """Return an argument as the usage shows it; "" for an option that is not required."""
    (flag, *_), settings = argument
    if flag.startswith("-"):
        return f" {flag} {settings['metavar']}" if settings.get("required") else ""
    forms = {"?": " [{}]", "+": " {0} [{0} ...]", "*": " [{} ...]"}
    form = forms.get(settings.get("nargs", ""), " {}")
    return form.format(settings["metavar"])


def suggestion(text: str, names: Tuple[str, ...]) -> str:
    """Return `"; did you mean ...?"` if one of the names is close to the text, else `""`."""
    from difflib import get_close_matches

    close = get_close_matches(text, names, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _command(what: str, examples: Tuple[str, ...], *arguments: _Argument) -> _Command:
    return what, examples, (*arguments, _flag("--debug", "show tracebacks"))


def _of(name: str, help: str, **more: Any) -> _Argument:
    """Return a positional argument.

    The help shows it as `name` in capitals, unless `more` has a `metavar`. `help` is its help text;
    `more` are further settings of an `_Argument`.
    """
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


def _seconds_ago(text: str) -> float:
    """Return how many seconds a duration such as `90s`, `15m`, `2h`, `3d` or `1w` has.

    Raises `ArgumentTypeError` for any other text, and for a duration of 0 or of 1e9 s (30 years)
    and more.
    """
    try:
        seconds = float(text[:-1]) * _UNITS[text[-1:]]
    except (KeyError, ValueError):
        seconds = -1.0
    if 0 < seconds < 1e9:
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a duration; write 90s, 15m, 2h or 3d")


def _delimiter(text: str) -> str:
    r"""Return the delimiter that `text` stands for: a tab for `\t` or `tab`, else `text`."""
    return "\t" if text in ("\\t", "tab") else text


def _names(text: str) -> List[str]:
    """Return the names in a text such as `total,name`, without repetitions.

    Raises `ArgumentTypeError` if one is empty.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of names; write total,name")
    return list(dict.fromkeys(names))


def _row_numbers(text: str) -> Optional[List[int]]:
    """Return the row numbers, counted from 1, in a text such as `3,17`; `None` for `all`.

    Raises `ArgumentTypeError` for any other text.
    """
    if text == "all":
        return None
    words = text.split(",")
    if all(word.strip().isdecimal() and int(word) >= 1 for word in words):
        return [int(word) for word in words]
    raise argparse.ArgumentTypeError(f"{text!r} is not a list of rows; write 3, 3,17 or all")


def _resource(text: str) -> str:
    if text in _KINDS:
        return text
    if f"{text}s" in _KINDS:
        return f"{text}s"
    hint = suggestion(text, _KINDS)
    raise argparse.ArgumentTypeError(f"{text!r} is not {_one_of(_KINDS)}{hint}")


def _one_of(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _listed(text: str) -> str:
    """Return the kind of resource that `text` names: `workflows` for `workflow`.

    Raises `CommandFailed` if the API cannot list that kind, and `ArgumentTypeError` if there is no
    such kind.
    """
    kind = _resource(text)
    if kind == "threads":
        hint = "`flowmaestro get threads ID` shows one"
        raise CommandFailed("the API has no list of threads", USAGE, hint=hint)
    return kind


def _checked(is_right: Callable[[str], bool], kind: Callable[[str], Any], what: str) -> Any:
    """Return a function to use as `type=` of an `argparse` argument.

    The function returns `kind(text)`. If `is_right(text)` is False, or if `is_right` or `kind`
    raises `ValueError`, the function raises `ArgumentTypeError`: `"'...' is not a {what}"`.
    """

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


def _is_svg(path: str) -> bool:
    return path.lower().endswith(".svg") and _can_be_written(path)


def _is_results_file(path: str) -> bool:
    suffix = os.path.splitext(path)[1].lower()
    return suffix in ("", ".jsonl", ".csv") and _can_be_written(path)


def _output(flags: str, help: str, **more: Any) -> _Argument:
    return _file(flags, help, type=_FILE, **more)


def _file(flags: str, help: str, **more: Any) -> _Argument:
    """Return an option whose value is the path of a file, which shells complete."""
    return _option(flags, "FILE", help, complete="file", **more)


_PORT = _checked(lambda text: 0 <= int(text) <= 65535, int, "port: 0 to 65535")
_COUNT = _checked(lambda text: int(text) >= 1, int, "whole number of at least 1")
_SECONDS = _checked(lambda text: 0 < float(text) < 1e9, float, "number of seconds above 0")
_FILE = _checked(_can_be_written, str, "file that can be written")
_SVG = _checked(_is_svg, str, "file that can be written and ends in .svg")
_RESULTS = _checked(_is_results_file, str, "file that can be written and ends in .jsonl or .csv")
_SIGN = _checked(
    lambda text: len(_delimiter(text)) == 1 and text not in '"\r\n',
    _delimiter,
    "single character, other than a quote and the end of a line",
)

LISTED = tuple(kind for kind in _KINDS if kind != "threads")
"""The kinds of resources that `list` accepts: all but threads, of which the API has no list."""
_WORKFLOW = _of(
    "workflow", "id or name of the workflow, or a unique beginning of one", complete="workflow"
)
_OF_WORKFLOW = "id or name of a workflow"
_INPUTS = (
    _many("-i --input", "KEY=TEXT", "an input; KEY:=JSON for a number, list or object; KEY=@FILE"),
    _file("--input-file", "a file with inputs as a JSON object; - for stdin"),
)
_TIMEOUT = _option(
    "--timeout", "SECONDS", "time limit for one execution [300]", type=_SECONDS, default=300.0
)
_SETTLE_AFTER = (
    "after a crash, seconds to wait before looking for rows that may have been started [60]"
)
_REDO = "start those of these rows again whose inputs have changed: 3, 3,17 or all"
_FOLLOW = (
    _TIMEOUT,
    _file("--timeline", "draw the timeline into an .svg file", type=_SVG),
)
_CHECK = (
    _file(
        "--schema",
        "a JSON Schema for the inputs [that of the workflow, where the server declares one]. "
        "Before anything is started, it is checked which inputs are required and allowed, and the "
        "type and enum of each",
    ),
    _flag("--no-check", "leave this check out; the server may still refuse inputs"),
)
_SERVER = (
    _option("--api-key", "KEY", "the API key [$FLOWMAESTRO_API_KEY]"),
    _option("--base-url", "URL", "the server [$FLOWMAESTRO_BASE_URL]"),
    _option("--profile", "NAME", "a pair of key and server, kept by login [$FLOWMAESTRO_PROFILE]"),
)
_PROFILE = _option("--profile", "NAME", "name of the profile [$FLOWMAESTRO_PROFILE, else default]")
_EMBEDDED = (
    _choice("--shapes", "dialect of the API", "deployed", "documented", default="deployed"),
    _choice("--events", "kind of event streams", "live", "silent", default="live"),
)
ASSISTANTS = ("claude", "cursor", "vscode")
SHELLS = ("bash", "zsh", "fish")
TRANSPORTS = ("sockets", "requests", "aiohttp", "anyio", "trio", "memory")


def _json(what: str) -> Tuple[_Argument, ...]:
    """Return `--json`, whose help text is `what`, and the options for the key and the server."""
    return (_json_flag("json", what), *_SERVER)


def _json_flag(form: str, help: str) -> _Argument:
    settings = {"action": "store_const", "const": form, "dest": "output", "help": help}
    return ("--json",), settings


def _formats(help: str, *forms: str, json: str = "json") -> Tuple[_Argument, ...]:
    """Return `-o` with the choices `forms`, `--json`, and the options for the key and the server.

    `help` is the help text of `-o`. The argument `json` is the form that `--json` stands for.
    """
    output = _option("-o --output", "FORM", f"{help}: {', '.join(forms)}", choices=forms)
    return (output, _json_flag(json, f"the same as -o {json}"), *_SERVER)


_GROUPS = {
    "workflows": ("run", "watch", "map", "cancel", "fire", "types"),
    "agents and what there is": ("chat", "query", "list", "get"),
    "keys, and trying things": (
        *("login", "logout", "profiles", "doctor", "serve", "demo", "mcp", "completion", "help"),
        "version",
    ),
}
"""The commands in the order in which the help lists them."""
COMMANDS: Dict[str, _Command] = {
    "run": _command(
        "run a workflow, show its events, print its outputs",
        (
            '"Nightly report" -i name=Ada',
            "wf_123 -i count:=3 -o json",
            "wf_123 --input-file in.json",
            "wf_123 --checkpoint report-$(date +%F).json",
        ),
        _WORKFLOW,
        *_INPUTS,
        _flag("--detach", "start it, print its execution id, and leave"),
        _file(
            "--checkpoint",
            "start it once: the same command with the same file follows what was started",
        ),
        _flag("--rerun", "with a checkpoint, start it again if it failed or was cancelled"),
        *_FOLLOW,
        *_CHECK,
        *_formats(
            "print the outputs as a table, or the whole execution [the outputs as JSON]",
            *("table", "json", "jsonl"),
        ),
    ),
    "watch": _command(
        "follow an execution to its end",
        ("2f1c9a52-…", "--last", '--workflow "Nightly report" --json'),
        _of("execution", "id of the execution", nargs="?", complete="execution"),
        _flag("--last", "the last execution that you started from this machine"),
        _option(
            "--workflow",
            "WORKFLOW",
            f"the newest execution of this workflow ({_OF_WORKFLOW})",
            complete="workflow",
        ),
        *_FOLLOW,
        _json_flag("jsonl", "print each event as a line of JSON"),
        *_SERVER,
    ),
    "map": _command(
        "run a workflow for each row of a file; repeat the command to resume",
        (
            '"Nightly report" rows.csv --out results.csv',
            "wf_123 rows.jsonl --out results.jsonl -o jsonl",
            "wf_123 - --out results.jsonl < rows.jsonl",
        ),
        _WORKFLOW,
        _of(
            "rows",
            "a .csv, .tsv, .jsonl or .json file, or - for stdin: JSON lines, a JSON array or CSV. "
            "Cells of CSV are texts, unless a schema names another type, or the column is called "
            "NAME:=, which makes them JSON; an empty cell that is not a text is left out",
            complete="file",
        ),
        _file(
            "--out",
            "results: a .csv file with the columns of ROWS, execution_id, status, error and "
            "outputs, or a .jsonl file with an object for each row",
            type=_RESULTS,
            required=True,
        ),
        _option(
            "--columns",
            "NAMES",
            "make columns of these outputs in the .csv file, such as total,name [outputs as JSON]",
            type=_names,
        ),
        _output("--journal", "file that makes the batch resumable [OUT.journal]"),
        _option(
            "--delimiter",
            "SIGN",
            "separator of CSV cells, such as ; or tab [, or for .tsv a tab]",
            type=_SIGN,
        ),
        _flag("--rerun", "start the rows again whose execution failed or was cancelled"),
        _option("--redo", "ROWS", _REDO, type=_row_numbers, default=[]),
        _option("--concurrency", "N", "executions at a time [8]", type=_COUNT, default=8),
        _option("--settle-after", "SECONDS", _SETTLE_AFTER, type=_SECONDS, default=60.0),
        _TIMEOUT,
        *_CHECK,
        *_formats(
            "print results on stdout, too [nothing]", "table", "json", "jsonl", "csv", json="jsonl"
        ),
    ),
    "chat": _command(
        "talk to an agent",
        (
            "agent_123",
            "agent_123 --thread thread_123",
            'agent_123 -m "What is new?"',
            "agent_123 --json < question.txt",
        ),
        _of("agent", "id or name of the agent, or a unique beginning of one"),
        _option(
            "-m --message",
            "TEXT",
            "send one message, print the answer, and leave; stdin is appended if it is not a "
            "terminal",
        ),
        _option("--thread", "THREAD", "continue this thread"),
        _flag("--no-history", "neither read nor keep the history of what you type"),
        *_json("print the answer to one message as a JSON object"),
    ),
    "list": _command(
        "list workflows, executions, agents and more",
        ("workflows", "executions --status failed --since 2h", "executions --all -o csv"),
        _of("resource", _one_of(LISTED), type=_listed, choices=LISTED),
        _option("--limit", "N", "how many at most [20]", type=_COUNT),
        _flag("--all", "all of them"),
        _option(
            "--workflow",
            "WORKFLOW",
            f"executions and triggers of this workflow ({_OF_WORKFLOW})",
            complete="workflow",
        ),
        _option(
            "--status",
            "STATUS",
            f"executions that are {', '.join(STATUSES)}",
            choices=STATUSES,
            action="append",
        ),
        _option(
            "--since", "DURATION", "executions of the last 90s, 15m, 2h or 3d", type=_seconds_ago
        ),
        *_formats("how to print them [table]", "table", "json", "jsonl", "csv"),
    ),
    "get": _command(
        "show one workflow, execution, agent or other resource",
        ('workflows "Nightly report"', "executions 2f1c9a52-… --json"),
        _of("resource", _one_of(_KINDS), type=_resource, choices=_KINDS),
        _of("id", "its id; the name of a workflow or an agent will do, too"),
        *_formats("how to print it [table]", "table", "json", "jsonl"),
    ),
    "cancel": _command(
        "cancel running executions",
        ("2f1c9a52-…", "2f1c9a52-… 77d0b1aa-…"),
        _of("execution", "id of an execution", nargs="+", complete="execution"),
        *_json("print a JSON array of the server's replies"),
    ),
    "query": _command(
        "search a knowledge base",
        ('kb_123 "How do I reset my password?"',),
        _of("kb", "id or name of the knowledge base, or a unique beginning of one"),
        _of("text", "what to look for"),
        _option("--top-k", "N", "how many results", type=_COUNT),
        *_json("print a JSON array"),
    ),
    "fire": _command(
        "fire a trigger",
        ('"Order placed" -i name=Ada',),
        _of("trigger", "id or name of the trigger, or a unique beginning of one"),
        *_INPUTS,
        *_json("print the server's reply as JSON"),
    ),
    "types": _command(
        "write a file with the types of your workflows, for editors and type checkers",
        ("--out workflows.py", '"Nightly report" --out workflows.py --outputs', "--check"),
        _of(
            "workflow",
            "only these workflows (id or name of each) [all]",
            nargs="*",
            complete="workflow",
        ),
        _output("--out", "the Python file [workflows.py]", default="workflows.py"),
        _flag("--outputs", "types of outputs, too, as past runs had them"),
        _flag("--force", "overwrite a file that this command has not written"),
        _flag(
            "--check",
            "write nothing, but compare the file with the server: exit status 1 if callers who "
            "keep to the file may break, 2 if the server could not be asked",
        ),
        *_SERVER,
    ),
    "doctor": _command(
        "check the key, the server and the connection, and say what to do",
        ("", "--base-url http://127.0.0.1:8787"),
        *_json("print a JSON array of the checks"),
    ),
    "login": _command(
        "ask for an API key, check it, and keep it in a profile",
        ("", "--profile work --base-url https://api.example.com", "< key.txt"),
        _PROFILE,
        _option("--base-url", "URL", "the server that the key is for [$FLOWMAESTRO_BASE_URL]"),
        _flag("--file", "keep the key in a file of mode 0600, not in the keyring"),
    ),
    "logout": _command("delete a profile and its key", ("", "--profile work"), _PROFILE),
    "profiles": _command(
        "list profiles, without their keys",
        ("", "--json"),
        _json_flag("json", "print a JSON array"),
    ),
    "mcp": _command(
        "offer workflows as tools over the Model Context Protocol, on stdin and stdout",
        (
            "--workflow wf_123 --workflow wf_456",
            "--workflow wf_123 --schema wf_123=schema.json",
            "--workflow wf_123 --profile work --config claude",
        ),
        _many(
            "--workflow",
            "ID",
            f"offer this workflow ({_OF_WORKFLOW})",
            required=True,
            complete="workflow",
        ),
        _many("--schema", "ID=FILE", "a JSON Schema for the inputs of one of them"),
        _option(
            "--config",
            "APP",
            f"print the settings for one of {', '.join(ASSISTANTS)}, and leave; no server is "
            "asked, so the names of --workflow are not checked",
            choices=ASSISTANTS,
        ),
        _TIMEOUT,
        *_SERVER,
    ),
    "serve": _command(
        "serve a fake FlowMaestro over HTTP, to try things without a key",
        ("", "--port 0"),
        _option("--host", "HOST", "where to listen [127.0.0.1]", default="127.0.0.1"),
        _option("--port", "N", "0 for a free one [8787]", type=_PORT, default=8787),
        *_EMBEDDED,
        _option(
            "--messages",
            "X",
            "how a streamed message is answered: sse, or refused (501) as deployed [sse]",
            choices=("refused", "sse"),
        ),
        _option("--api-key", "KEY", "the key [the same at each start]"),
        _file("--seed", "a Python file whose `def seed(fake)` adds resources"),
        _flag("--reload", "reload the --seed file when it changes"),
        _file("--state", "a file that keeps executions over a restart"),
        _many("--allow-webhooks-to", "HOST", "send webhooks to this host, too"),
    ),
    "demo": _command(
        "see what this SDK does, on a fake FlowMaestro",
        ("", "--transport trio --shapes documented"),
        _choice("--transport", "the transport", *TRANSPORTS, default="sockets"),
        *_EMBEDDED,
    ),
    "completion": _command(
        "print a script that makes a shell complete these commands",
        ("bash > ~/.flowmaestro-completion", "fish | source"),
        _of("shell", ", ".join(SHELLS), choices=SHELLS),
    ),
    "help": _command(
        "show the help of a command",
        ("", "map"),
        _of("topic", "name of a command", metavar="COMMAND", nargs="?", complete="command"),
    ),
    "version": _command("show the version", ("",)),
}
"""What each command does, examples, and its arguments."""
