"""Performers: they turn an operation into a machine, and a builder into a method.

One blocking, one awaiting; the client classes are shells around them.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable, Mapping, Optional, TypeVar, cast

from flowmaestro_core.actions import Emit
from flowmaestro_core.context import Context
from flowmaestro_core.errors import ClientClosedError
from flowmaestro_core.machine import Machine
from flowmaestro_core.operation import Operation, outcomes
from flowmaestro_transports.contract import AsyncTransport, Transport
from flowmaestro_transports.drivers import AsyncDriver, Driver, dice_of
from flowmaestro_transports.streams import AwaitingIteration, BlockingIteration

T = TypeVar("T")
L = TypeVar("L", bound="_Lifetime")


class _Lifetime:
    """What both performers have: whether they are closed, and where they come from."""

    def __init__(
        self, transport: Any, context: Context, parent: Optional[_Lifetime] = None
    ) -> None:
        self.transport = transport
        self.context = context
        self._parent = parent
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether this one, or the one it was derived from, was closed."""
        return self._closed or (self._parent is not None and self._parent.closed)

    def derive(
        self: L,
        timeout: Optional[float],
        max_retries: Optional[int],
        headers: Optional[Mapping[str, str]],
    ) -> L:
        """A performer with other options over the same transport."""
        options = self.context.options.with_changes(timeout, max_retries, headers)
        return type(self)(self.transport, self.context.with_options(options), self)

    def _end(self) -> bool:
        """Note that it is closed; `True` if the transport is to be closed with it."""
        self._closed = True
        return self._parent is None

    def _machine(self, operation: Operation[Any, Any]) -> Machine[Any]:
        if self.closed:
            raise ClientClosedError
        return operation.machine(self.context, _token(self.transport))


def _show(method: Callable[..., Any], build: Callable[..., Any], given: Any) -> None:
    """Have `help` and `inspect` show the builder's parameters, and what a caller is given."""
    shown: Any = method
    shown.__signature__ = inspect.signature(build).replace(return_annotation=given)
    shown.__annotations__ = {**build.__annotations__, "return": given}


def _refuse_coroutine(listener: Optional[Callable[[Any], Any]]) -> None:
    if listener is not None and inspect.iscoroutinefunction(listener):
        raise TypeError(
            f"a blocking client cannot await the coroutine function {listener!r}; "
            "pass a plain function, or use AsyncFlowMaestroClient"
        )


def _token(transport: object) -> str:
    """A random text for the idempotency key of one operation."""
    return f"{dice_of(transport).getrandbits(128):032x}"


class BlockingPerformer(_Lifetime):
    """Performs operations over a blocking transport."""

    transport: Transport

    def method(self, build: Callable[..., Any], iterates: bool) -> Callable[..., Any]:
        """A function of a resource and the builder's arguments that performs what it builds."""
        perform = BlockingPerformer.iterate if iterates else BlockingPerformer.perform

        @functools.wraps(build)
        def method(resource: Any, /, *args: Any, **kwargs: Any) -> Any:
            return perform(resource.performer, build(resource, *args, **kwargs))

        _show(method, build, outcomes(build)[0])
        return method

    def perform(self, operation: Operation[T, Any]) -> T:
        """Do one operation to its end and give back its value.

        Items that the machine emits on the way go to the operation's listener.
        """
        _refuse_coroutine(operation.listener)
        driver = self._driver(operation)
        action = driver.advance()
        try:
            while isinstance(action, Emit):
                if operation.listener is not None:
                    operation.listener(action.item)
                action = driver.advance()
        finally:
            driver.close()
        return cast("T", action.value)

    def iterate(self, operation: Operation[T, Any]) -> T:
        """A handle that does the operation as it is iterated over.

        Its items go to the operation's listener, too, before they are handed over.
        """
        _refuse_coroutine(operation.listener)
        machine, listener = self._machine(operation), operation.listener
        return cast("T", BlockingIteration[Any](machine, self.transport, listener))

    def close(self) -> None:
        """Close the transport, unless it is shared."""
        if self._end():
            self.transport.close()

    def _driver(self, operation: Operation[Any, Any]) -> Driver:
        return Driver(self._machine(operation), self.transport)


class AwaitingPerformer(_Lifetime):
    """Performs operations over an awaiting transport."""

    transport: AsyncTransport

    def method(self, build: Callable[..., Any], iterates: bool) -> Callable[..., Any]:
        """As `BlockingPerformer.method`; a coroutine function unless it iterates."""
        if iterates:

            @functools.wraps(build)
            def iterating(resource: Any, /, *args: Any, **kwargs: Any) -> Any:
                performer: AwaitingPerformer = resource.performer
                return performer.iterate(build(resource, *args, **kwargs))

            _show(iterating, build, outcomes(build)[1])
            return iterating

        @functools.wraps(build)
        async def method(resource: Any, /, *args: Any, **kwargs: Any) -> Any:
            performer: AwaitingPerformer = resource.performer
            return await performer.perform(build(resource, *args, **kwargs))

        _show(method, build, outcomes(build)[1])
        return method

    async def perform(self, operation: Operation[Any, Any]) -> Any:
        """As `BlockingPerformer.perform`; the listener may be a coroutine function."""
        driver = self._driver(operation)
        action = await driver.advance()
        try:
            while isinstance(action, Emit):
                if operation.listener is not None:
                    heard = operation.listener(action.item)
                    if inspect.isawaitable(heard):
                        await heard
                action = await driver.advance()
        finally:
            await driver.close()
        return action.value

    def iterate(self, operation: Operation[Any, T]) -> T:
        """As `BlockingPerformer.iterate`, for `async for`."""
        machine, listener = self._machine(operation), operation.listener
        return cast("T", AwaitingIteration[Any](machine, self.transport, listener))

    async def close(self) -> None:
        """Close the transport, unless it is shared."""
        if self._end():
            await self.transport.close()

    def _driver(self, operation: Operation[Any, Any]) -> AsyncDriver:
        return AsyncDriver(self._machine(operation), self.transport)
