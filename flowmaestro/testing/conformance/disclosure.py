"""Checks that a failure discloses no key: neither by what can be reached from it, nor by a frame.

Reports of errors walk through an exception's attributes, and print the locals of its frames.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import abc
from functools import partial
from types import (
    BuiltinFunctionType,
    FrameType,
    FunctionType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import Any, Callable, Dict, Generator, Iterator, List, Optional, Set, Tuple

from flowmaestro.testing.conformance.check import (
    AT_ONCE,
    WIRE,
    check,
    expect,
    expect_failure,
    quiet_finalizers,
)
from flowmaestro.testing.conformance.expectations import KEY, LIMIT, ask, read_out
from flowmaestro.testing.conformance.runner import Runner
from flowmaestro.testing.conformance.scripted_server import CHUNKED, Peer, reply
from flowmaestro_core.http.messages import TransportFailure

SHORT = 0.1
"""Seconds: the time limit for a reply that is late."""

_DEPTH = 12
_OPAQUE = (
    *(BuiltinFunctionType, FrameType, FunctionType, MethodType, ModuleType, TracebackType),
    *(type, int, float, bool, type(None)),
)
_WHY = "Keys would get into logs, crash reports and the output of tests."


def where_found(thing: Any, secret: str) -> Optional[str]:
    """How `secret` is reached from `thing`: a path of attributes and items; None if it is not.

    Looks into exceptions and what they are chained to, containers and the attributes of objects,
    twelve steps deep at most; not into functions, modules, classes and tracebacks.
    """
    seen: Set[int] = set()
    # Whatever is met is kept, so that no `id` is used again.
    left: List[Tuple[Any, str]] = [(thing, type(thing).__name__)]
    for value, path in left:
        if id(value) in seen or isinstance(value, _OPAQUE):
            continue
        seen.add(id(value))
        if secret in _text(value):
            return path
        if path.count(" -> ") < _DEPTH:
            left.extend((each, f"{path} -> {name}") for name, each in _parts(value))
    return None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        return str(value, "latin-1")
    try:
        return repr(value)
    except Exception:  # nobody else can print it, either
        return ""


def _parts(value: Any) -> Iterator[Tuple[str, Any]]:
    if isinstance(value, BaseException):
        yield from (("__cause__", value.__cause__), ("__context__", value.__context__))
        yield "args", value.args
    thing: Any = value
    if isinstance(value, abc.Mapping):
        for key, item in list(thing.items()):
            yield from ((f"key {key!r}", key), (f"[{key!r}]", item))
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"[{number}]", item) for number, item in enumerate(thing))
    yield from list(getattr(thing, "__dict__", {}).items())
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            with contextlib.suppress(Exception):
                yield name, getattr(thing, name)


def frame_that_shows(error: Optional[BaseException], secret: str) -> Optional[str]:
    """The local variable, of a frame in a chain of tracebacks, whose repr has `secret`.

    Frames of this kit do not count.
    """
    seen: Set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        trace = error.__traceback__
        while trace is not None:
            frame, trace = trace.tb_frame, trace.tb_next
            module = frame.f_globals.get("__name__", "")
            if module.startswith("flowmaestro.testing.conformance."):
                continue
            for name, value in list(frame.f_locals.items()):
                if not isinstance(value, _OPAQUE) and secret in _text(value):
                    return f"{name} in {frame.f_code.co_name} of {module}"
        error = error.__cause__ or error.__context__
    return None


@check(WIRE, why=_WHY)
async def no_secret_is_reachable_from_a_failure(runner: Runner) -> None:
    """No exception of a failure's chain holds the request's key, in text or in an attribute."""
    await _expect_kept(runner, where_found)


@check(WIRE, why=_WHY)
async def no_frame_of_a_failure_shows_a_secret(runner: Runner) -> None:
    """No local variable in a failure's tracebacks has the request's key in its repr."""
    await _expect_kept(runner, frame_that_shows)


async def _expect_kept(
    runner: Runner, find: Callable[[TransportFailure, str], Optional[str]]
) -> None:
    # Before Python 3.13, ssl leaves a socket that was reset before its handshake to the collector.
    with _failing(runner) as places, quiet_finalizers():
        for name, url in places.items():
            limit = SHORT if name == "late" else LIMIT
            transport = runner.transport()
            for use in (transport.send, partial(read_out, transport)):
                failure = await expect_failure(use(ask(url), limit), within=5 * AT_ONCE)
                found = find(failure, KEY)
                expect(found is None, f"after a reply that is {name}, the key is in {found}")


@contextlib.contextmanager
def _failing(runner: Runner) -> Generator[Dict[str, str], None, None]:
    """What is wrong with a reply, and the URL of a server that gives it."""

    def giving(data: bytes, leave: Callable[[Peer], None] = Peer.close) -> str:
        def handler(peer: Peer) -> None:
            peer.read_request()
            peer.send(data)
            leave(peer)

        return runner.server(handler).url

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield {
            "refused": f"http://127.0.0.1:{bound.getsockname()[1]}",
            "reset in the handshake": runner.server(Peer.reset).url.replace("http:", "https:"),
            "garbled": giving(b"HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok"),
            "no HTTP": giving(b"SSH-2.0-OpenSSH\r\n\r\n"),
            "broken in a chunk": giving(reply(headers=[CHUNKED], length=False) + b"zz\r\n"),
            "cut off": giving(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"),
            "missing": giving(b""),
            "reset": giving(b"", Peer.reset),
            "late": giving(b"", lambda _: time.sleep(3 * SHORT)),
        }
