"""The examples on pyreqwest, where it can be installed (Python 3.11+), through the kit."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyreqwest", reason="pyreqwest needs Python 3.11")
from pyreqwest.client import ClientBuilder, SyncClientBuilder
from pyreqwest_transport import AsyncPyreqwestTransport, PyreqwestTransport

from flowmaestro.testing.conformance import (
    AsyncTransportConformance,
    NotOffered,
    TransportConformance,
)
from flowmaestro.testing.conformance.check import Check

_PATIENCE = {"twenty-megabytes": 60}
"""Seconds of `read_timeout` for checks that need more than 5."""


def configured(builder: Any, verify: Any, client_cert: Any) -> Any:
    builder = builder.http1_only().follow_redirects(False).no_proxy()
    if verify is not True:
        builder = builder.add_root_certificate_pem(Path(verify).read_bytes())
    if client_cert is not None:
        builder = builder.identity_pem(b"".join(Path(each).read_bytes() for each in client_cert))
    return builder


class TestPyreqwest(TransportConformance):
    known_failures = PyreqwestTransport.known_failures

    @pytest.fixture(autouse=True)
    def no_race_against_the_machine(self, conformance_check: Check) -> None:
        """The stack refuses a flood of 1xx at some number: in time on a fast machine alone."""
        if conformance_check.name == "a-flood-of-informational-replies":
            pytest.skip("declared; whether it shows depends on how fast the machine is")
        # `read_timeout` bounds connecting and sending, too, so a busy machine must not reach it.
        self.patience = timedelta(seconds=_PATIENCE.get(conformance_check.name, 5))

    def make_transport(
        self, verify: Any = True, client_cert: Any = None, max_connections: int = 100
    ) -> Any:
        if not isinstance(verify, (str, bool)):
            raise NotOffered("verify=", "it has TLS of its own")
        calls, streams = (configured(SyncClientBuilder(), verify, client_cert) for _ in range(2))
        streams.read_timeout(self.patience)
        return PyreqwestTransport(calls.max_connections(max_connections).build(), streams.build())


class TestAsyncPyreqwest(AsyncTransportConformance):
    backends = ("asyncio",)
    known_failures = AsyncPyreqwestTransport.known_failures

    def make_transport(
        self, verify: Any = True, client_cert: Any = None, max_connections: int = 100
    ) -> Any:
        if not isinstance(verify, (str, bool)):
            raise NotOffered("verify=", "it has TLS of its own")
        calls, streams = (configured(ClientBuilder(), verify, client_cert) for _ in range(2))
        return AsyncPyreqwestTransport(
            calls.max_connections(max_connections).build(), streams.build()
        )
