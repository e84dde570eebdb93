"""The demonstration in a terminal: its colours, its width, and a reader that left."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_demo_in_a_terminal_is_coloured_and_fits_its_width(flowmaestro):
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    process = subprocess.Popen(
        [*flowmaestro.command, "demo", "--transport", "memory"],
        env={**flowmaestro.environment, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    assert process.wait(60) == 0
    screen = written.decode().replace("\r\n", "\n")
    plain = ESCAPE.sub("", screen)
    assert set(ESCAPE.findall(screen)) == {"0", "1", "2", "31", "32", "36"}
    assert "\x1b" not in plain  # colours, and no other tricks
    assert "\x1b[36m▸ \x1b[0m\x1b[1mList workflows\x1b[0m" in screen
    assert "execution:progress     33 %\n" in plain
    assert "  ✗ failed: Workflow completed with 1 failed" in plain
    assert max(map(len, plain.splitlines())) <= 50


def _read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when nobody can write any more
        return b""


def test_a_reader_that_leaves_is_no_traceback(flowmaestro):
    process = subprocess.Popen(
        [*flowmaestro.command, "demo", "--transport", "memory"],
        env=flowmaestro.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), errors) in [(1, b""), (0, b"")]
