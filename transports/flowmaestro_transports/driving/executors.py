"""Executors: they turn an operation into a machine, and a builder into a method.

One is sync, one async; the client classes are shells around them.
"""

from __future__ import annotations

import functools
import inspect
import re
from contextlib import nullcontext
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    ContextManager,
    Mapping,
    Optional,
    Tuple,
    TypeVar,
    Union,
    cast,
)

from flowmaestro_core.actions import Emit
from flowmaestro_core.context import Context
from flowmaestro_core.errors import ClientClosedError
from flowmaestro_core.machine import Machine
from flowmaestro_core.operation import Operation, outcomes
from flowmaestro_transports.contract import (
    AsyncTransport,
    Dice,
    Transport,
    dice_of,
    new_token,
    wall_clock_of,
)
from flowmaestro_transports.driving.callbacks import refuse_awaitable
from flowmaestro_transports.driving.drivers import AsyncDriver, SyncDriver
from flowmaestro_transports.driving.event_loops import running_loop
from flowmaestro_transports.driving.fork_guard import ForkGuard, NotPicklable
from flowmaestro_transports.observing.observers import Observers

if TYPE_CHECKING:
    from flowmaestro_transports.driving.journal import Journal
    from flowmaestro_transports.observing.hooks import Hooks

T = TypeVar("T")
L = TypeVar("L", bound="_Lifetime")


class _Lifetime(NotPicklable):
    """What both executors have: whether they are closed, and where they come from."""

    def __init__(
        self,
        transport: Any,
        context: Context,
        parent: Optional[_Lifetime] = None,
        hooks: Optional[Hooks] = None,
    ) -> None:
        self.transport = transport
        self.context = context
        self._parent = parent
        self._observers: Observers = Observers(hooks) if parent is None else parent._observers
        self._closed = False
        self._process = ForkGuard()
        self._dice: Optional[Dice] = None

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
        """An executor with other options over the same transport, and with the same hooks."""
        options = self.context.options.with_changes(timeout, max_retries, headers)
        return type(self)(self.transport, self.context.with_options(options), self)

    def _end(self) -> bool:
        """Note that it is closed; `True` if the transport is to be closed with it."""
        self._closed = True
        return self._parent is None

    def _machine(self, operation: Operation[Any, Any], name: str) -> Machine[Any]:
        if self.closed:
            raise ClientClosedError
        machine = operation.machine(self.context, new_token(self.transport))
        machine.operation = name
        return machine

    def _batch(self, operation: Any, name: str) -> Tuple[Any, Optional[Journal]]:
        """The machine of a batch, and the journal that it keeps."""
        if operation.journal is None:
            return self._machine(operation, name), None
        if self.closed:
            raise ClientClosedError
        from flowmaestro_transports.driving.journal import Journal

        journal = Journal(
            operation.journal,
            self.context.options.api_root,
            wall_clock_of(self.transport),
            new_token(self.transport),
        )
        try:
            machine = operation.machine(self.context, journal.token)
        except BaseException:  # of the rows, which are a caller's object
            journal.close()
            raise
        machine.operation = name
        return machine, journal

    @property
    def dice(self) -> Dice:
        """The dice for jitter. A child after `os.fork` has its own, so that retries spread."""
        if self._parent is not None:
            return self._parent.dice
        if self._dice is None or self._process.forked:
            self._process = ForkGuard()
            self._dice = dice_of(self.transport)
        return self._dice


def _name_of(build: Callable[..., Any]) -> str:
    """What observers call an operation: `workflows.run` of the builder `Workflows.run`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", build.__qualname__).lower()


def _show(method: Callable[..., Any], build: Callable[..., Any], given: Any) -> None:
    """Have `help` and `inspect` show the builder's parameters, and what a caller is given."""
    shown: Any = method
    shown.__signature__ = inspect.signature(build).replace(return_annotation=given)
    shown.__annotations__ = {**build.__annotations__, "return": given}


def is_coroutine_function(value: Any) -> bool:
    """Whether a call of `value` has to be awaited, as far as can be told without calling it.

    So it has with a coroutine function, an object whose `__call__` is one, and a
    `functools.partial` of either.
    """
    while isinstance(value, functools.partial):
        value = value.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    calls = (value, type(value).__call__) if callable(value) else ()
    return any(map(inspect.iscoroutinefunction, calls))


def _refuse_coroutine_functions(arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        if is_coroutine_function(value):
            raise TypeError(
                f"a sync client cannot await the coroutine function given as {name}; "
                "pass a plain function, or use AsyncFlowMaestroClient"
            )


def _in_flight(
    operation: Operation[Any, Any], driver: Union[SyncDriver, AsyncDriver]
) -> ContextManager[None]:
    """A block for a whole operation, unless a listener is called in between: it may wait."""
    return driver.in_flight() if operation.listener is None else nullcontext()


class SyncExecutor(_Lifetime):
    """Performs operations over a sync transport."""

    transport: Transport

    def __init__(
        self,
        transport: Transport,
        context: Context,
        parent: Optional[_Lifetime] = None,
        hooks: Optional[Hooks] = None,
    ) -> None:
        super().__init__(transport, context, parent, hooks)
        if hooks is not None:
            _refuse_coroutine_functions(
                {f"hooks.{name}": hook for name, hook in hooks.functions().items()}
            )

    def method(self, build: Callable[..., Any], iterates: bool) -> Callable[..., Any]:
        """A function of a resource and the builder's arguments that performs what it builds."""
        perform = SyncExecutor.iterate if iterates else SyncExecutor.perform
        signature, name = inspect.signature(build), _name_of(build)

        @functools.wraps(build)
        def method(resource: Any, /, *args: Any, **kwargs: Any) -> Any:
            operation: Operation[Any, Any] = build(resource, *args, **kwargs)
            if operation.listener is not None:
                _refuse_coroutine_functions(signature.bind(resource, *args, **kwargs).arguments)
            return perform(resource.executor, operation, name)

        _show(method, build, outcomes(build)[0])
        return method

    def perform(self, operation: Operation[T, Any], name: str = "request") -> T:
        """Carry out one operation to its end and return its value; observers know it by `name`.

        Items that the machine emits on the way go to the operation's listener.
        """
        driver = self._driver(operation, name)
        try:
            with _in_flight(operation, driver):
                action = driver.advance()
                while isinstance(action, Emit):
                    if operation.listener is not None:
                        refuse_awaitable("the callback", operation.listener(action.item))
                    action = driver.advance()
        finally:
            if not driver.closed:
                driver.close()
        return cast("T", action.value)

    def iterate(self, operation: Operation[T, Any], name: str = "request") -> T:
        """A handle that does the operation as it is iterated over.

        Its items go to the operation's listener, too, before they are handed over.
        """
        if operation.is_batch:
            from flowmaestro_transports.driving.runs import SyncRuns

            machine, journal = self._batch(operation, name)
            runs = SyncRuns(machine, self.transport, self._observers, self.dice, journal)
            return cast("T", runs)
        from flowmaestro_transports.driving.iterators import SyncStream

        machine, listener = self._machine(operation, name), operation.listener
        stream: SyncStream[Any] = SyncStream(
            machine, self.transport, listener, self._observers, self.dice
        )
        return cast("T", stream)

    def close(self) -> None:
        """Close the transport, unless it is shared."""
        if self._end():
            self.transport.close()

    def _driver(self, operation: Operation[Any, Any], name: str) -> SyncDriver:
        machine = self._machine(operation, name)
        return SyncDriver(machine, self.transport, self._observers, self.dice)


class AsyncExecutor(_Lifetime):
    """Performs operations over an async transport."""

    transport: AsyncTransport

    def method(self, build: Callable[..., Any], iterates: bool) -> Callable[..., Any]:
        """As `SyncExecutor.method`; a coroutine function unless it iterates."""
        name = _name_of(build)
        if iterates:

            @functools.wraps(build)
            def iterating(resource: Any, /, *args: Any, **kwargs: Any) -> Any:
                executor: AsyncExecutor = resource.executor
                return executor.iterate(build(resource, *args, **kwargs), name)

            _show(iterating, build, outcomes(build)[1])
            return iterating

        @functools.wraps(build)
        async def method(resource: Any, /, *args: Any, **kwargs: Any) -> Any:
            executor: AsyncExecutor = resource.executor
            return await executor.perform(build(resource, *args, **kwargs), name)

        _show(method, build, outcomes(build)[1])
        return method

    async def perform(self, operation: Operation[Any, Any], name: str = "request") -> Any:
        """As `SyncExecutor.perform`; the listener may be a coroutine function."""
        driver = self._driver(operation, name)
        try:
            with _in_flight(operation, driver):
                action = await driver.advance()
                while isinstance(action, Emit):
                    if operation.listener is not None:
                        heard = operation.listener(action.item)
                        if inspect.isawaitable(heard):
                            await heard
                    action = await driver.advance()
        except GeneratorExit:  # dropped: its event loop releases the body
            body, here = driver.detach(), running_loop()
            if body is not None and here is not None:
                here.release(body)
            raise
        finally:
            if not driver.closed:
                await driver.close()
        return action.value

    def iterate(self, operation: Operation[Any, T], name: str = "request") -> T:
        """As `SyncExecutor.iterate`, for `async for`."""
        if operation.is_batch:
            from flowmaestro_transports.driving.runs import AsyncRuns

            machine, journal = self._batch(operation, name)
            runs = AsyncRuns(machine, self.transport, self._observers, self.dice, journal)
            return cast("T", runs)
        from flowmaestro_transports.driving.iterators import AsyncStream

        machine, listener = self._machine(operation, name), operation.listener
        stream: AsyncStream[Any] = AsyncStream(
            machine, self.transport, listener, self._observers, self.dice
        )
        return cast("T", stream)

    async def close(self) -> None:
        """Close the transport, unless it is shared."""
        if self._end():
            await self.transport.close()

    def _driver(self, operation: Operation[Any, Any], name: str) -> AsyncDriver:
        machine = self._machine(operation, name)
        return AsyncDriver(machine, self.transport, self._observers, self.dice)
