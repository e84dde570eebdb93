"""Checks of arguments that are functions."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from flowmaestro_core.arguments import check_plain_function, is_coroutine_function


async def coroutine_function() -> None:
    """Return nothing, later."""


class Callable:
    async def __call__(self) -> None:
        """Return nothing, later."""


@pytest.mark.parametrize(
    "value",
    [
        coroutine_function,
        functools.partial(coroutine_function, 1),
        Callable(),
        Callable().__call__,
        functools.partial(functools.partial(Callable(), 1), 2),
    ],
    ids=["function", "partial", "object", "method", "partial of an object"],
)
def test_coroutine_function_is_refused_where_a_plain_one_is_needed(value: Any) -> None:
    assert is_coroutine_function(value)
    with pytest.raises(
        TypeError, match=r"^key must be a plain function, not a coroutine function$"
    ):
        check_plain_function("key", value)


@pytest.mark.parametrize("value", [None, print, functools.partial(print), Callable])
def test_plain_function_or_none_is_accepted(value: Any) -> None:
    check_plain_function("key", value)
    assert not is_coroutine_function(value)
