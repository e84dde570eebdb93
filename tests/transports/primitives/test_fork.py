"""A forked child makes connections of its own, and leaves its parent's alone."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.harness.transports import fork_scene

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.mark.parametrize(
    ("runner", "loops", "over_tls"),
    [
        ("sockets", "two", False),
        ("requests", "two", False),
        ("session", "two", False),
        ("session", "two", True),
        ("asyncio", "two", False),
        ("asyncio", "one", False),
        ("trio", "two", False),
    ],
)
def test_a_child_does_not_disturb_the_connections_of_its_parent(
    scripted: Any,
    server_tls: ssl.SSLContext,
    ca_file: str,
    runner: str,
    loops: str,
    over_tls: bool,
) -> None:
    """The child uses what it was left, closes it, or drops it."""

    def serving() -> Any:
        go = threading.Event()

        def handler(peer: Any) -> None:
            while True:
                request = peer.read_request()
                if request is None:
                    return
                if request.target == "/go":
                    go.set()
                if request.target != "/stream":
                    peer.send(scripted.reply(b"connection %d" % peer.number))
                    continue
                peer.send(scripted.reply(headers=[scripted.CHUNKED], length=False))
                peer.send(scripted.chunk(b"one"))
                go.wait(60)
                peer.send(scripted.chunk(b"two"))

        return scripted.ScriptedServer(handler, tls=server_tls if over_tls else None)

    with serving() as used, serving() as closed, serving() as dropped:
        urls = (used.url, closed.url, dropped.url)
        scene = subprocess.run(
            [sys.executable, "-W", "error", fork_scene.__file__, runner, loops, *urls],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "REQUESTS_CA_BUNDLE": ca_file},
        )
    assert (scene.returncode, scene.stderr) == (0, "")
    assert used.connections > 2
    assert closed.connections == dropped.connections == 2


def test_child_that_closes_its_copy_of_a_lock_file_does_not_unlock_it(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import os
        from flowmaestro_transports.primitives.file_lock import open_lock_file

        path = {str(tmp_path / "lock")!r}
        lock = open_lock_file(path)
        child = os.fork()
        if not child:
            lock.close()
            os._exit(0)
        os.waitpid(child, 0)
        try:
            open_lock_file(path)
        except BlockingIOError:
            print("locked")
    """)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("locked\n", "")
