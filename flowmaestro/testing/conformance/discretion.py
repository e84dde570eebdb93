"""Checks of what a transport does not do: it adds, keeps and follows nothing."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Generator

import pytest

from flowmaestro.testing.conformance.check import check, expect
from flowmaestro.testing.conformance.expectations import LIMIT, ask, echo
from flowmaestro.testing.conformance.runner import Runner
from flowmaestro_core.http.messages import Response

_OWN_FIELDS = {"host", "content-length", "connection", "keep-alive", "transfer-encoding"}
"""What a transport may add."""


@check(why="Signatures, ids and keys are in there; what is normalised is another request.")
async def the_request_goes_out_as_it_is(runner: Runner) -> None:
    """Method, target, header fields and body arrive as given; only what framing needs is added."""
    url = runner.site(echo)
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


@check(why="A redirect leads the key to a stranger; where one is safe, the core follows it.")
async def no_redirect_is_followed(runner: Runner) -> None:
    """A redirect is a reply like any other."""
    url = runner.site(lambda it: Response(int(it.url[-3:]), {"Location": "/elsewhere"}))
    transport = runner.transport()
    for status in (301, 302, 303, 307, 308):
        for use in (transport.send, transport.open):
            reply = await use(ask(url, f"/{status}"), LIMIT)
            expect(reply.status == status, f"a {status} came as {reply.status}")
            if not isinstance(reply, Response):
                await reply.close()
    expect(len(runner.asked) == 10, "the redirect was followed")


@check(why="A cookie of one call would speak for the user in the next.")
async def no_cookie_is_kept(runner: Runner) -> None:
    """A cookie that a reply sets is not sent with the next request."""
    url = runner.site(lambda _: Response(200, {"Set-Cookie": "a=b; Path=/"}))
    transport = runner.transport()
    for _ in range(2):
        await transport.send(ask(url), LIMIT)
    expect(
        not any("cookie" in request.headers for request in runner.asked), "a cookie was sent back"
    )


@check(why="A password from the user's files would go to a server that did not ask for it.")
async def no_credential_of_the_environment(runner: Runner) -> None:
    """A password in `.netrc` is not sent."""
    with _netrc_at_home():
        url = runner.site(echo)
        await runner.transport().send(ask(url), LIMIT)
    expect("authorization" not in runner.asked[0].headers, "it was sent as Authorization")


@contextlib.contextmanager
def _netrc_at_home() -> Generator[None, None, None]:
    """A home that has a password for everybody."""
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        for name in (".netrc", "_netrc"):
            path = Path(home, name)
            path.write_text("default login me password secret\n", encoding="ascii")
            path.chmod(0o600)
        patch.setenv("NETRC", str(Path(home, ".netrc")))
        patch.setenv("HOME", home)
        patch.setenv("USERPROFILE", home)
        yield
