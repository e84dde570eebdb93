"""Executors: one sync, one async. The client classes are shells around them.

A builder is a method of the core that returns an operation. An executor makes a method of the
client from each builder, and carries out the operations.
"""

from __future__ import annotations

import functools
import inspect
import re
from contextlib import ExitStack, nullcontext
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    ContextManager,
    Generic,
    Mapping,
    Optional,
    Tuple,
    TypeVar,
    cast,
)

from flowmaestro_core.actions import Emit
from flowmaestro_core.context import Context
from flowmaestro_core.errors import ClientClosedError
from flowmaestro_core.habits import OF_METHODS, add_hint
from flowmaestro_core.machines import machine_for
from flowmaestro_core.operation import HandleKind, Operation, outcomes
from flowmaestro_transports.contract import (
    AsyncTransport,
    Transport,
    new_token,
    secrets_of,
)
from flowmaestro_transports.driving.drivers import AsyncDriver, SyncDriver
from flowmaestro_transports.observing.observers import Observers
from flowmaestro_transports.override import INSTALLED, refuse_network
from flowmaestro_transports.primitives.checks import refuse_coroutine_functions
from flowmaestro_transports.primitives.fork_guard import NotPicklable

if TYPE_CHECKING:
    from flowmaestro_transports.observing.hooks import Hooks

__tracebackhide__ = True  # pytest shows the lines of the test instead.

T = TypeVar("T")
X = TypeVar("X")
H = TypeVar("H")
L = TypeVar("L", bound="_Lifetime[Any]")
_REAL_TIME: ContextManager[None] = nullcontext()
"""Entered by each call on a transport in real time. It has no state, so all calls share it."""


class ClientTransport(Generic[X]):
    """A holder of the transport that a client and the clients derived from it share.

    The transport is `given`, or else made by `make` at the first call of `get`. The client closes
    it unless `owned` is False.
    """

    made: Optional[X] = None
    """The transport; `None` before it is made."""

    def __init__(
        self, given: Optional[X], make: Optional[Callable[[], X]] = None, *, owned: bool = True
    ) -> None:
        if given is not None:
            self.made = given
        self._make = make
        self.owned = owned

    def get(self) -> X:
        """Return the transport. Threads that need it at the same moment get the same one."""
        if self.made is None and self._make is not None:
            # `setdefault`, so that several threads that call this at once share one transport. One
            # that comes too late has opened nothing, and is collected.
            vars(self).setdefault("made", self._make())
        return cast("X", self.made)

    def secrets(self) -> Tuple[str, ...]:
        """Return the secrets that the transport itself sends, such as those for a proxy.

        Errors redact them. Return `()` before the transport is made.
        """
        return () if self.made is None else secrets_of(self.made)


class _Lifetime(NotPicklable, Generic[X]):
    """The common part of both executors: transport, options, and whether they are closed."""

    def __init__(
        self,
        transport: ClientTransport[X],
        context: Context,
        parent: Optional[_Lifetime[X]] = None,
        hooks: Optional[Hooks] = None,
    ) -> None:
        self._transport = transport
        self.context = context
        self._parent = parent
        self._observers: Observers = Observers(hooks) if parent is None else parent._observers
        self._closed = False

    @property
    def transport(self) -> X:
        """The transport. If none was given, it is made at the first access."""
        return self._transport.get()

    @property
    def closed(self) -> bool:
        """Whether this executor, or any that it was derived from, was closed."""
        executor: Optional[_Lifetime[X]] = self
        # A loop, because a program that derives each client from the last one makes a long chain.
        while executor is not None:
            if executor._closed:
                return True
            executor = executor._parent
        return False

    def derive(
        self: L,
        timeout: Optional[float],
        max_retries: Optional[int],
        headers: Optional[Mapping[str, str]],
        api_key: Optional[str] = None,
        call_timeout: Optional[float] = None,
    ) -> L:
        """Return an executor with other options. It shares the transport and the hooks.

        An option that is `None` stays as it is. `headers` are added to the present ones, and
        replace those of the same names.
        """
        options = self.context.options.with_changes(
            timeout, max_retries, headers, api_key, call_timeout
        )
        return type(self)(self._transport, self.context.with_options(options), self)

    def _end(self) -> Optional[X]:
        """Mark this executor as closed.

        Return the transport if the caller must close it. Return `None` if no transport was made
        yet, if it belongs to somebody else, or if this executor was derived from another one, whose
        transport it shares.
        """
        self._closed = True
        if self._parent is not None:
            return None
        self.context.server.client_closed = True
        return self._transport.made if self._transport.owned else None

    def _open_transport(self) -> X:
        """Return the transport.

        Raises `ClientClosedError` if the client was closed, and `RuntimeError` if it would send
        past an installed fake.
        """
        transport = self._transport.made
        if transport is None:
            transport = self._transport.get()
        # Checked last: another thread may close it while the transport is made.
        if self._closed or (self._parent is not None and self.closed):
            raise ClientClosedError
        if INSTALLED:
            refuse_network(transport, self.context.options.base_url)
        return transport

    def _batch(
        self, operation: Operation[Any, Any], name: str, transport: X, kind: Callable[..., H]
    ) -> H:
        """Open the journal of a batch, if it has one. Return the handle of the batch, a `kind`.

        The handle closes the journal. If an exception is raised here, the journal is closed.
        """
        from flowmaestro_transports.driving.stores import journal_kept_by

        with ExitStack() as opened:
            kept = None
            if operation.journal is not None:
                kept = journal_kept_by(operation.journal)
                opened.callback(kept.close)
            # The rows of a batch are a caller's object: to iterate over them may raise.
            machine = machine_for(operation, self.context, new_token(transport), name)
            made = kind(machine, transport, self._observers, kept)
            opened.pop_all()
        return made


def _name_of(build: Callable[..., Any]) -> str:
    """Return the name of an operation for observers: `workflows.run` for `Workflows.run`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", build.__qualname__).lower()


def _shown(method: Callable[..., Any], build: Callable[..., Any], given: Any) -> Callable[..., Any]:
    """Give `method` the docstring and parameters of `build`, as `help` shows them. Return `method`.

    `given` becomes the annotation of what the method returns.
    """
    shown: Any = functools.update_wrapper(method, build)
    shown.__signature__ = inspect.signature(build).replace(return_annotation=given)
    shown.__annotations__ = {**build.__annotations__, "return": given}
    return method


class SyncExecutor(_Lifetime[Transport]):
    """Carries out what a sync client starts (calls, streams, waits, batches).

    For each, it makes the machine and a driver, which performs the actions of the machine over the
    transport.
    """

    def method(self, build: Callable[..., Any], iterates: bool) -> Callable[..., Any]:
        """Return the client's method for `build`, a function that builds an operation.

        The method carries out the operation that `build` returns for the method's arguments. With
        `iterates`, the method returns a handle (see `iterate`), else a value (see `perform`).
        """
        perform = SyncExecutor.iterate if iterates else SyncExecutor.perform
        name = _name_of(build)

        def method(resource: Any, /, *args: Any, **kwargs: Any) -> Any:
            try:
                operation: Operation[Any, Any] = build(resource, *args, **kwargs)
            except TypeError as error:
                add_hint(error, OF_METHODS)
                raise
            # A traceback must not lead to the arguments, which may hold secrets.
            del args, kwargs
            callbacks = operation.callbacks()
            if callbacks:
                refuse_coroutine_functions(callbacks)
            return perform(resource.executor, operation, name)

        return _shown(method, build, outcomes(build)[0])

    def perform(self, operation: Operation[T, Any], name: str = "request") -> T:
        """Carry out one operation to its end and return its value.

        Observers get `name`. The operation's listener gets the items that the machine emits.
        """
        transport = self._open_transport()
        machine = machine_for(operation, self.context, new_token(transport), name)
        listener, observers = operation.listener, self._observers
        if operation.checkpoint is None:
            driver = SyncDriver(machine, transport, listener, observers)
        else:
            from flowmaestro_transports.driving.checkpoints import kept_by
            from flowmaestro_transports.driving.stores import SyncKeeper

            keeper = SyncKeeper(kept_by(operation.checkpoint), transport)
            driver = SyncDriver(machine, transport, listener, observers, keeper=keeper)
        try:
            # A listener may wait for another call, so each operation of the transport is in flight
            # by itself.
            block = driver.in_flight if operation.listener is None else None
            with _REAL_TIME if block is None else block():
                action = driver.advance()
                while isinstance(action, Emit):
                    for item in action.items:
                        driver.deliver(item)
                    action = driver.advance()
        finally:
            if not driver.closed:
                driver.close()
        return cast("T", action.value)

    def iterate(self, operation: Operation[T, Any], name: str = "request") -> T:
        """Return a handle that carries out the operation while it is iterated over.

        The operation's listener gets each item before the caller does. Observers get `name`.
        """
        transport = self._open_transport()
        from flowmaestro_transports.driving.iterators import SYNC_HANDLES, SyncHandle

        made: SyncHandle[Any]
        if operation.handle is HandleKind.OUTCOMES:
            from flowmaestro_transports.driving.runs import RunOutcomes

            made = self._batch(operation, name, transport, RunOutcomes)
        else:
            machine = machine_for(operation, self.context, new_token(transport), name)
            kind = SYNC_HANDLES[operation.handle]
            made = kind(machine, transport, operation.listener, self._observers)
        return cast("T", made)

    def close(self) -> None:
        """Close this executor, and the transport unless the executor was derived from another."""
        transport = self._end()
        if transport is not None:
            transport.close()


class AsyncExecutor(_Lifetime[AsyncTransport]):
    """Carries out what an async client starts (calls, streams, waits, batches).

    For each, it makes the machine and a driver, which performs the actions of the machine over the
    transport.
    """

    def method(self, build: Callable[..., Any], iterates: bool) -> Callable[..., Any]:
        """Return the client's method for a builder. It carries out what `build` returns.

        With `iterates`, it is a plain method that returns a handle (see `iterate`). Otherwise it is
        a coroutine function that returns a value (see `perform`).
        """
        # Unlike the sync form: a coroutine function must be an `async def`, which tools look for.
        name = _name_of(build)

        def iterate(resource: Any, /, *args: Any, **kwargs: Any) -> Any:
            try:
                operation = build(resource, *args, **kwargs)
            except TypeError as error:
                add_hint(error, OF_METHODS)
                raise
            return resource.executor.iterate(operation, name)

        async def perform(resource: Any, /, *args: Any, **kwargs: Any) -> Any:
            try:
                operation = build(resource, *args, **kwargs)
            except TypeError as error:
                add_hint(error, OF_METHODS)
                raise
            # A traceback must not lead to the arguments, which may hold secrets.
            del args, kwargs
            return await resource.executor.perform(operation, name)

        return _shown(iterate if iterates else perform, build, outcomes(build)[1])

    async def perform(self, operation: Operation[Any, Any], name: str = "request") -> Any:
        """Carry out one operation to its end and return its value.

        Observers get `name`. The operation's listener, which may be a coroutine function, gets the
        items that the machine emits.
        """
        # Unlike the sync form: a coroutine may be closed, and then it cannot await the body.
        transport = self._open_transport()
        machine = machine_for(operation, self.context, new_token(transport), name)
        listener, observers = operation.listener, self._observers
        if operation.checkpoint is None:
            driver = AsyncDriver(machine, transport, listener, observers)
        else:
            from flowmaestro_transports.driving.checkpoints import kept_by
            from flowmaestro_transports.driving.stores import AsyncKeeper

            keeper = AsyncKeeper(kept_by(operation.checkpoint), transport)
            driver = AsyncDriver(machine, transport, listener, observers, keeper=keeper)
        try:
            # A listener may wait for another call, so each operation of the transport is in flight
            # by itself.
            block = driver.in_flight if operation.listener is None else None
            with _REAL_TIME if block is None else block():
                action = await driver.advance()
                while isinstance(action, Emit):
                    for item in action.items:
                        await driver.deliver(item)
                    action = await driver.advance()
        except GeneratorExit:
            driver.drop()
            raise
        finally:
            if not driver.closed:
                await driver.close()
        return action.value

    def iterate(self, operation: Operation[Any, T], name: str = "request") -> T:
        """Return a handle that carries out the operation while `async for` iterates over it.

        The operation's listener gets each item before the caller does. Observers get `name`.
        """
        # Unlike the sync form: the type of an operation has two parameters.
        transport = self._open_transport()
        from flowmaestro_transports.driving.iterators import ASYNC_HANDLES, AsyncHandle

        made: AsyncHandle[Any]
        if operation.handle is HandleKind.OUTCOMES:
            from flowmaestro_transports.driving.runs import AsyncRunOutcomes

            made = self._batch(operation, name, transport, AsyncRunOutcomes)
        else:
            machine = machine_for(operation, self.context, new_token(transport), name)
            kind = ASYNC_HANDLES[operation.handle]
            made = kind(machine, transport, operation.listener, self._observers)
        return cast("T", made)

    async def close(self) -> None:
        """Close this executor, and the transport unless the executor was derived from another."""
        transport = self._end()
        if transport is not None:
            await transport.close()
