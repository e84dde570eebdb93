"""`serve`: the embedded FlowMaestro, for programs in other processes and other languages."""

from __future__ import annotations

import os
import secrets
import time
from functools import partial
from typing import Optional, Sequence

from anyio.abc import TaskStatus

from flowmaestro.cli import CommandFailed
from flowmaestro.cli.event_loop import run
from flowmaestro.cli.screen import Screen, bold, dim
from flowmaestro.testing import Events, FakeFlowMaestro, Shapes
from flowmaestro.testing import serve as serve_fake
from flowmaestro.testing.model.seeds import DOCUMENTED_KEYS, TEST_KEY


def serve(
    host: str,
    port: int,
    shapes: Shapes,
    events: Events,
    api_key: Optional[str] = None,
    allow_webhooks_to: Sequence[str] = (),
) -> None:
    """Serve until interrupted, which raises `KeyboardInterrupt`.

    The key is `api_key`, or a new one. The keys that the documentation names are refused: a
    program that finds the port must not know a key. Raises `CommandFailed` when the address
    cannot be listened on.
    """
    fake = FakeFlowMaestro(shapes, events, epoch=time.time())
    for known in (fake.api_key, TEST_KEY, *DOCUMENTED_KEYS):
        fake.add_key(known, state="revoked")
    key = fake.add_key(api_key or f"fm_live_{secrets.token_hex(20)}")
    listening = _Announcement(Screen.standard_output(), f"{shapes} shapes, {events} events", key)
    serving = partial(serve_fake, fake, host, port, allow_webhooks_to=allow_webhooks_to)
    try:
        run(partial(serving, task_status=listening))
    except OSError as error:
        raise CommandFailed(f"cannot listen on {host} port {port}: {_reason(error)}") from error


class _Announcement(TaskStatus[str]):
    """Told by the server that it listens, tells the user how to reach it."""

    def __init__(self, screen: Screen, about: str, api_key: str) -> None:
        self._screen = screen
        self._about = about
        self._api_key = api_key

    def started(self, value: Optional[str] = None) -> None:
        """`value` is the server's URL."""
        screen = self._screen
        screen.whole(bold("FlowMaestro"), f" ({self._about}) listens on ", bold(str(value)))
        screen.whole("A key that may do everything: ", bold(self._api_key))
        screen.whole()
        screen.whole(f"  export FLOWMAESTRO_BASE_URL={value}")
        screen.whole(f"  export FLOWMAESTRO_API_KEY={self._api_key}")
        screen.whole()
        screen.whole(dim("Ctrl-C ends it."))


def _reason(error: OSError) -> str:
    """Why, in the system's words; the event loop's own text repeats the address."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error.strerror or error).partition(" (while")[0]
