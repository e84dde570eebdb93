"""Help, version, wrong arguments, and what is loaded before a command needs it."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmaestro import __version__
from flowmaestro.__main__ import main
from flowmaestro.cli import arguments
from flowmaestro.cli.arguments import COMMANDS
from flowmaestro.testing import FakeFlowMaestro

ROOT = Path(__file__).parents[2]
START_UP = {"flowmaestro", "flowmaestro_core", "flowmaestro.__main__", "flowmaestro.cli"}
START_UP |= {"flowmaestro.printable", "flowmaestro_core.version"}
START_UP |= {f"flowmaestro.cli.{name}" for name in ("addresses", "arguments", "console", "entry")}
"""All modules of ours that `--help` and `version` need."""


@pytest.mark.parametrize("word", ["--version", "-V", "version"])
def test_option_and_command_print_the_version(here, word):
    done = here(word)
    assert (done.status, done.out) == (0, f"flowmaestro {__version__}\n")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], [*COMMANDS, "exit status:"]),
        (
            ["serve"],
            ["--host", "--port", "--shapes", "--events", "--api-key", "--allow-webhooks-to"],
        ),
        *(([name], [f"  flowmaestro {name}"]) for name in COMMANDS),
    ],
)
def test_help_fits_80_columns_begins_with_examples_and_ends_with_a_page(
    here, monkeypatch, command, words
):
    monkeypatch.setattr(arguments, "DOCUMENTATION", "https://docs.test/")
    done = here(*command, "--help")
    assert (done.status, done.err) == (0, "")
    assert [word for word in words if word not in done.out] == []
    *lines, last = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.endswith(" ")] == []
    # Python 3.9 heads them `optional arguments`.
    options = re.search("\n(options|optional arguments):\n", done.out).start()
    assert done.out.index("\nexamples:\n  flowmaestro ") < options
    page = re.fullmatch(r"more: https://docs\.test/([a-z]+)/", last)
    assert (ROOT / "docs" / f"{page[1]}.md").exists()


@pytest.mark.parametrize("columns", [40, 60])
@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)])
def test_help_is_wrapped_at_words_except_examples(here, monkeypatch, columns, words):
    wide = here(*words, "--help").out
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    narrow = here(*words, "--help").out
    words_of = re.compile(r"[^\s-]+|-+").findall  # `argparse` breaks texts at hyphens, too.
    assert set(words_of(narrow)) <= set(words_of(wide))
    examples = [line for line in wide.splitlines() if line.startswith("  flowmaestro")]
    assert [line for line in narrow.splitlines() if line.startswith("  flowmaestro")] == examples
    assert "\n  0 done" in narrow or words
    others = [line for line in narrow.splitlines() if line not in examples]
    assert [line for line in others if len(line) > columns and " " in line.strip()] == []


def test_a_missing_extra_is_named(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "flowmaestro.mcp_server", None)  # as if mcp were not installed
    done = here("mcp", "--workflow", "wf_123")
    assert done.status == 1
    assert "mcp needs the package mcp" in done.err
    assert "pip install 'flowmaestro[mcp]'" in " ".join(done.err.split())


def test_no_command_is_answered_with_the_help(here):
    done = here()
    assert (done.status, done.out) == (2, "")
    assert "usage: flowmaestro" in done.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["dance"], "there is no command 'dance'"),
        (["lits", "workflows"], "did you mean list?"),
        (["get", "workfow", "wf_123"], "did you mean workflows?"),
        (["help", "lits"], "there is no command 'lits'; did you mean list?"),
        (["completion", "tcsh"], "invalid choice: 'tcsh' (choose from bash, "),
        (["list", "threads"], "the API has no list of threads; `flowmaestro get threads ID`"),
        (["list", "agents", "--status", "failed"], "--status is for executions"),
        (["serve", "--port", "65536"], "'65536' is not a port: 0 to 65535"),
        (["serve", "--port", "http"], "'http' is not a port"),
        (
            ["serve", "--api-key", "two words"],
            "argument --api-key: the key must consist of visible ASCII",
        ),
        (["serve", "--shapes", "round"], "invalid choice: 'round'"),
        (["demo", "--transport", "pigeon"], "invalid choice: 'pigeon'"),
        (
            ["run", "wf_1", "--inptu", "a=b"],
            "--inptu a=b; did you mean --input? (see flowmaestro run --help)",
        ),
        (["--profile", "x", "run", "wf_1"], "write --profile after the command (see flowmaestro"),
        (["watch", "--last", "-o", "json"], "-o; this command has --json (see flowmaestro watch"),
        (["run", "wf_1", "name=Ada"], "name=Ada; write -i name=Ada"),
        (["run", "wf_1", ""], "unrecognized arguments: "),
        (["run", "wf_1", "--name", "Ada"], "--name Ada; an input is written -i NAME=TEXT"),
        (["--json", "list"], "write --json after the command"),
        (["--jsno", "run"], "unrecognized arguments: --jsno (see flowmaestro --help)"),
        (["list", "workflows", "--api-key", ""], "the key from --api-key must not be empty"),
        (
            ["map", "wf_1", "rows.csv", "--out", "out.csv", "--delimiter", '"'],
            "argument --delimiter: '\"' is not a single character, other than a quote and",
        ),
    ],
)
def test_wrong_arguments_are_named_in_one_line(here, arguments, reason):
    done = here(*arguments)
    assert (done.status, done.out) == (2, "")
    assert reason in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("more", [[], ["--json"], ["--debug"]])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "wf_1", "--api_key=fm_live_SECRET"], "--api_key; did you mean --api-key?"),
        (["run", "wf_1", "--apikey", "a-SECRET"], "arguments: --apikey; did you mean --api-key?"),
        (["run", "wf_1", "-x", "--key=a-SECRET"], "arguments: -x --key"),
        (["run", "wf_1", "--token", "fm_live_SECRET"], "--token ***"),
        (["run", "wf_1", "-i", "fm_live_SECRET"], "-i ***: write -i NAME=TEXT"),
        (["fm_live_SECRET"], "there is no command '***'"),
        (["list", "fm_live_SECRET"], "'***' is not workflows"),
        (["watch", "exec_1", "fm_live_SECRET"], "unrecognized arguments: ***"),
        (["run", "wf_1", "--timeout", "fm_live_SECRET"], "'***' is not a number"),
    ],
)
def test_wrong_arguments_show_no_key(here, arguments, said, more):
    done = here(*arguments, *more)
    assert (done.status, done.out) == (2, "")
    assert said in " ".join(done.err.split())
    assert "SECRET" not in done.err


def modules(flowmaestro, code, *words):
    code = f"import sys\n{code}\nsys.stdout.write('\\n' + ' '.join(sys.modules))"
    return set(flowmaestro.run(*words, code=code).stdout.splitlines()[-1].split())


@pytest.fixture(scope="module")
def needed(flowmaestro):
    """What argparse, typing and a help text bring with them."""
    code = "import argparse, contextlib, errno, gettext, locale, textwrap, typing"
    return modules(flowmaestro, code)


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["version"]])
def test_start_up_imports_argparse_and_typing_alone(flowmaestro, needed, words):
    code = "from contextlib import suppress; from flowmaestro.__main__ import main\n"
    added = modules(flowmaestro, f"{code}with suppress(SystemExit): main()", *words) - needed
    ours = {name for name in added if not name.startswith(("_", "importlib"))}
    assert ours - {"unicodedata"} == START_UP  # Compiling `\N{...}` loads it.


def test_the_demo_loads_only_the_stack_that_it_shows(flowmaestro):
    code = (
        "import sys; from flowmaestro.__main__ import main; status = main(); "
        "print([name for name in ('requests', 'aiohttp', 'trio') if name in sys.modules]); "
        "sys.exit(status)"
    )
    done = flowmaestro.run("demo", "--transport", "memory", code=code)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["run", "0fa11000-0000-4000-8000-00000000000f"], "; `flowmaestro list workflows` shows"),
        (["watch", "exec_0"], "; `flowmaestro list executions` shows all"),
        (
            ["chat", "0fa11000-0000-4000-8000-00000000000f", "-m", "Hi"],
            "; `flowmaestro list agents`",
        ),
        (
            ["query", "0fa11000-0000-4000-8000-00000000000f", "text"],
            "; `flowmaestro list knowledge-bases` shows all",
        ),
        (["fire", "0fa11000-0000-4000-8000-00000000000f"], "; `flowmaestro list triggers` shows"),
        (["get", "webhook", "webhook_0"], "; `flowmaestro list webhooks` shows all"),
        (["get", "threads", "thread_0"], "\n"),
    ],
)
def test_an_unknown_id_names_the_list_of_its_kind(command, words, hint):
    done = command(*words)
    assert (done.status, done.out) == (3, "")
    assert f"check the id{hint}" in done.err
    assert "HTTP status 500" not in done.err


def test_help_of_a_command_is_that_of_its_option(here):
    assert here("help").out == here("--help").out
    assert here("help", "map").out == here("map", "--help").out
    assert here("help", "map").status == 0


def test_help_has_no_link_while_the_documentation_has_no_address(here, monkeypatch):
    monkeypatch.setattr(arguments, "DOCUMENTATION", "")
    for words in ([], ["run"]):
        assert "more:" not in here(*words, "--help").out


def test_a_resource_may_be_named_in_the_singular(command):
    plural = command("get", "workflows", "wf_123")
    assert plural.status == 0
    assert command("get", "workflow", "wf_123").out == plural.out


@pytest.mark.parametrize("where", ["argparse", "flowmaestro.cli.runs"])
def test_ctrl_c_while_modules_are_loaded_is_no_traceback(flowmaestro, where):
    code = (
        "import importlib.abc, sys\n"
        "class Impatient(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {where!r}: raise KeyboardInterrupt\n"
        f"sys.modules.pop({where!r}, None)\n"
        "sys.meta_path.insert(0, Impatient())\n"
        "from flowmaestro.__main__ import main; sys.exit(main())"
    )
    done = flowmaestro.run("run", "wf_123", code=code)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_debug_adds_the_traceback_and_changes_nothing_else(command):
    plain, debugged = command("get", "agents", "x"), command("get", "agents", "x", "--debug")
    assert (plain.status, debugged.status) == (3, 3)
    assert debugged.err.startswith("Traceback (most recent call last):\n")
    assert debugged.err.splitlines()[-1].startswith("flowmaestro get: ")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("words", "unbuffered", "who"),
    [
        ("map --help", "", "flowmaestro map"),
        ("-V", "1", "flowmaestro"),
        ("doctor --base-url http://127.0.0.1:9", "", "flowmaestro doctor"),
    ],
)
def test_a_full_disk_is_one_line(flowmaestro, words, unbuffered, who):
    environment = {**flowmaestro.environment, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        command = [*flowmaestro.command, *words.split()]
        done = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE)
    said = f"{who}: No space left on device".encode()
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, said)
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="closed in a POSIX shell")
def test_an_output_that_is_closed_is_no_traceback(flowmaestro):
    line = f"{shlex.join(flowmaestro.command)} demo --transport memory >&- <&-"
    done = subprocess.run(line, shell=True, env=flowmaestro.environment, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe of POSIX")
def test_an_output_without_a_reader_is_no_traceback(flowmaestro):
    reader, writer = os.pipe()
    os.close(reader)
    command = [*flowmaestro.command, "doctor", "--base-url", "http://127.0.0.1:9"]
    with open(writer, "wb") as output:
        done = subprocess.run(
            command, env=flowmaestro.environment, stdout=output, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (1, b"")


WORDS = [
    *("run", "watch", "map", "chat", "list", "get", "cancel", "query", "fire", "doctor"),
    *("workflows", "threads", "triggers", "wf_123", "kb_123", "agent_abc123", "x", "", "rows.csv"),
    *("--json", "--all", "--limit", "0", "-i", "a", "a=b", "a:={", "--input-file", "--timeout"),
    *("--schema", "--detach", "--out", "no/out", "--status", "--api-key", "\u00fc", "-o", "csv"),
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=7))
def test_random_arguments_give_no_traceback_and_valid_json(words):
    out, err = io.StringIO(), io.StringIO()
    fake = FakeFlowMaestro()
    with fake.installed(), mock.patch.multiple("sys", stdin=io.StringIO(), stdout=out, stderr=err):
        status = main(words)
    assert status in (0, 1, 2, 3, 4)
    assert "Traceback" not in err.getvalue()
    assert "--debug shows where" not in err.getvalue()
    if "--json" in words:
        for line in out.getvalue().splitlines():
            json.loads(line)
        if status not in (0, 130) and err.getvalue():
            document = json.loads(err.getvalue().splitlines()[-1])
            assert document["exit_status"] == status
            assert document["error"].keys() >= {"code", "message", "status", "request_id", "hint"}
