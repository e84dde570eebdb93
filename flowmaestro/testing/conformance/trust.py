"""Checks of TLS: which server is trusted, and which certificate the client shows."""

from __future__ import annotations

from typing import Any, List

from flowmaestro.testing.conformance.check import WIRE, check, expect, expect_failure
from flowmaestro.testing.conformance.expectations import LIMIT, ask, expect_echo, expect_reply
from flowmaestro.testing.conformance.runner import Runner
from flowmaestro.testing.conformance.scripted_server import Peer, echo, reply
from flowmaestro_core.http.messages import Phase

_KEY = "The key would go to any attacker on the line."
_PRIVATE = "Private servers have private certificate authorities."


@check(WIRE, why=_KEY)
async def an_unknown_authority_is_refused(runner: Runner) -> None:
    """A certificate of an authority that nobody vouches for is refused, and nothing is sent."""
    await _expect_refused(runner, "127.0.0.1")


@check(WIRE, why=_KEY)
async def a_wrong_host_is_refused(runner: Runner) -> None:
    """A good certificate for another host is refused, and nothing is sent."""
    await _expect_refused(runner, "example.org", verify=runner.authority.file)


async def _expect_refused(runner: Runner, host: str, **options: Any) -> None:
    server = runner.server(echo, tls=runner.authority.server_context(host))
    transport = runner.transport(**options)
    for use in (transport.send, transport.open):
        await expect_failure(
            use(ask(server.url, method="POST", body=b"{}"), LIMIT), Phase.NOT_SENT, timed_out=False
        )
    expect(not server.requests, "the request went out")


@check(WIRE, why=_PRIVATE)
async def an_authority_of_the_user_s_is_accepted(runner: Runner) -> None:
    """`verify=` with the path of a CA file makes its servers believed."""
    await _expect_accepted(runner, runner.authority.file)


@check(WIRE, why=_PRIVATE)
async def a_context_of_the_user_s_is_accepted(runner: Runner) -> None:
    """`verify=` with an `ssl.SSLContext` decides whom to believe."""
    await _expect_accepted(runner, runner.authority.client_context())


async def _expect_accepted(runner: Runner, verify: object) -> None:
    server = runner.server(echo, tls=runner.authority.server_context())
    transport = runner.transport(verify=verify)
    content = b"x" * 100_000
    for _ in range(2):
        await expect_echo(transport, server.url, content)


@check(WIRE, why="Services that ask their clients for a certificate answer nobody else.")
async def a_client_certificate_is_presented(runner: Runner) -> None:
    """`client_cert=`, the paths of a certificate and its key, is shown to a server that asks."""
    shown: List[Any] = []

    def handler(peer: Peer) -> None:
        shown.append(peer.sock.getpeercert())  # type: ignore[attr-defined]
        peer.read_request()
        peer.send(reply(b"welcome"))

    server = runner.server(handler, tls=runner.authority.server_context(asks_for_client=True))
    paths = runner.authority.client_certificate("somebody")
    transport = runner.transport(verify=runner.authority.file, client_cert=paths)
    await expect_reply(transport, ask(server.url), b"welcome")
    expect("somebody" in str(shown), f"another certificate was shown: {shown}")
