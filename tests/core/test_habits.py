"""Hints about what users of other SDKs write by habit."""

from __future__ import annotations

from typing import Any, Mapping

import pytest

from flowmaestro_core.habits import OF_CLIENT, OF_METHODS, add_hint, unknown_attribute, with_hints
from flowmaestro_core.operation import Executor, Resource, Sync
from flowmaestro_core.resources import KnowledgeBases, Workflows


@with_hints({"verify": "use proof="})
def checked(*, proof: bool = False) -> bool:
    return proof


@with_hints({"verify": "use proof="})
def calls_another() -> Any:
    return checked.__wrapped__(verify=True)  # type: ignore[attr-defined]


def test_an_unknown_argument_of_the_table_gets_a_hint() -> None:
    with pytest.raises(TypeError, match=r"keyword argument 'verify'.*; use proof="):
        checked(verify=True)  # type: ignore[call-arg]


def test_any_other_error_stays_as_it_is() -> None:
    assert checked(proof=True)
    with pytest.raises(TypeError, match=r"takes 0 positional arguments but 1 was given$"):
        checked(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError) as caught:
        checked(certainty=True)  # type: ignore[call-arg]
    assert ";" not in str(caught.value)


def test_an_error_from_within_the_function_gets_no_hint() -> None:
    with pytest.raises(TypeError) as caught:
        calls_another()
    assert "use proof=" not in str(caught.value)


def test_an_error_that_was_never_raised_is_read_too() -> None:
    error = TypeError("got an unexpected keyword argument 'x'")
    add_hint(error, {"x": "use y="})
    assert str(error).endswith("; use y=")


@pytest.mark.parametrize(
    ("group", "name", "end"),
    [
        ("workflows", "retrieve", "; use client.workflows.get"),
        ("agents", "chat", "; use client.threads.send_message, on a thread of client.agents.cre"),
        ("agents", "nonsense", "has no attribute 'nonsense'"),
        ("nothing", "get", "has no attribute 'get'"),
        ("webhooks", "verify", "; use flowmaestro.webhooks.verify"),
    ],
)
def test_an_unknown_method_says_which_one_there_is(group: str, name: str, end: str) -> None:
    assert end in str(unknown_attribute(object(), group, name))


def test_a_resource_knows_its_own_name() -> None:
    executor: Executor = object()  # type: ignore[assignment]
    workflows: Resource[Sync] = Workflows(executor)
    with pytest.raises(AttributeError, match=r"use client.workflows.get"):
        workflows.retrieve  # type: ignore[attr-defined]  # noqa: B018
    bases: Resource[Sync] = KnowledgeBases(executor)
    with pytest.raises(AttributeError, match=r"use client.knowledge_bases.query"):
        bases.search  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("table", [OF_CLIENT, OF_METHODS])
def test_a_hint_reads_as_the_rest_of_a_sentence(table: Mapping[str, str]) -> None:
    assert all(hint.startswith(("use ", "pass ", "set ")) for hint in table.values())
