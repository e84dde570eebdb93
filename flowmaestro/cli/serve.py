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

from flowmaestro.cli import USAGE, CommandFailed
from flowmaestro.cli.console import console
from flowmaestro.testing import FakeFlowMaestro
from flowmaestro.testing import serve as serve_fake
from flowmaestro.testing.model.seeds import DOCUMENTED_KEYS, TEST_KEY
from flowmaestro.testing.server.inspector import Inspector
from flowmaestro.testing.server.seed_file import SeedFile


def serve_command(options: argparse.Namespace) -> None:
    """Serve until interrupted, which raises `KeyboardInterrupt`.

    The key is that of `--api-key`, or a new one. The keys that the documentation names are
    refused: a program that finds the port must not know a key. Raises `CommandFailed` when the
    address cannot be listened on, or the seed file is wrong from the beginning.
    """
    if options.reload and options.seed is None:
        raise CommandFailed("--reload needs --seed", USAGE)
    fake = FakeFlowMaestro(options.shapes, options.events, epoch=time.time())
    for known in (fake.api_key, TEST_KEY, *DOCUMENTED_KEYS):
        fake.add_key(known, state="revoked")
    key = fake.add_key(options.api_key or f"fm_live_{secrets.token_hex(20)}")
    said = console(sys.stderr)
    inspector = Inspector(fake, log=said.copyable)
    seeds = None if options.seed is None else SeedFile(options.seed, fake, inspector.troubled)
    if seeds is not None and not seeds.load():
        raise CommandFailed(inspector.trouble, USAGE)
    where = f"{options.host} port {options.port}"
    listen = partial(
        serve_fake,
        fake,
        options.host,
        options.port,
        allow_webhooks_to=options.allow_webhooks_to,
        inspector=inspector,
    )

    async def serve() -> Optional[OSError]:
        async with anyio.create_task_group() as tasks:
            if seeds is not None and options.reload:
                tasks.start_soon(seeds.watch)
            try:
                url = await tasks.start(listen)
            except OSError as error:
                tasks.cancel_scope.cancel()
                return error
            _announce(url, f"{options.shapes} shapes, {options.events} events", key)
        return None

    try:
        error = anyio.run(serve)
    except CancelledError:  # what Ctrl-C is before Python 3.11
        raise KeyboardInterrupt from None
    if error is not None:
        raise CommandFailed(f"cannot listen on {where}: {_reason(error)}") from error


def _announce(url: str, about: str, api_key: str) -> None:
    screen = console(sys.stdout)
    screen.copyable(f"FlowMaestro ({about}) listens on {url}")
    screen.copyable(f"A key that may do everything: {api_key}")
    screen.line()
    screen.copyable(f"  export FLOWMAESTRO_BASE_URL={url}")
    screen.copyable(f"  export FLOWMAESTRO_API_KEY={api_key}")
    screen.line()
    screen.copyable(f"A browser shows what it is asked: {url}/")
    screen.line("Ctrl-C ends it.")


def _reason(error: OSError) -> str:
    """Why, in the system's words; the event loop's own text repeats the address."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error.strerror or error).partition(" (while")[0]
