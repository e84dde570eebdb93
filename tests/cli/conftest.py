"""Running the command line as users do: another process, with its output in a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Dict, Optional

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
