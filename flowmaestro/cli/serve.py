"""`serve`: the fake FlowMaestro, for programs in other processes and other languages."""

from __future__ import annotations

import argparse
import errno
import re
import secrets
import sys
import time
from asyncio import CancelledError
from contextlib import suppress
from functools import partial
from typing import List, Optional

import anyio

from flowmaestro.cli import USAGE, CommandFailed
from flowmaestro.cli.console import Lines
from flowmaestro.cli.state import change_private, state_folder
from flowmaestro.testing import FakeFlowMaestro
from flowmaestro.testing import serve as serve_fake
from flowmaestro.testing.fake.sample_runs import add_invoices
from flowmaestro.testing.fake.server.inspector import Inspector
from flowmaestro.testing.fake.server.seed_file import SeedFile
from flowmaestro.testing.fake.server.serve import is_loopback
from flowmaestro_core.arguments import check_token

_KEY = re.compile(r"fm_live_[0-9a-f]{40}")
_ADVICE = {
    errno.EADDRINUSE: "give another --port, or 0 for a free one",
    errno.EACCES: "give a --port above 1023",
}
"""Advice by error number, if the server cannot listen."""


def serve_command(options: argparse.Namespace) -> None:
    """Serve until interrupted, which raises `KeyboardInterrupt`.

    The server accepts the key of `--api-key`, or else the random one that this user's folder for
    state keeps. Other keys that the documentation shows are refused, because any program that finds
    the port could use them. Raises `CommandFailed` for `--reload` without `--seed`, if the server
    cannot listen on the address, if the seed file fails at the start, and for an unusable file of
    `--state`. Raises `ValueError` for a malformed key.
    """
    if options.reload and options.seed is None:
        raise CommandFailed("--reload needs --seed", USAGE)
    if options.api_key is not None:
        check_token("argument --api-key: the key", options.api_key)
    fake = FakeFlowMaestro(
        options.shapes,
        options.events,
        messages=options.messages or "sse",
        epoch=time.time(),
        # Ids of executions of an earlier start must not come again.
        seed=secrets.randbits(64),
    )
    add_invoices(fake)
    fake.revoke_keys()
    key = fake.add_key(options.api_key or _kept_key())
    inspector = Inspector(fake, log=Lines(sys.stderr).copyable)
    seeds = None if options.seed is None else SeedFile(options.seed, fake)
    if seeds is not None and (trouble := seeds.load()):
        raise CommandFailed(trouble, USAGE)
    if options.state is not None:
        from flowmaestro.testing.fake.server.state_file import StateFile

        try:
            StateFile(options.state, fake)
        except (OSError, ValueError) as why:
            reason = f"{options.state}: {why.strerror}" if isinstance(why, OSError) else why
            raise CommandFailed(f"--state: {reason}", USAGE) from why
    where = f"{options.host} port {options.port}"
    allowed = options.allow_webhooks_to
    listen = partial(
        serve_fake, fake, options.host, options.port, allow_webhooks_to=allowed, inspector=inspector
    )

    async def serve() -> Optional[OSError]:
        async with anyio.create_task_group() as tasks:
            if seeds is not None and options.reload:
                tasks.start_soon(seeds.watch, inspector.troubled)
            try:
                url = await tasks.start(listen)
            except OSError as error:
                tasks.cancel_scope.cancel()
                return error
            _announce(url, options, key)
        return None

    try:
        error = anyio.run(serve)
    except CancelledError:  # Ctrl-C on Python 3.9 and 3.10.
        raise KeyboardInterrupt from None
    if error is not None:
        reason = str(error.strerror or error).partition(" (while")[0].lower()
        advice = _ADVICE.get(error.errno or 0, "give a --host of this machine")
        raise CommandFailed(f"cannot listen on {where}: {reason}", hint=advice) from error


def _kept_key() -> str:
    """Return the key of this user's servers, which a file keeps, so that shells keep it, too.

    If the file cannot be written, return a new key.
    """
    key = f"fm_live_{secrets.token_hex(20)}"
    kept: List[str] = []

    def keep() -> str:
        with suppress(OSError, UnicodeDecodeError):
            text = path.read_text("utf-8").strip()
            if _KEY.fullmatch(text):
                kept.append(text)
        return f"{kept[0] if kept else key}\n"

    with suppress(OSError, RuntimeError):
        path = state_folder() / "serve-key"
        change_private(path, keep)
    return kept[0] if kept else key


def _announce(url: str, options: argparse.Namespace, api_key: str) -> None:
    screen, about = Lines(sys.stdout), f"{options.shapes} shapes, {options.events} events"
    screen.copyable(f"FlowMaestro ({about}) listens on {url}")
    screen.copyable(f"A key with every scope: {api_key}")
    screen.line()
    local = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    screen.copyable(f"  export FLOWMAESTRO_BASE_URL={local}")
    screen.copyable(f"  export FLOWMAESTRO_API_KEY={api_key}")
    screen.line()
    if is_loopback(options.host):
        screen.copyable(f"Requests and executions in a browser: {url}/")
    else:
        screen.line("The inspector for browsers is off: --host is not a loopback address.")
    screen.line("Press Ctrl-C to stop.")
