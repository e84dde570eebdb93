"""Help, version, wrong arguments, and what is loaded before a command needs it."""

from __future__ import annotations

import json
import sys

import pytest

from flowmaestro import __version__

HEAVY = ["requests", "urllib3", "aiohttp", "anyio", "h11", "trio", "asyncio", "ssl", "http.server"]


def test_version(flowmaestro):
    done = flowmaestro.run("--version")
    assert (done.returncode, done.stdout) == (0, f"flowmaestro {__version__}\n")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], ["run", "map", "doctor", "serve", "demo", "examples:", "exit status:"]),
        (
            ["serve"],
            ["--host", "--port", "--shapes", "--events", "--api-key", "--allow-webhooks-to"],
        ),
        (["demo"], ["--transport", "--shapes", "--events"]),
    ],
)
def test_help(flowmaestro, command, words):
    done = flowmaestro.run(*command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert [word for word in words if word not in done.stdout] == []


def test_no_command_is_answered_with_the_help(flowmaestro):
    done = flowmaestro.run()
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: flowmaestro" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["dance"], "there is no command 'dance'"),
        (["lits", "workflows"], "did you mean list?"),
        (["get", "workflow", "wf_123"], "did you mean workflows?"),
        (["list", "agents", "--status", "failed"], "--status is for executions"),
        (["serve", "--port", "65536"], "'65536' is no port: 0 to 65535"),
        (["serve", "--port", "http"], "'http' is no port"),
        (
            ["serve", "--api-key", "two words"],
            "argument --api-key: the key must consist of visible ASCII",
        ),
        (["serve", "--shapes", "round"], "invalid choice: 'round'"),
        (["demo", "--transport", "pigeon"], "invalid choice: 'pigeon'"),
    ],
)
def test_wrong_arguments_are_named(flowmaestro, arguments, reason):
    done = flowmaestro.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "code",
    [
        "import flowmaestro.__main__",
        "from flowmaestro.cli.arguments import build_parser; build_parser().format_help()",
    ],
)
def test_no_http_stack_is_loaded_before_a_command_needs_it(flowmaestro, code):
    listing = f"{code}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    flowmaestro.command = [sys.executable, "-c", listing]
    loaded = json.loads(flowmaestro.run().stdout)
    assert [name for name in HEAVY if name in loaded] == []


def test_the_demo_loads_only_the_stack_that_it_shows(flowmaestro):
    code = (
        "import sys; from flowmaestro.__main__ import main; status = main(); "
        "print([name for name in ('requests', 'aiohttp', 'trio') if name in sys.modules]); "
        "sys.exit(status)"
    )
    flowmaestro.command = [sys.executable, "-c", code]
    done = flowmaestro.run("demo", "--transport", "memory")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]")
