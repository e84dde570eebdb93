"""Walking through all pages: every item once, page after page, to an end."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import pytest
from hypothesis import strategies as st

from flowmaestro_core.actions import Done, Emit, Send
from flowmaestro_core.calls.pages import Pages, PagesMachine
from flowmaestro_core.errors import RateLimitError
from flowmaestro_core.machines import machine_for
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core.properties import MachineProperties, collected, json_values, responses
from tests.harness.core.stepping import (
    Possibilities,
    Stepper,
    a_context,
    a_response,
    an_envelope,
    an_error,
    assert_table_is_true,
    wander,
)


def walking(pages: Optional[Any] = None) -> Stepper:
    pages = pages or Workflows.iterate(per_page=2)
    assert isinstance(pages, Pages)
    return Stepper(machine_for(pages, a_context(), "token"))


def a_page(*rows: Any, more: Optional[bool] = None, **info: Any) -> Dict[str, Any]:
    if more is not None:
        info["has_next"] = more
    return an_envelope([{"id": row} for row in rows], pagination=info)


def ids(stepper: Stepper) -> List[Any]:
    return [item["id"] for item in stepper.items]


def test_items_come_page_by_page() -> None:
    walk = walking()
    action = walk.start()
    assert isinstance(action, Send)
    assert action.request.url.endswith("/workflows?page=1&per_page=2")
    assert isinstance(walk.replies(200, a_page(1, 2, more=True)), Emit)
    action = walk.takes()
    assert isinstance(action, Send)
    assert action.request.url.endswith("/workflows?page=2&per_page=2")
    walk.replies(200, a_page(3, more=False))
    assert walk.takes() == Done(None)
    assert ids(walk) == [1, 2, 3]


def test_no_page_is_asked_for_before_it_is_needed() -> None:
    walk = walking()
    walk.start()
    walk.replies(200, a_page(1, 2, more=True))
    assert len(walk.sent) == 1


def test_a_page_that_repeats_the_one_before_ends_the_walk_and_is_not_handed_over() -> None:
    walk = walking()
    walk.start()
    walk.replies(200, a_page(1, 2, more=True))
    walk.takes_all()
    assert walk.replies(200, a_page(1, 2, more=True)) == Done(None)
    assert ids(walk) == [1, 2]


def test_executions_in_one_state_are_picked_from_all_of_the_workflow() -> None:
    walk = walking(Executions.iterate(workflow_id="wf_1", status="failed", per_page=2))
    action = walk.start()
    assert isinstance(action, Send)
    assert action.request.url.endswith("/executions?page=1&per_page=2&workflow_id=wf_1")
    for page, states in enumerate([("completed",) * 2, ("failed", "running"), ("failed",)], 1):
        rows = [{"id": (page, at), "status": state} for at, state in enumerate(states)]
        about = {"page": page, "per_page": 2, "total_count": 5, "has_next": page < 3}
        walk.replies(200, an_envelope(rows, pagination=about))
        walk.takes_all()
    assert walk.action == Done(None)
    assert ids(walk) == [[2, 0], [3, 0]]


def test_a_walk_over_executions_of_all_workflows_ends_with_an_empty_page() -> None:
    walk = walking(Executions.iterate(status="failed", per_page=2))
    walk.start()
    for page, rows in enumerate([[1], [2, 3], []], 1):
        assert isinstance(walk.action, Send)
        assert walk.action.request.url.endswith(f"/executions?page={page}&per_page=2")
        found = [{"id": row, "status": "failed"} for row in rows]
        about = {"page": page, "per_page": 2, "total_count": len(rows), "has_next": False}
        walk.replies(200, an_envelope(found, pagination=about))
        walk.takes_all()
    assert walk.action == Done(None)
    assert ids(walk) == [1, 2, 3]


def test_an_error_ends_the_walk_after_what_was_handed_over() -> None:
    walk = walking()
    walk.start()
    walk.replies(200, a_page(1, 2, more=True))
    walk.takes_all()
    walk.replies(429, an_error("rate_limit_exceeded", window="day"))
    assert isinstance(walk.error, RateLimitError)
    assert ids(walk) == [1, 2]


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"data": null}', b'{"data": {}}', b"<html>"])
def test_page_that_is_not_a_list_is_an_error(raw: bytes) -> None:
    walk = walking()
    walk.start()
    walk.replies(200, raw=raw)
    assert walk.error.code == "invalid_response"


REPLIES = (
    a_response(200, a_page(1, 2, more=True)),
    a_response(200, a_page(3, 4, more=True)),
    a_response(200, a_page(5, more=False)),
    a_response(200, a_page()),
    a_response(302, headers={"Location": "/x"}),
    a_response(404),
    a_response(503),
)


def test_the_table_is_true() -> None:
    assert_table_is_true(PagesMachine, wander(walking, Possibilities(REPLIES), walks=400))


class PagesProperties(MachineProperties):
    responses = responses(
        st.builds(
            lambda rows, info: a_response(body=an_envelope(rows, pagination=info)).body,
            st.one_of(st.lists(st.integers(0, 3), max_size=3), json_values),
            st.one_of(
                json_values,
                st.fixed_dictionaries(
                    {},
                    optional={
                        "page": json_values,
                        "per_page": json_values,
                        "total_count": json_values,
                        "total_pages": json_values,
                        "has_next": json_values,
                        "has_more": json_values,
                    },
                ),
            ),
        )
    )

    pages: Any = None

    def make(self) -> Stepper:
        return walking(self.pages)

    def check(self) -> None:
        """Pages are asked for in order, and what a page brought is handed over before the next."""
        asked = [request.url for request in self.stepper.sent if "page=" in request.url]
        numbers = [int(url.partition("page=")[2].partition("&")[0]) for url in asked]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(1, len(set(numbers)) + 1))


class FilteredPagesProperties(PagesProperties):
    pages = Executions.iterate(workflow_id="wf_1", status="failed")


TestPagesProperties = collected(PagesProperties)
TestFilteredPagesProperties = collected(FilteredPagesProperties)
