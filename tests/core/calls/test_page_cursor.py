"""Walks over models of the servers: no row lost, none twice, and always an end."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict, List, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmaestro_core.calls.pages import DEFAULT_PER_PAGE, MAX_PER_PAGE, PageCursor
from flowmaestro_core.payloads import shapes
from tests.harness.core.properties import json_values

Row = Dict[str, Any]
Server = Callable[[List[Row], int, Optional[int]], Row]

WORKFLOWS = partial(PageCursor)
EXECUTIONS = partial(PageCursor, until_empty=True)


def size(per_page: Optional[int]) -> int:
    """What every server makes of `per_page`."""
    return min(per_page or DEFAULT_PER_PAGE, MAX_PER_PAGE)


def cut(rows: List[Row], page: int, per_page: int) -> List[Row]:
    return rows[(page - 1) * per_page : page * per_page]


# The servers, each answering with what it says of a page


def documented(rows: List[Row], page: int, per_page: Optional[int], **said: Any) -> Row:
    per_page = size(per_page)
    info = {
        "page": page,
        "per_page": per_page,
        "total_count": len(rows),
        "has_more": page * per_page < len(rows),
        **said,
    }
    return {"data": cut(rows, page, per_page), "pagination": info}


def deployed(rows: List[Row], page: int, per_page: Optional[int]) -> Row:
    pages = -(-len(rows) // size(per_page))
    body = documented(
        rows, page, per_page, total_pages=pages, has_next=page < pages, has_prev=page > 1
    )
    del body["pagination"]["has_more"]
    return body


def deployed_executions(rows: List[Row], page: int, per_page: Optional[int]) -> Row:
    """Without `workflow_id`: it looks at the newest rows of all customers, takes out one's own
    (all but those marked as foreign), cuts the page out of these, and counts what it has seen.
    """
    newest = cut(rows, 1, page * size(per_page))
    return deployed([row for row in newest if "foreign" not in row], page, per_page)


def laconic(rows: List[Row], page: int, per_page: Optional[int]) -> Row:
    """No pagination at all."""
    return {"data": cut(rows, page, size(per_page))}


brief = partial(documented, has_more=None)
"""A count and nothing else."""

eager = partial(documented, has_more=True)
"""More to come after every page, empty ones too."""

contradictory = partial(documented, has_next=False)
"""One key says that there is more, the other that there is not."""


def stuck(rows: List[Row], page: int, per_page: Optional[int]) -> Row:
    """The last page again and again, each time with more to come."""
    return eager(rows, min(page, max(1, -(-len(rows) // size(per_page)))), per_page)


def walk(server: Server, cursor: PageCursor, rows: List[Row], per_page: Optional[int]) -> List[Row]:
    """All rows, as a client collects them; fails when it asks for too many pages."""
    found: List[Row] = []
    for asked in range(1, len(rows) // size(per_page) + 4):
        assert cursor.page == asked
        body = server(rows, cursor.page, per_page)
        shapes.pagination(body)
        more = cursor.advance(body)
        if not cursor.repeated:
            found += body["data"]
        if not more:
            assert cursor.page == asked
            return found
    raise AssertionError("the walk does not end")


SERVERS = [
    (documented, WORKFLOWS),
    (deployed, WORKFLOWS),
    (laconic, WORKFLOWS),
    (brief, WORKFLOWS),
    (stuck, WORKFLOWS),
    (eager, WORKFLOWS),
    (contradictory, WORKFLOWS),
    (documented, EXECUTIONS),
    (deployed_executions, EXECUTIONS),
    (laconic, EXECUTIONS),
    (stuck, EXECUTIONS),
    (eager, EXECUTIONS),
]
PER_PAGE = st.none() | st.integers(1, 8) | st.sampled_from([100, 101, 500])


@settings(max_examples=60)
@given(
    pair=st.sampled_from(SERVERS),
    count=st.one_of(st.integers(0, 60), st.sampled_from([100, 200, 201])),
    per_page=PER_PAGE,
)
def test_every_row_once_and_an_end(pair: Any, count: int, per_page: Optional[int]) -> None:
    server, cursor = pair
    rows: List[Row] = [{"id": number} for number in range(count)]
    assert walk(server, cursor(per_page), rows, per_page) == rows


@settings(max_examples=40)
@given(foreign=st.lists(st.booleans(), max_size=45), per_page=PER_PAGE)
def test_beside_other_customers_a_walk_over_executions_goes_on_until_an_empty_page(
    foreign: List[bool], per_page: Optional[int]
) -> None:
    rows: List[Row] = [
        {"id": number, "foreign": True} if theirs else {"id": number}
        for number, theirs in enumerate(foreign)
    ]
    found = walk(deployed_executions, EXECUTIONS(per_page), rows, per_page)
    expected: List[Row] = []
    page = 1
    while True:
        body = deployed_executions(rows, page, per_page)
        if not body["data"]:
            break
        expected += body["data"]
        page += 1
    assert found == expected


INFO = st.dictionaries(
    st.sampled_from(["page", "per_page", "total_count", "total_pages", "has_next", "has_more"]),
    st.one_of(json_values, st.integers(-5, 50)),
)


@given(
    cursor=st.sampled_from([WORKFLOWS, EXECUTIONS]),
    pagination=st.one_of(json_values, INFO),
    data=json_values,
    shaped=st.booleans(),
)
def test_a_server_that_says_the_same_nonsense_for_ever_is_left(
    cursor: Callable[[], PageCursor], pagination: Any, data: Any, shaped: bool
) -> None:
    """No error, and an end: at the latest at the third page, which repeats the one before."""
    walking = cursor()
    for _ in range(3):
        body = {"data": data, "pagination": pagination}
        if shaped:
            shapes.pagination(body)
        if not walking.advance(body):
            return
    raise AssertionError("the walk goes on")


@pytest.mark.parametrize("per_page", ["20", -20, 0, 2.5, True, None, []])
def test_a_page_size_that_is_none_is_not_believed(per_page: Any) -> None:
    rows = [{"id": 1}, {"id": 2}]
    assert PageCursor(2).advance({"data": rows, "pagination": {"per_page": per_page}})
    assert not PageCursor(3).advance({"data": rows, "pagination": {"per_page": per_page}})


@pytest.mark.parametrize("count", [{"total_pages": 2}, {"total_count": 3, "per_page": 2}])
def test_a_count_that_says_more_is_believed(count: Dict[str, int]) -> None:
    cursor = PageCursor(2)
    for rows, more in ([{"id": 1}, {"id": 2}], True), ([{"id": 3}], False):
        body = {"data": rows, "pagination": {"has_next": False, **count}}
        shapes.pagination(body)
        assert cursor.advance(body) == more


def test_a_page_that_repeats_the_one_before_is_told() -> None:
    cursor = WORKFLOWS()
    body = {"data": [{"id": 1}], "pagination": {"has_next": True}}
    assert cursor.advance(body)
    assert (cursor.page, cursor.repeated) == (2, False)
    assert not cursor.advance(body)
    assert (cursor.page, cursor.repeated) == (2, True)


def test_rows_that_the_caller_changes_do_not_confuse_it() -> None:
    cursor = WORKFLOWS()
    rows: List[Row] = [{"id": 1}]
    assert cursor.advance({"data": rows, "pagination": {"has_next": True}})
    rows.clear()
    assert not cursor.advance({"data": [{"id": 1}], "pagination": {"has_next": True}})


@pytest.mark.parametrize("length", [1, 2, 3, 7, 20])
def test_pages_that_come_round_in_a_circle_end_the_walk(length: int) -> None:
    cursor = PageCursor(1)
    asked = 1
    while cursor.advance({"data": [{"id": str(asked % length)}], "pagination": {"has_next": True}}):
        asked += 1
        assert asked <= 4 * length + 2
    assert cursor.repeated


def test_a_row_that_changes_between_two_requests_is_still_the_same_row() -> None:
    cursor = PageCursor(1)
    assert cursor.advance({"data": [{"id": "a", "n": 1}], "pagination": {"has_next": True}})
    assert not cursor.advance({"data": [{"id": "a", "n": 2}], "pagination": {"has_next": True}})
