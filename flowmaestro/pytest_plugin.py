"""The pytest plugin: a FlowMaestro for each test, its cassette, a guard against the network.

pytest loads it wherever this SDK is installed, so it imports nothing but pytest until a fixture
is asked for. The fixtures are plain functions: they serve tests that block, and those of
pytest-asyncio, anyio's plugin and pytest-trio.
"""

from __future__ import annotations

from contextlib import suppress
from typing import (
    TYPE_CHECKING,
    Any,
    ContextManager,
    Generator,
    List,
    Tuple,
    TypeVar,
    Union,
    cast,
)

import pytest

if TYPE_CHECKING:
    from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
    from flowmaestro.testing import Cassette, FakeFlowMaestro

    K = TypeVar("K", bound=Union[FakeFlowMaestro, Cassette])

MODES = ("none", "once", "new_episodes", "all")
LONGEST_NAME = 220
"""Bytes of a cassette's name before `.jsonl`; file systems allow 255 bytes for a name."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what is asked on the command line."""
    parser.getgroup("flowmaestro").addoption(
        "--flowmaestro-cassettes",
        choices=MODES,
        default="once",
        help="what flowmaestro_cassette does: replay only (none); record what has no file "
        "(once), or also what the file lacks (new_episodes); record everything again (all)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "flowmaestro_fake(...): arguments of the FakeFlowMaestro of this test, such as time='real'",
    )


@pytest.fixture
def flowmaestro_fake(request: pytest.FixtureRequest) -> Generator[FakeFlowMaestro, None, None]:
    """Give the test a fresh `FakeFlowMaestro` that clients made without `transport=` use.

    When the test has passed, scripts that were never used cause an `UnusedScriptWarning`.
    `@pytest.mark.flowmaestro_fake(time="real")` gives it the marker's arguments. To have another
    one for every test, define a fixture of this name; the clients follow it.
    """
    from flowmaestro.testing import FakeFlowMaestro

    marker = cast("Any", request).node.get_closest_marker("flowmaestro_fake")
    fake = FakeFlowMaestro(*marker.args, **marker.kwargs) if marker else FakeFlowMaestro()
    yield from _during_the_test(request, fake)


@pytest.fixture
def flowmaestro_client(
    flowmaestro_fake: FakeFlowMaestro,
) -> Generator[FlowMaestroClient, None, None]:
    """Give the test a sync client of `flowmaestro_fake`."""
    from flowmaestro import FlowMaestroClient

    with FlowMaestroClient(
        flowmaestro_fake.api_key, transport=flowmaestro_fake.transport()
    ) as client:
        yield client


@pytest.fixture
def async_flowmaestro_client(flowmaestro_fake: FakeFlowMaestro) -> AsyncFlowMaestroClient:
    """Give the test an async client of `flowmaestro_fake`, for asyncio and trio.

    It holds nothing that would have to be closed, for which a fixture would have to await.
    """
    from flowmaestro import AsyncFlowMaestroClient

    return AsyncFlowMaestroClient(
        flowmaestro_fake.api_key, transport=flowmaestro_fake.async_transport()
    )


@pytest.fixture
def flowmaestro_cassette(request: pytest.FixtureRequest) -> Generator[Cassette, None, None]:
    """Give the test its `Cassette`, which clients made without `transport=` use.

    It is the file `cassettes/MODULE/TEST.jsonl` beside the test's module, and is recorded when
    it is not there and the test passes; `--flowmaestro-cassettes` says otherwise. A name of more
    than 220 bytes is cut and ends with a digest.
    """
    from hashlib import sha256
    from urllib.parse import quote

    from flowmaestro.testing import Cassette

    id: str = cast("Any", request).node.nodeid  # untyped in pytest 8
    test = quote(id.partition("::")[2].replace("::", "."), safe="[]")
    if len(test) > LONGEST_NAME:
        digest = sha256(test.encode()).hexdigest()[:12]
        test = f"{test[: LONGEST_NAME - len(digest) - 1]}-{digest}"
    path = request.path.parent / "cassettes" / request.path.stem / f"{test}.jsonl"
    mode = request.config.option.flowmaestro_cassettes
    yield from _during_the_test(request, Cassette(path, mode=mode))


@pytest.fixture
def flowmaestro_no_network(request: pytest.FixtureRequest) -> Generator[None, None, None]:
    """Fail the test if it looks up an address, uses a socket, or starts another program.

    Whatever its code then makes of the refusal, and in whatever thread. The pair of sockets by
    which an event loop wakes itself may be made. To guard every test, name it in
    `usefixtures` of the pytest configuration.
    """
    from flowmaestro.testing.network_guard import NetworkGuard

    with NetworkGuard() as guard:
        request.config.pluginmanager.register(guard)
        try:
            yield
        finally:
            request.config.pluginmanager.unregister(guard)


class _NotPassed(Exception):
    """Tells a kit that its test has not passed."""


_KITS = pytest.StashKey[List[Tuple["Union[FakeFlowMaestro, Cassette]", List[bool]]]]()
"""What stands in for the network in a test, and whether each report says that the test passed."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record whether a test with a kit has passed. On a failure, show what the kit reports.

    Only the finished report knows: what is wrong in a `unittest.TestCase` is never raised, and
    marks turn outcomes round. With subtests there are several reports, and all must have passed.
    """
    report = yield
    if report.when == "call":
        for kit, passed in item.stash.get(_KITS, ()):
            passed.append(report.passed)
            if not report.passed:
                report.sections.append(("Captured flowmaestro call", kit.report()))
    return report


def _during_the_test(
    request: pytest.FixtureRequest, block: ContextManager[K]
) -> Generator[K, None, None]:
    """Install a kit for the test, and leave its block with an error unless the test has passed.

    A test that was skipped or has failed as expected has not.
    """
    item: pytest.Item = cast("Any", request).node
    with suppress(_NotPassed), block as kit, kit.installed():
        kits, passed = item.stash.setdefault(_KITS, []), list[bool]()
        kits.append((kit, passed))
        try:
            yield kit
        finally:
            kits.remove((kit, passed))  # pytest keeps the item, which must not keep the kit
        if not (passed and all(passed)):
            raise _NotPassed
