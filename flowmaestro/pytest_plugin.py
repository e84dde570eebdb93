"""The pytest plugin: a fake FlowMaestro or a cassette for a test, and a guard against the network.

pytest loads it wherever this SDK is installed, so it imports neither the clients nor
`flowmaestro.testing` until a fixture is asked for. The fixtures are plain functions: they serve
tests that block, and those of pytest-asyncio, anyio's plugin and pytest-trio.
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
    """Add the command-line option `--flowmaestro-cassettes`."""
    parser.getgroup("flowmaestro").addoption(
        "--flowmaestro-cassettes",
        choices=MODES,
        default="once",
        help="what flowmaestro_cassette does: replay only (none); record what has no file "
        "(once), or also what the file lacks (new_episodes); record everything again (all)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker `flowmaestro_fake`."""
    config.addinivalue_line(
        "markers",
        "flowmaestro_fake(...): arguments of the FakeFlowMaestro of this test, such as time='real'",
    )


@pytest.fixture
def flowmaestro_fake(request: pytest.FixtureRequest) -> Generator[FakeFlowMaestro, None, None]:
    """Give the test a fresh `FakeFlowMaestro` that clients made without `transport=` use.

    When the test has passed, scripts that were never used cause an `UnusedScriptWarning`, or with
    `strict=True` in the marker an `AssertionError`. The marker's arguments are those of the fake:
    `@pytest.mark.flowmaestro_fake(time="real")`. It may also have the `allow_network` of
    `installed`. To use another fake in every test, define a fixture of this name; the fixtures for
    clients then use that.
    """
    from flowmaestro.testing import FakeFlowMaestro

    marker = cast("Any", request).node.get_closest_marker("flowmaestro_fake")
    arguments = dict(marker.kwargs) if marker else {}
    allow_network = arguments.pop("allow_network", False)
    fake = FakeFlowMaestro(*(marker.args if marker else ()), **arguments)
    yield from _during_the_test(request, fake, allow_network=allow_network)


@pytest.fixture
def flowmaestro_client(
    flowmaestro_fake: FakeFlowMaestro,
) -> Generator[FlowMaestroClient, None, None]:
    """Give the test a sync client that is connected to `flowmaestro_fake`."""
    from flowmaestro import FlowMaestroClient

    with FlowMaestroClient(
        flowmaestro_fake.api_key, transport=flowmaestro_fake.transport()
    ) as client:
        yield client


@pytest.fixture
def async_flowmaestro_client(flowmaestro_fake: FakeFlowMaestro) -> AsyncFlowMaestroClient:
    """Give the test an async client that is connected to `flowmaestro_fake`, on asyncio or trio.

    The client need not be closed, because it holds no network connections.
    """
    from flowmaestro import AsyncFlowMaestroClient

    return AsyncFlowMaestroClient(
        flowmaestro_fake.api_key, transport=flowmaestro_fake.async_transport()
    )


@pytest.fixture
def flowmaestro_cassette(request: pytest.FixtureRequest) -> Generator[Cassette, None, None]:
    """Give the test its `Cassette`, which clients made without `transport=` use.

    Its file is `cassettes/MODULE/TEST.jsonl` beside the test's module. If there is such a file, its
    responses are replayed. If not, the calls are sent, and are written there if the test passes.
    `--flowmaestro-cassettes` selects another mode. A file name of more than 220 bytes before
    `.jsonl` is truncated and ends with a digest.
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
    """Fail the test if it looks up an address, binds or connects a socket, or starts a program.

    The test fails even if its code catches the error, and whichever thread caused it. The sockets
    of `socket.socketpair`, with which an event loop wakes itself, are allowed. The module
    `flowmaestro.testing.network_guard` says what the guard does not see. To guard every test, name
    this fixture in `usefixtures` of the pytest configuration.
    """
    from flowmaestro.testing.network_guard import NetworkGuard

    with NetworkGuard() as guard:
        request.config.pluginmanager.register(guard)
        try:
            yield
        finally:
            request.config.pluginmanager.unregister(guard)


class _NotPassed(Exception):
    """Tells the `with` block of a fake or a cassette that its test has not passed."""


_KITS = pytest.StashKey[List[Tuple["Union[FakeFlowMaestro, Cassette]", List[bool]]]]()
"""The fake or cassette of a test (its *kit*), and for each report whether the test passed."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record whether a test with a fake or a cassette has passed.

    If not, add the report of the fake or the cassette to the report of pytest. This hook reads the
    finished report of pytest, because a failure of a `unittest.TestCase` is not raised here, and
    marks such as `xfail` invert outcomes. A test with subtests has several reports; it has passed
    if all of them have.
    """
    report = yield
    if report.when == "call":
        for kit, passed in item.stash.get(_KITS, ()):
            passed.append(report.passed)
            if not report.passed:
                report.sections.append(("Captured flowmaestro call", kit.report()))
    return report


def _during_the_test(
    request: pytest.FixtureRequest, block: ContextManager[K], *, allow_network: bool = False
) -> Generator[K, None, None]:
    """Enter `block`, of a fake or a cassette, for a test, and install what it yields.

    If the test has not passed, an exception is raised within the block, so that a cassette is not
    saved. The exception does not leave this function. A test that was skipped, or that failed as
    expected, has not passed.
    """
    item: pytest.Item = cast("Any", request).node
    with suppress(_NotPassed), block as kit, kit.installed(allow_network=allow_network):
        kits, passed = item.stash.setdefault(_KITS, []), list[bool]()
        kits.append((kit, passed))
        try:
            yield kit
        finally:
            # pytest keeps the item until the end of the session; the kit must not stay that long.
            kits.remove((kit, passed))
        if not (passed and all(passed)):
            raise _NotPassed
