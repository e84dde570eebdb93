"""What all list calls have in common."""

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


def page_of(
    where: str,
    page: Optional[int],
    per_page: Optional[int],
    shape: Shape,
    keep: Optional[Callable[[Any], bool]] = None,
    **filters: Optional[str],
) -> Call[Page[T]]:
    """The call for one page of the list at the path `where`; `shape` is that of its rows."""

    def paged(body: JsonObject) -> None:
        shape(body)
        shapes.pagination(body)

    for name, value in filters.items():
        check_filter(name, value)
    found = query({"page": count("page", page), "per_page": count("per_page", per_page), **filters})
    return Call("GET", where + found, shape=paged, keep=keep, data_type=list)


def rows_with(key: str, value: Optional[str], *also: None) -> Optional[Callable[[Any], bool]]:
    """Which rows of a list to keep if the server ignores a filter; `None` for all.

    With `None` as `also`, a row that does not say is kept, too.
    """
    check_filter(key, value)
    wanted = (value, *also)
    return None if value is None else lambda row: object_or_empty(row).get(key, "") in wanted


def walk(
    build: Callable[..., Call[Page[T]]],
    per_page: Optional[int],
    until_empty: bool = False,
) -> Pages[T]:
    """All items of a list; `build` takes `page` and `per_page`. Bad arguments fail here."""
    build(page=1, per_page=per_page)
    cursor = partial(PageCursor, per_page, until_empty=until_empty)
    return Pages(lambda page: build(page=page, per_page=per_page), cursor)
