"""Both kinds of client behind one awaiting face, so that a scenario is written once.

A sync client does its work when it is awaited, and never suspends.
"""

from __future__ import annotations

from typing import Any, Callable


class Awaited:
    """A sync client, or a resource of one, whose methods are awaited."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        return _AwaitedMethod(found) if callable(found) else Awaited(found)

    def with_options(self, **options: Any) -> Awaited:
        return Awaited(self._wrapped.with_options(**options))


class _AwaitedMethod:
    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _Outcome(lambda: self._method(*args, **kwargs))


class _Outcome:
    """What a sync call comes to: awaited, iterated over, or entered."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._items: Any = None

    def __await__(self) -> Any:
        return self._call()
        yield  # what makes it an iterator, as `await` wants one

    def __aiter__(self) -> _Outcome:
        if self._items is None:
            self._items = self._call()
        iter(self._items)
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None

    def text(self) -> _Outcome:
        return _Outcome(lambda: self._call().text())

    async def __aenter__(self) -> _Outcome:
        self._items = self._call()
        self._items.__enter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._items.__exit__(*exc)
