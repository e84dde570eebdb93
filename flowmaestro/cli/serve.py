"""`serve`: the embedded FlowMaestro, for programs in other processes and other languages."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from asyncio import CancelledError
from functools import partial
from typing import Optional

import anyio
from anyio.abc import TaskStatus

from flowmaestro.cli import CommandFailed
from flowmaestro.cli.console import console
from flowmaestro.testing import FakeFlowMaestro
from flowmaestro.testing import serve as serve_fake
from flowmaestro.testing.model.seeds import DOCUMENTED_KEYS, TEST_KEY


def serve_command(options: argparse.Namespace) -> None:
    """Serve until interrupted, which raises `KeyboardInterrupt`.

    The key is that of `--api-key`, or a new one. The keys that the documentation names are
    refused: a program that finds the port must not know a key. Raises `CommandFailed` when the
    address cannot be listened on.
    """
    host, port = options.host, options.port
    fake = FakeFlowMaestro(options.shapes, options.events, epoch=time.time())
    for known in (fake.api_key, TEST_KEY, *DOCUMENTED_KEYS):
        fake.add_key(known, state="revoked")
    key = fake.add_key(options.api_key or f"fm_live_{secrets.token_hex(20)}")
    listening = _Announcement(f"{options.shapes} shapes, {options.events} events", key)
    allowed = options.allow_webhooks_to
    serving = partial(serve_fake, fake, host, port, allow_webhooks_to=allowed)
    try:
        anyio.run(partial(serving, task_status=listening))
    except OSError as error:
        raise CommandFailed(f"cannot listen on {host} port {port}: {_reason(error)}") from error
    except CancelledError:  # what Ctrl-C is before Python 3.11
        raise KeyboardInterrupt from None


class _Announcement(TaskStatus[str]):
    """Told by the server that it listens, tells the user how to reach it."""

    def __init__(self, about: str, api_key: str) -> None:
        self._about = about
        self._api_key = api_key

    def started(self, value: Optional[str] = None) -> None:
        """`value` is the server's URL."""
        screen = console(sys.stdout)
        screen.copyable(f"FlowMaestro ({self._about}) listens on {value}")
        screen.copyable(f"A key that may do everything: {self._api_key}")
        screen.line()
        screen.copyable(f"  export FLOWMAESTRO_BASE_URL={value}")
        screen.copyable(f"  export FLOWMAESTRO_API_KEY={self._api_key}")
        screen.line()
        screen.line("Ctrl-C ends it.")


def _reason(error: OSError) -> str:
    """Why, in the system's words; the event loop's own text repeats the address."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error.strerror or error).partition(" (while")[0]
