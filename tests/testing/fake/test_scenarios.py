"""Hundreds of scenarios: what a user's application may go through, in memory, in virtual time.

Each is a script and what must come of it, on a sync client against both descriptions of the
API, and on asyncio and on trio against one of them. None looks up an address, touches a socket,
sleeps or sets a timer, and every script must be used.
"""

from __future__ import annotations

import pytest

from flowmaestro.testing import FakeFlowMaestro
from tests.harness.runners import IN_MEMORY
from tests.harness.testing import scenarios_of_failures, scenarios_of_resources, scenarios_of_runs
from tests.harness.testing.one_face import World
from tests.harness.testing.scenarios import CASES
from tests.harness.testing.stillness import SocketWatch, watch_timers

WRITTEN_IN = (scenarios_of_runs, scenarios_of_failures, scenarios_of_resources)
"""Importing them has filled `CASES`."""
SERVED = [
    pytest.param(shapes, runner, id=f"{shapes}-{runner}")
    for shapes, loop in (("deployed", "asyncio"), ("documented", "trio"))
    for runner in IN_MEMORY
    if runner.backend in (None, loop)
]
"""Which description is served where: what an event loop does cannot depend on it."""
OF_THE_FAKE = ("events", "messages")
"""What a scenario says of the fake itself."""


@pytest.fixture(scope="module", autouse=True)
def still():
    """Nobody sleeps, sets a timer or uses the network."""
    sockets = SocketWatch()
    with pytest.MonkeyPatch.context() as patch:
        timers = watch_timers(patch)
        yield
    sockets.stop()
    assert (timers, sockets.uses) == ([], [])


@pytest.mark.parametrize(("shapes", "runner"), SERVED)
@pytest.mark.parametrize(("act", "given"), CASES)
def test_scenario_ends_alike_in_every_client(act, given, shapes, runner):
    arranged = {name: given[name] for name in OF_THE_FAKE if name in given}
    with FakeFlowMaestro(shapes, strict=True, **arranged) as fake:
        World(fake, runner).run(act, **given)


@pytest.mark.parametrize("runner", IN_MEMORY, ids=str)
def test_a_scenario_can_fail(runner):
    async def wrong(world):
        assert (await world.client().workflows.run("wf_123"))["status"] == "failed"

    with pytest.raises(AssertionError):
        World(FakeFlowMaestro(), runner).run(wrong)
