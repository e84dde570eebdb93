"""Running the command line as users do: another process, with its output in a pipe."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest

from flowmaestro.__main__ import main
from flowmaestro.testing import FakeFlowMaestro
from flowmaestro.testing.fake.model.replies import FakeReply
from flowmaestro_core.http.messages import Headers, Request


class CommandLine:
    """`python -m flowmaestro`, with every warning an error."""

    def __init__(self, state: Path) -> None:
        self.command = [sys.executable, "-W", "error", "-m", "flowmaestro"]
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")
        }
        self.environment["XDG_STATE_HOME"] = str(state)
        self.environment["XDG_CONFIG_HOME"] = str(state / "config")

    def run(
        self,
        *arguments: str,
        environment: Optional[Dict[str, str]] = None,
        timeout: float = 60,
        code: Optional[str] = None,
    ) -> subprocess.CompletedProcess[str]:
        command = self.command if code is None else [*self.command[:-2], "-c", code]
        return subprocess.run(
            [*command, *arguments],
            env={**self.environment, "PYTHONIOENCODING": "utf-8", **(environment or {})},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
        )


@pytest.fixture(scope="module")
def flowmaestro(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    return CommandLine(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module", autouse=True)
def _interruptible() -> Iterator[None]:
    """What the shell of a background job has ignored, all that is started from there ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Done:
    """What a command in this process did."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err


@pytest.fixture
def fake(request: pytest.FixtureRequest) -> Iterator[FakeFlowMaestro]:
    """A FlowMaestro in memory that serves every client made in this process."""
    fake = FakeFlowMaestro(*getattr(request, "param", ()))
    with fake, fake.installed():
        yield fake


@pytest.fixture
def command(fake: FakeFlowMaestro, here: Callable[..., Done]) -> Callable[..., Done]:
    """Runs a command in this process, against `fake`."""
    return here


@pytest.fixture
def answer_with(fake: FakeFlowMaestro, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has the fake answer with status 200 and these JSON values, with the last one repeatedly."""

    def arrange(*bodies: Any) -> None:
        left = list(bodies)

        def handle(request: Request, now: float) -> FakeReply:
            reply = FakeReply()
            body = left.pop(0) if len(left) > 1 else left[0]
            reply.complete(200, Headers(), body=json.dumps(body).encode())
            return reply

        monkeypatch.setattr(fake, "handle", handle)

    return arrange


@pytest.fixture
def here(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Done]:
    """Runs a command in this process."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for kind in ("STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))

    monkeypatch.setattr("sys.stdin", io.StringIO())  # The standard input of pytest fails.

    def run(*arguments: str) -> Done:
        try:
            status = main(arguments)
        except SystemExit as exit:
            status = int(exit.code or 0)
        printed = capsys.readouterr()
        return Done(status, printed.out, printed.err)

    return run


@pytest.fixture
def lags_behind(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeFlowMaestro], List[Request]]:
    """Has a fake answer the first poll of an execution as if that had not ended."""

    def arrange(fake: FakeFlowMaestro) -> List[Request]:
        handle, asked = fake.handle, []

        def late(request: Request, now: float) -> Any:
            reply = handle(request, now)
            if request.method == "GET" and re.search("/executions/[^/]+$", request.url):
                asked.append(request)
                if len(asked) == 1:
                    reply.body = reply.body.replace(b'"completed"', b'"running"')
            return reply

        monkeypatch.setattr(fake, "handle", late)
        return asked

    return arrange
