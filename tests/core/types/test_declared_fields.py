"""The types have the fields that the server sends beside those that the guides read."""

from __future__ import annotations

import typing
from typing import Any, Dict

import pytest

from flowmaestro_core import types

SENT: Dict[Any, str] = {
    types.Agent: "available_tools temperature max_tokens",
    types.Thread: "title last_message_at updated_at",
    types.ThreadMessage: "tool_calls",
    types.SendMessageResponse: "message iterations tool_calls_count",
    types.KnowledgeBase: "chunk_size chunk_overlap",
    types.QueryKnowledgeBaseResponse: "top_k",
    types.KnowledgeBaseResult: "id metadata",
    types.Webhook: "headers updated_at",
    types.WebhookDelivery: (
        "id event_type response_status last_attempt_at error_message response_time_ms"
    ),
    types.TestWebhookResponse: "message",
    types.MemoryStats: "agent_id working_memory_count embedding_count memory_config",
    types.MemorySearch: "agent_id result_count",
    types.MemoryResult: "role execution_id context_before context_after",
    types.ExecutionPaused: (
        "status reason paused_at_node_id paused_at_node_name pause_context timestamp"
    ),
    types.ExecutionStarted: "workflow_name total_nodes timestamp",
    types.ExecutionProgress: "completed total timestamp",
    types.ExecutionFailed: "failed_node_id timestamp",
    types.MessageToken: "timestamp",
}
NEVER_SENT: Dict[Any, str] = {
    types.WebhookDelivery: "event status_code delivered_at",
    types.MemoryStats: "total_messages unique_users",
}


@pytest.mark.parametrize("kind", SENT, ids=lambda kind: kind.__name__)
def test_every_sent_field_is_declared(kind: Any) -> None:
    declared = set(typing.get_type_hints(kind))
    assert set(SENT[kind].split()) <= declared
    assert declared.isdisjoint(NEVER_SENT.get(kind, "").split())


def test_all_executions_have_the_same_keys() -> None:
    kinds = typing.get_args(types.Execution)
    assert {kind.__required_keys__ for kind in kinds} == {frozenset(kinds[0].__annotations__)}
    said = [typing.get_args(typing.get_type_hints(kind)["status"]) for kind in kinds]
    assert sorted(sum(said, ())) == sorted(typing.get_args(types.ExecutionStatus))
