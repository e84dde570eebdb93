"""The checkpoint in memory, and what its two switches make of a repeated task."""

from __future__ import annotations

import pytest

from flowmaestro import CheckpointError, FlowMaestroClient, StartUnknownError
from flowmaestro.testing import FakeFlowMaestro, MemoryCheckpoint


def test_a_repeated_call_starts_nothing(
    flowmaestro_fake: FakeFlowMaestro, flowmaestro_client: FlowMaestroClient
) -> None:
    flowmaestro_fake.workflow("wf_1", outputs={"total": 7})
    kept = MemoryCheckpoint()
    assert kept.state is None
    first = flowmaestro_client.workflows.run("wf_1", {"n": 1}, checkpoint=kept)
    assert flowmaestro_client.workflows.run("wf_1", {"n": 1}, checkpoint=kept) == first
    flowmaestro_fake.assert_executed("wf_1", times=1)
    assert [state["state"] for state in kept.states] == ["starting", "started"]
    assert kept.state == kept.states[-1]


@pytest.mark.parametrize("compares", [True, False])
def test_two_loads_that_race_start_once_if_the_store_compares(
    flowmaestro_fake: FakeFlowMaestro, flowmaestro_client: FlowMaestroClient, compares: bool
) -> None:
    flowmaestro_fake.workflow("wf_1")
    kept = MemoryCheckpoint(compares=compares)
    for _ in range(2):
        flowmaestro_client.workflows.run("wf_1", checkpoint=kept)
        kept.race_next_load()
    flowmaestro_fake.assert_executed("wf_1", times=1 if compares else 2)


def test_a_save_that_is_lost_is_noticed_by_the_next_one(
    flowmaestro_fake: FakeFlowMaestro, flowmaestro_client: FlowMaestroClient
) -> None:
    """The store compares the state of the id with that of the announcement, which it lost."""
    flowmaestro_fake.workflow("wf_1")
    kept = MemoryCheckpoint()
    kept.lose_next_save()
    with pytest.raises(CheckpointError, match="lost a state") as caught:
        flowmaestro_client.workflows.run("wf_1", checkpoint=kept)
    (execution,) = flowmaestro_fake.executions
    assert caught.value.execution_id == execution.id


def test_a_task_that_dies_after_a_lost_announcement_starts_twice(
    flowmaestro_fake: FakeFlowMaestro, flowmaestro_client: FlowMaestroClient
) -> None:
    flowmaestro_fake.workflow("wf_1")
    kept = MemoryCheckpoint()
    kept.lose_next_save()
    flowmaestro_fake.drop_connection(path="/workflows/*/execute")
    with pytest.raises(StartUnknownError):  # It cannot settle what the store does not know.
        flowmaestro_client.workflows.run("wf_1", checkpoint=kept)
    flowmaestro_client.workflows.run("wf_1", checkpoint=kept)
    flowmaestro_fake.assert_executed("wf_1", times=2)
