"""The demonstration in a terminal: its colours, its width, Ctrl-C, and a reader that left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")

ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")


def in_terminal(flowmaestro, *, width=80, environment=None):
    """What the demonstration in memory writes to a terminal of that width."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        process = subprocess.Popen(
            [*flowmaestro.command, "demo", "--transport", "memory"],
            env={
                **flowmaestro.environment,
                "TERM": "xterm",
                "PYTHONIOENCODING": "utf-8",
                **(environment or {}),
            },
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        written = b"".join(iter(lambda: _read(ours), b""))
        assert process.wait(10) == 0
    finally:
        os.close(ours)
    return written.decode().replace("\r\n", "\n")


def _read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when nobody can write any more
        return b""


def test_it_is_coloured_and_marked(flowmaestro):
    screen = in_terminal(flowmaestro)
    plain = ESCAPE.sub("", screen)
    assert set(ESCAPE.findall(screen)) == {"0", "1", "2", "31", "32", "36"}
    assert "\x1b" not in plain  # colours, and no other tricks
    assert "\x1b[36m▸ \x1b[0m\x1b[1mList workflows\x1b[0m" in screen
    assert '  ✓ {"message": "Welcome, Ada Lovelace!", "sent_to": "ada@example.com"}\n' in plain
    assert "execution:progress     33 %\n" in plain
    assert "  ✗ failed: Service answered 503\n" in plain


@pytest.mark.parametrize("width", [50, 80, 200])
def test_no_line_is_wider_than_the_terminal_or_than_is_readable(flowmaestro, width):
    lines = ESCAPE.sub("", in_terminal(flowmaestro, width=width)).splitlines()
    assert max(map(len, lines)) <= min(width, 110)
    story = re.sub(r"\s+", " ", " ".join(lines))
    assert "it had so many that it needed a second page." in story


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(flowmaestro, environment):
    screen = in_terminal(flowmaestro, environment=environment)
    assert "\x1b" not in screen
    assert screen.isascii() or "…" not in screen


def test_a_terminal_without_the_symbols_gets_ascii_and_its_colours(flowmaestro):
    screen = in_terminal(flowmaestro, environment={"PYTHONIOENCODING": "ascii"})
    assert screen.isascii()
    assert "\x1b[36m* \x1b[0m" in screen


@pytest.mark.parametrize("transport", ["requests", "aiohttp", "anyio", "trio"])
def test_ctrl_c_ends_it_without_a_word(flowmaestro, transport):
    process = subprocess.Popen(
        [*flowmaestro.command, "demo", "--transport", transport],
        env=flowmaestro.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:
            if "node:started" in line:
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, errors) == (130, "")


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
