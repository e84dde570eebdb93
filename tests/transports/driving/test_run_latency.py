"""How soon `workflows.run` and `wait_for_completion` notice an ending, in virtual time."""

import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport, Node

LENGTHS = [0.3, 1.0, 2.2, 7.0, 20.0]


def a_run_of(seconds, events):
    fake = FakeFlowMaestro(events=events)
    workflow_id = fake.workflow(nodes=[Node("n", "Sleep", "action", seconds)])
    transport = MemoryTransport(fake)
    return FlowMaestroClient(fake.api_key, transport=transport), workflow_id, transport.clock


def lateness_of_run(seconds, events):
    client, workflow_id, clock = a_run_of(seconds, events)
    ended_at = []

    def note(event):
        if event["type"] == "execution:completed":
            ended_at.append(clock.now)

    begun = clock.now
    assert client.workflows.run(workflow_id, on_event=note)["status"] == "completed"
    return clock.now - ended_at[0], clock.now - begun


def time_of_wait(seconds):
    client, workflow_id, clock = a_run_of(seconds, "silent")
    begun = clock.now
    started = client.workflows.execute(workflow_id)["data"]["execution_id"]
    polls = []
    client.executions.wait_for_completion(started, on_poll=polls.append)
    return clock.now - begun, len(polls)


@pytest.mark.parametrize("seconds", LENGTHS)
def test_a_run_ends_with_its_terminal_event(seconds):
    late, _ = lateness_of_run(seconds, "live")
    assert late <= 0.05


@pytest.mark.parametrize("seconds", LENGTHS)
def test_a_silent_run_ends_no_later_than_a_wait_would(seconds):
    _, followed = lateness_of_run(seconds, "silent")
    waited, _ = time_of_wait(seconds)
    assert followed <= waited + 0.05


@pytest.mark.parametrize("seconds", LENGTHS)
def test_a_wait_sees_an_ending_soon_and_does_not_ask_too_often(seconds):
    waited, polls = time_of_wait(seconds)
    late = waited - seconds
    assert late <= min(0.4 * seconds, 1.0) + 0.15
    if seconds == 2.2:
        assert polls <= 10
