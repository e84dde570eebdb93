"""Running the command line as users do: another process, with its output in a pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Dict, Iterator, Optional

import pytest


class CommandLine:
    """`python -m flowmaestro`, with every warning an error and none of our environment's keys."""

    def __init__(self) -> None:
        self.command = [sys.executable, "-W", "error", "-m", "flowmaestro"]
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("FLOWMAESTRO_") and name not in ("NO_COLOR", "COLUMNS")
        }

    def run(
        self, *arguments: str, environment: Optional[Dict[str, str]] = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *arguments],
            env={**self.environment, "PYTHONIOENCODING": "utf-8", **(environment or {})},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=30,
        )


@pytest.fixture
def flowmaestro() -> CommandLine:
    return CommandLine()


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """What the shell of a background job has ignored, all that is started from there ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
