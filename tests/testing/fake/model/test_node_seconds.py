"""How long a node takes, by a function of the inputs."""

from __future__ import annotations

import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, Node


@pytest.fixture
def fake():
    return FakeFlowMaestro()


@pytest.fixture
def client(fake):
    return FlowMaestroClient(fake.api_key, transport=fake.transport())


class TestNodesTakeTheirTime:
    def seconds_of(self, fake, client, inputs):
        began = fake.clock.now
        run = client.workflows.run("wf_mine", inputs)
        (execution,) = [it for it in fake.executions if it.id == run["id"]]
        assert fake.clock.now >= began
        return run, execution.duration

    def test_seconds_may_be_a_function_of_the_inputs(self, fake, client):
        nodes = [Node("a", seconds=lambda inputs: inputs["n"]), Node("b", seconds=1)]
        fake.workflow("wf_mine", nodes=nodes, outputs={})
        assert self.seconds_of(fake, client, {"n": 5})[1] == pytest.approx(6)
        assert self.seconds_of(fake, client, {"n": 0.5})[1] == pytest.approx(1.5)

    @pytest.mark.parametrize(
        ("seconds", "error"),
        [
            (lambda inputs: inputs["n"], "KeyError: 'n'"),
            (lambda inputs: -1, "ValueError: seconds of node 'a' must be a number of at least 0"),
            (
                lambda inputs: 10**400,
                "ValueError: seconds of node 'a' must be a number of at least 0",
            ),
            (lambda inputs: "1", "TypeError: seconds of node 'a' must be a number of seconds"),
        ],
    )
    def test_a_function_that_fails_fails_the_run(self, fake, client, seconds, error):
        fake.workflow("wf_mine", nodes=[Node("a", seconds=seconds)], outputs={})
        run, _ = self.seconds_of(fake, client, {})
        assert (run["status"], run["error"].startswith(error)) == ("failed", True)

    def test_a_coroutine_function_for_seconds_is_refused(self):
        async def seconds(inputs):
            return 1.0

        with pytest.raises(TypeError, match="seconds of node 'a' must be a plain function"):
            Node("a", seconds=seconds)
