"""The parts that all list calls share: the call for one page, a filter of items, the iteration."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Optional, TypeVar

from flowmaestro_core.arguments import check_filter, count
from flowmaestro_core.calls.call import Call
from flowmaestro_core.calls.pages import PageCursor, Pages
from flowmaestro_core.http.urls import query
from flowmaestro_core.payloads import shapes
from flowmaestro_core.payloads.json_values import JsonObject, object_or_empty
from flowmaestro_core.payloads.reply import Page, Shape

T = TypeVar("T")


def list_call(
    where: str,
    page: Optional[int],
    per_page: Optional[int],
    shape: Shape,
    keep: Optional[Callable[[Any], bool]] = None,
    **filters: Optional[str],
) -> Call[Page[T]]:
    """Return the call for one page of the list at the path `where`.

    Args:
        where: the path of the list, below the API root.
        page, per_page: number and size of the page; `None` for the server's defaults.
        shape: adds to each item the keys that its type declares and the server did not send
            (`payloads/shapes.py`).
        keep: returns whether an item fits a filter that the server does not apply. Items that do
            not fit are left out of the reply. `None` keeps all items.
        **filters: query parameters; `None` is not sent. An empty text raises `ValueError`.

    """

    def paged(body: JsonObject) -> None:
        shape(body)
        shapes.pagination(body)

    for name, value in filters.items():
        check_filter(name, value)
    found = query({"page": count("page", page), "per_page": count("per_page", per_page), **filters})
    return Call("GET", where + found, shape=paged, keep=keep, data_type=list)


def row_filter(
    key: str, value: Optional[str], *, keep_null: bool = False
) -> Optional[Callable[[Any], bool]]:
    """Return a function that is true for items whose `key` is `value`; `None` if `value` is `None`.

    The SDK uses it for filters that the server does not apply, or applies too late. With
    `keep_null=True`, the function is true for items whose `key` is null, too.
    """
    check_filter(key, value)
    wanted = (value, None) if keep_null else (value,)
    return None if value is None else lambda row: object_or_empty(row).get(key, "") in wanted


def iterate_pages(
    build: Callable[..., Call[Page[T]]],
    per_page: Optional[int],
    until_empty: bool = False,
) -> Pages[T]:
    """Return an iteration over all items of a list.

    `build` returns the call for one page, given `page` and `per_page`. With `until_empty`, the
    iteration ignores what a page says about further pages, and ends at one that is empty or repeats
    an earlier one.
    """
    # Report bad arguments at this call, not at the first item.
    build(page=1, per_page=per_page)
    cursor = partial(PageCursor, per_page, until_empty=until_empty)
    return Pages(lambda page: build(page=page, per_page=per_page), cursor)
