"""Checks of header fields, cookies, redirects, certificates, and secrets in failures.

Error reports print the attributes of an exception and the local variables of its frames. Neither
may show a key.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
import traceback
from collections import abc
from functools import partial
from pathlib import Path
from types import (
    BuiltinFunctionType,
    FrameType,
    FunctionType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import Any, Dict, Generator, Iterator, List, Optional, Set, Tuple

import pytest

from flowmaestro.testing.conformance.check import check
from flowmaestro.testing.conformance.expectations import (
    IMMEDIATE,
    KEY,
    LIMIT,
    WIRE,
    NotOffered,
    ask,
    echo_body,
    expect,
    expect_echo,
    expect_failure,
    expect_reply,
    quiet_finalizers,
    read_out,
)
from flowmaestro.testing.conformance.runner import Runner
from flowmaestro.testing.conformance.scripted_server import (
    HEAD_CHUNKED,
    Handler,
    Peer,
    answering,
    echo,
    reply,
)
from flowmaestro_core.http.messages import Phase, Response

_OWN_FIELDS = {"host", "content-length", "connection", "keep-alive", "transfer-encoding"}
"""Header fields that a transport may add."""


@check(why="Signatures cover the request, and a cookie or a password would identify the user.")
async def the_request_goes_out_as_it_is(runner: Runner) -> None:
    """Only `Host`, `Accept-Encoding` and framing are added: no cookie, and no password."""
    await _expect_unchanged(runner)
    await _expect_no_cookie(runner)
    await _expect_no_credential(runner)


async def _expect_unchanged(runner: Runner) -> None:
    url = runner.site(echo_body)
    path = "/a%2Fb/%C3%A9?q=%20x&y=a+b"
    sent = ask(url, path, "PUT", b'{"a":1}', **{"X-b": "1", "Content-Type": "application/json"})
    await runner.transport().send(sent, LIMIT)
    (request,) = runner.asked
    expect(request.method == "PUT", f"the method was {request.method}")
    expect(request.url.endswith(path), f"the target was {request.url}, not {path}")
    expect(request.body == sent.body, f"the body was {request.body!r}")
    changed = [
        name
        for name, value in sent.headers.pairs
        if request.headers.get(name) != value and name != "Accept-Encoding"
    ]
    expect(not changed, f"lost or changed: {', '.join(changed)}")
    added = set(request.headers) - set(sent.headers) - _OWN_FIELDS
    expect(not added, f"added: {', '.join(sorted(added))}")


@check(why="A redirect could send the key to another host; the core follows safe redirects itself.")
async def no_redirect_is_followed(runner: Runner) -> None:
    """A redirect is returned, not followed."""
    url = runner.site(lambda it: Response(int(it.url[-3:]), {"Location": "/elsewhere"}))
    transport = runner.transport()
    for status in (301, 302, 303, 307, 308):
        for use in (transport.send, transport.open):
            reply = await use(ask(url, f"/{status}"), LIMIT)
            expect(reply.status == status, f"the status was {reply.status}, not {status}")
            if not isinstance(reply, Response):
                await reply.close()
    expect(len(runner.asked) == 10, "the redirect was followed")


async def _expect_no_cookie(runner: Runner) -> None:
    url = runner.site(lambda _: Response(200, {"Set-Cookie": "a=b; Path=/"}))
    transport = runner.transport()
    for _ in range(2):
        await transport.send(ask(url), LIMIT)
    returned = any("cookie" in request.headers for request in runner.asked)
    expect(not returned, "a cookie was sent back")


async def _expect_no_credential(runner: Runner) -> None:
    with _netrc_at_home():
        url = runner.site(echo_body)
        await runner.transport().send(ask(url), LIMIT)
    expect(
        "authorization" not in runner.asked[-1].headers, "the password was sent in Authorization"
    )


@contextlib.contextmanager
def _netrc_at_home() -> Generator[None, None, None]:
    """Set a home folder in a `with` block. Its `.netrc` has a password for every host."""
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        for name in (".netrc", "_netrc"):
            path = Path(home, name)
            path.write_text("default login me password secret\n", encoding="ascii")
            path.chmod(0o600)
        patch.setenv("NETRC", str(Path(home, ".netrc")))
        patch.setenv("HOME", home)
        patch.setenv("USERPROFILE", home)
        yield


@check(WIRE, why="The key would go to any attacker on the line.")
async def a_stranger_is_refused(runner: Runner) -> None:
    """A certificate of an unknown authority or for another host is refused; nothing is sent."""
    await _expect_refused(runner, "127.0.0.1")
    with contextlib.suppress(NotOffered):  # Without `verify=`, no certificate of ours is valid.
        await _expect_refused(runner, "example.org", verify=runner.authority.file)


async def _expect_refused(runner: Runner, host: str, **options: Any) -> None:
    server = runner.server(echo, tls=runner.authority.server_context(host))
    transport = runner.transport(**options)
    request = ask(server.url, method="POST", body=b"{}")
    for use in (transport.send, transport.open):
        await expect_failure(use(request, LIMIT), Phase.NOT_SENT, timed_out=False)
    expect(not server.requests, "the request was sent")


@check(WIRE, why="Private servers have private certificate authorities.")
async def verify_chooses_the_authorities(runner: Runner) -> None:
    """With `verify=`, a CA file or an SSLContext decides which servers are trusted."""
    server = runner.server(echo, tls=runner.authority.server_context())
    content = b"x" * 100_000
    for verify in (runner.authority.file, runner.authority.client_context()):
        transport = runner.transport(verify=verify)
        for _ in range(2):
            await expect_echo(transport, server.url, content)


@check(WIRE, why="Some servers answer only clients that present a certificate.")
async def a_client_certificate_is_presented(runner: Runner) -> None:
    """The certificate in `client_cert=`, a pair of paths, is presented to a server that asks."""
    shown: List[Any] = []

    def handler(peer: Peer) -> None:
        shown.append(peer.sock.getpeercert())  # type: ignore[attr-defined]
        peer.read_request()
        peer.send(reply(b"welcome"))

    server = runner.server(handler, tls=runner.authority.server_context(asks_for_client=True))
    paths = runner.authority.client_certificate("somebody")
    transport = runner.transport(verify=runner.authority.file, client_cert=paths)
    await expect_reply(transport, ask(server.url), b"welcome")
    expect("somebody" in str(shown), f"the server got another certificate: {shown}")


_SHORT = 0.1
"""The timeout, in seconds, of a call whose response is late."""

_DEPTH = 12
_OPAQUE = (
    BuiltinFunctionType,
    FrameType,
    FunctionType,
    MethodType,
    ModuleType,
    TracebackType,
    type,
    int,
    float,
    bool,
    type(None),
)


def path_to_secret(thing: Any, secret: str) -> Optional[str]:
    """Return the path from `thing` to a value whose text or repr has `secret`, or None.

    The path is a text of attributes and items. Looks into exceptions and what they are chained to,
    containers and the attributes of objects, twelve attributes or items deep at most; not into
    functions, methods, modules, classes, frames and tracebacks.
    """
    seen: Set[int] = set()
    # Every visited object is kept, so that no `id` is used again.
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
    except Exception:  # An error report cannot print it, either.
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


def leaking_frame(error: Optional[BaseException], secret: str) -> Optional[str]:
    """Return the name of a local variable whose repr has `secret`, and of its function, or None.

    Looks into the frames of the tracebacks of `error` and of what it is chained to, but not into
    those of this kit.
    """
    chain = [error] if error is not None else []
    for each in chain:  # The context counts even if there is a cause.
        chain += [it for it in (each.__cause__, each.__context__) if it and it not in chain]
        for frame, _ in traceback.walk_tb(each.__traceback__):
            module = frame.f_globals.get("__name__", "")
            if module.startswith("flowmaestro.testing.conformance."):
                continue
            for name, value in list(frame.f_locals.items()):
                if not isinstance(value, _OPAQUE) and secret in _text(value):
                    return f"{name} in {frame.f_code.co_name} of {module}"
    return None


@check(WIRE, why="Keys would get into logs, crash reports and the output of tests.")
async def no_secret_is_reachable_from_a_failure(runner: Runner) -> None:
    """Neither an exception in a failure's chain nor a local variable in a traceback has the key."""
    # Before Python 3.13, ssl does not close a socket that was reset before its handshake.
    with _failing(runner) as places, quiet_finalizers():
        for name, url in places.items():
            limit = _SHORT if name == "late" else LIMIT
            transport = runner.transport()
            for use in (transport.send, partial(read_out, transport)):
                failure = await expect_failure(use(ask(url), limit), within=5 * IMMEDIATE)
                found = path_to_secret(failure, KEY) or leaking_frame(failure, KEY)
                expect(
                    found is None,
                    f"after a response that is {name}, the key is in {found}; raise the failure "
                    "outside of `except`, and chain the library's exception with its text only, "
                    "since its attributes and frames lead to the key",
                )


@contextlib.contextmanager
def _failing(runner: Runner) -> Generator[Dict[str, str], None, None]:
    """Yield a dict from the name of each fault to a URL at which every request fails with it."""

    def giving(data: bytes, leave: Handler = Peer.close) -> str:
        return runner.server(answering(data, then=leave)).url

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield {
            "refused": f"http://127.0.0.1:{bound.getsockname()[1]}",
            "reset in the handshake": runner.server(Peer.reset).url.replace("http:", "https:"),
            "garbled": giving(b"HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\nok"),
            "no HTTP": giving(b"SSH-2.0-OpenSSH\r\n\r\n"),
            "broken in a chunk": giving(HEAD_CHUNKED + b"zz\r\n"),
            "cut off": giving(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"),
            "missing": giving(b""),
            "reset": giving(b"", Peer.reset),
            "late": giving(b"", lambda _: time.sleep(3 * _SHORT)),
        }
