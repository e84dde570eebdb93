"""Walks over models of the servers: no row lost, none twice, and always an end."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict, List, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmaestro_core.calls.pages import DEFAULT_PER_PAGE, MAX_PER_PAGE, PageCursor
from flowmaestro_core.payloads import shapes

Row = Dict[str, Any]
Server = Callable[[List[Row], int, Optional[int], Optional[str]], Row]

WORKFLOWS = partial(PageCursor)
EXECUTIONS = partial(PageCursor, trust_last=False, counted=False)
OF_WORKFLOW = partial(PageCursor, trust_last=False)
WITH_STATUS = partial(PageCursor, trust_last=False, filtered=True)
STATUS_ALONE = partial(PageCursor, trust_last=False, filtered=True, counted=False)


def size(per_page: Optional[int]) -> int:
    """What every server makes of `per_page`."""
    return min(per_page or DEFAULT_PER_PAGE, MAX_PER_PAGE)


def cut(rows: List[Row], page: int, per_page: int) -> List[Row]:
    return rows[(page - 1) * per_page : page * per_page]


def having(rows: List[Row], status: Optional[str]) -> List[Row]:
    return [row for row in rows if status in (None, row["status"])]


# The servers, each answering with what it says of a page


def documented(rows: List[Row], page: int, per_page: Optional[int], status: Optional[str]) -> Row:
    kept, per_page = having(rows, status), size(per_page)
    info = {
        "page": page,
        "per_page": per_page,
        "total_count": len(kept),
        "has_more": page * per_page < len(kept),
    }
    return {"data": cut(kept, page, per_page), "pagination": info}


def deployed(rows: List[Row], page: int, per_page: Optional[int], status: Optional[str]) -> Row:
    """Filters after paging, and counts before."""
    per_page = size(per_page)
    pages = -(-len(rows) // per_page)
    info = {
        "page": page,
        "per_page": per_page,
        "total_count": len(rows),
        "total_pages": pages,
        "has_next": page < pages,
        "has_prev": page > 1,
    }
    return {"data": having(cut(rows, page, per_page), status), "pagination": info}


def deployed_executions(
    rows: List[Row], page: int, per_page: Optional[int], status: Optional[str]
) -> Row:
    """Without `workflow_id`: never a next page, and a count of what was fetched so far."""
    body = deployed(rows, page, per_page, status)
    fetched = (page - 1) * size(per_page) + len(body["data"])
    body["pagination"].update(total_count=fetched, total_pages=page, has_next=False)
    return body


def wrong_about_the_end(
    rows: List[Row], page: int, per_page: Optional[int], status: Optional[str]
) -> Row:
    """Of one workflow, counted rightly, and yet never a next page."""
    body = deployed(rows, page, per_page, status)
    body["pagination"]["has_next"] = False
    return body


def laconic(rows: List[Row], page: int, per_page: Optional[int], status: Optional[str]) -> Row:
    """No pagination at all."""
    return {"data": cut(having(rows, status), page, size(per_page))}


def brief(rows: List[Row], page: int, per_page: Optional[int], status: Optional[str]) -> Row:
    """A count and nothing else."""
    body = documented(rows, page, per_page, status)
    body["pagination"].pop("has_more")
    return body


def stuck(rows: List[Row], page: int, per_page: Optional[int], status: Optional[str]) -> Row:
    """The last page again and again, each time with more to come."""
    pages = max(1, -(-len(rows) // size(per_page)))
    body = documented(rows, min(page, pages), per_page, None)
    body["pagination"]["has_more"] = True
    return body


def eager(rows: List[Row], page: int, per_page: Optional[int], status: Optional[str]) -> Row:
    """More to come after every page, empty ones too."""
    body = documented(rows, page, per_page, None)
    body["pagination"]["has_more"] = True
    return body


def contradictory(
    rows: List[Row], page: int, per_page: Optional[int], status: Optional[str]
) -> Row:
    """One key says that there is more, the other that there is not."""
    body = documented(rows, page, per_page, None)
    body["pagination"]["has_next"] = False
    return body


def walk(
    server: Server,
    cursor: PageCursor,
    rows: List[Row],
    per_page: Optional[int],
    status: Optional[str],
) -> List[Row]:
    """All rows, as a client collects them; fails when it asks for too many pages."""
    found: List[Row] = []
    for asked in range(1, len(rows) // size(per_page) + 4):
        assert cursor.page == asked
        body = server(rows, cursor.page, per_page, status)
        shapes.pagination(body)
        more = cursor.advance(body)
        if not cursor.repeated:
            found += body["data"]
        if not more:
            assert cursor.page == asked
            return found
    raise AssertionError("the walk does not end")


UNFILTERED = [
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
    (documented, OF_WORKFLOW),
    (deployed, OF_WORKFLOW),
    (wrong_about_the_end, OF_WORKFLOW),
    (laconic, OF_WORKFLOW),
    (brief, OF_WORKFLOW),
]
FILTERED = [
    (documented, WITH_STATUS),
    (deployed, WITH_STATUS),
    (wrong_about_the_end, WITH_STATUS),
    (brief, WITH_STATUS),
    (laconic, WITH_STATUS),
    (documented, STATUS_ALONE),
    (laconic, STATUS_ALONE),
]
PER_PAGE = st.none() | st.integers(1, 8) | st.sampled_from([100, 101, 500])
STATUSES = st.lists(st.sampled_from(["completed", "failed"]), max_size=45)


@settings(max_examples=400)
@given(
    pair=st.sampled_from(UNFILTERED),
    count=st.one_of(st.integers(0, 60), st.sampled_from([100, 200, 201])),
    per_page=PER_PAGE,
)
def test_every_row_once_and_an_end(pair: Any, count: int, per_page: Optional[int]) -> None:
    server, cursor = pair
    rows: List[Row] = [{"id": number, "status": "completed"} for number in range(count)]
    assert walk(server, cursor(per_page), rows, per_page, None) == rows


@settings(max_examples=400)
@given(pair=st.sampled_from(FILTERED), statuses=STATUSES, per_page=PER_PAGE)
def test_every_row_of_a_status_once_and_an_end(
    pair: Any, statuses: List[str], per_page: Optional[int]
) -> None:
    server, cursor = pair
    rows: List[Row] = [{"id": number, "status": status} for number, status in enumerate(statuses)]
    found = walk(server, cursor(per_page), rows, per_page, "failed")
    assert found == having(rows, "failed")


@settings(max_examples=200)
@given(statuses=STATUSES, per_page=PER_PAGE)
def test_an_empty_page_ends_a_walk_that_no_count_guides(
    statuses: List[str], per_page: Optional[int]
) -> None:
    """`/executions` by status alone, filtered after paging: all up to the first empty page."""
    rows: List[Row] = [{"id": number, "status": status} for number, status in enumerate(statuses)]
    found = walk(deployed_executions, STATUS_ALONE(per_page), rows, per_page, "failed")
    assert found == having(rows, "failed")[: len(found)]


JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
INFO = st.dictionaries(
    st.sampled_from(["page", "per_page", "total_count", "total_pages", "has_next", "has_more"]),
    st.one_of(JSON, st.integers(-5, 50)),
)


@given(
    cursor=st.sampled_from([WORKFLOWS, EXECUTIONS, OF_WORKFLOW, WITH_STATUS, STATUS_ALONE]),
    pagination=st.one_of(JSON, INFO),
    data=JSON,
    shaped=st.booleans(),
)
def test_a_server_that_says_the_same_nonsense_for_ever_is_left(
    cursor: Callable[[], PageCursor], pagination: Any, data: Any, shaped: bool
) -> None:
    """No error, and an end: at a page that repeats the one before, or at the count's."""
    walking = cursor()
    total = pagination.get("total_count") if isinstance(pagination, dict) else None
    bound = 3 + (total if isinstance(total, int) and total > 0 else 0)
    for _ in range(min(bound, 1000)):
        body = {"data": data, "pagination": pagination}
        if shaped:
            shapes.pagination(body)
        if not walking.advance(body):
            return
    assert bound > 1000


@pytest.mark.parametrize("per_page", ["20", -20, 0, 2.5, True, None, [], 10**400])
def test_a_page_size_that_is_none_is_not_believed(per_page: Any) -> None:
    cursor = WITH_STATUS(2)
    body = {"data": [], "pagination": {"per_page": per_page, "total_count": 3}}
    turns = 0
    while cursor.advance(body):
        turns += 1
    assert turns == (0 if per_page == 10**400 else 1)


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
