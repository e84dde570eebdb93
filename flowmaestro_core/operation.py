"""Operations: each API method is written once, as a builder that returns an `Operation`.

An operation says what to do, not how: a client turns it into a machine (`machines.py`) and drives
that. Its two type parameters are what a sync client returns and what an async one returns.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Coroutine
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    ClassVar,
    Dict,
    Generic,
    Mapping,
    Optional,
    Protocol,
    Tuple,
    Type,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from flowmaestro_core.checkpoint import Checkpoint
from flowmaestro_core.habits import unknown_attribute
from flowmaestro_core.records import JournalPlan

if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec

    P = ParamSpec("P")
else:
    P = TypeVar("P")

S = TypeVar("S", covariant=True)
A = TypeVar("A", covariant=True)


class HandleKind(enum.Enum):
    """The kinds of handles that callers iterate over. Each kind has attributes of its own."""

    ITEMS = "items"
    EVENTS = "events"
    MESSAGE_EVENTS = "message events"
    OUTCOMES = "outcomes"


class Operation(Generic[S, A]):
    """One thing to do. `machines.machine_for` returns the machine that does it."""

    listener: Optional[Callable[[Any], Any]] = None
    """Called with every item that the machine emits; `None` calls nothing."""

    journal: Optional[JournalPlan] = None
    """The journal in which a batch records its rows, if it has one."""

    checkpoint: Optional[Checkpoint] = None
    """The checkpoint that stores the state of a start, if there is one."""

    def callbacks(self) -> Mapping[str, Optional[Callable[..., Any]]]:
        """Return the caller's callbacks by the names of their arguments; `None` for an unset one.

        On an async client they may be coroutine functions. A sync client refuses these.
        """
        return {}

    handle: ClassVar[HandleKind] = HandleKind.ITEMS
    """The kind of handle that callers iterate over, if the operation is iterated over."""


def outcomes(build: Callable[..., Any]) -> Tuple[Any, Any]:
    """Return the types of a builder's result: on a sync client, and on an async one after `await`.

    Both follow from the operation in the return annotation of `build`. Without such an annotation,
    both are `Any`.
    """
    try:
        operation = get_type_hints(build)["return"]
    except (LookupError, NameError):
        # Without an annotation, or with a name that is imported for type checkers only.
        return Any, Any
    made, args = get_origin(operation) or operation, get_args(operation)
    for base in getattr(made, "__orig_bases__", ()):
        if get_origin(base) is Operation:
            blocking, awaiting = get_args(base[args] if args else base)
            awaited = get_args(awaiting)[-1] if get_origin(awaiting) is Coroutine else awaiting
            return blocking, awaited
    return Any, Any


class Sync:
    """A type argument: `Workflows[Sync]` has the types of a sync client. Not instantiated."""


class Async:
    """A type argument: `Workflows[Async]` has the types of an async client. Not instantiated."""


D = TypeVar("D", Sync, Async)
Op = TypeVar("Op", bound=Operation[Any, Any], covariant=True)


class Executor(Protocol):
    """Makes the methods of a client: each builds an operation (see `endpoint`) and performs it."""

    def method(self, build: Callable[..., Any], iterates: bool) -> Callable[..., Any]:
        """Return a method that builds an operation from its arguments and performs it.

        `iterates` says that callers iterate over the result, with `for` or `async for`.
        """
        ...


class Resource(Generic[D]):
    """A group of endpoints, bound to the client that performs them."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    if not TYPE_CHECKING:  # A type checker would accept every attribute.

        def __getattr__(self, name: str) -> Any:
            kind = type(self).__name__.replace("Async", "").replace("Sync", "")
            group = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower()
            raise unknown_attribute(self, group, name)

    def __repr__(self) -> str:
        methods = (name for name in dir(type(self)) if not name.startswith("_"))
        return f"<{type(self).__name__}: {', '.join(methods)}>"


class _Endpoint(Generic[P, Op]):
    """A builder of operations, read as a method.

    Read from a resource of a sync client, it is a plain method; from a resource of an async client,
    a coroutine function. For an `iterating_endpoint`, it is a plain method on both. Read from the
    class, it is the builder itself, so that code can build an operation without a client.
    """

    _iterates = False

    def __init__(self, build: Callable[Concatenate[Any, P], Op]) -> None:
        self._build = build
        self._methods: Dict[type, Callable[..., Any]] = {}
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, resource: None, owner: Type[Any]) -> Callable[P, Op]: ...
    @overload
    def __get__(
        self: _Endpoint[P, Operation[S, A]], resource: Resource[Sync], owner: Type[Any]
    ) -> Callable[P, S]: ...
    @overload
    def __get__(
        self: _Endpoint[P, Operation[S, A]], resource: Resource[Async], owner: Type[Any]
    ) -> Callable[P, A]: ...
    def __get__(self, resource: Optional[Resource[Any]], owner: Type[Any]) -> Any:
        if resource is None:
            return self._build.__get__(owner)
        executor = resource.executor
        method = self._methods.get(type(executor))
        if method is None:
            method = executor.method(self._build, self._iterates)
            self._methods[type(executor)] = method
        return method.__get__(resource)


class endpoint(_Endpoint[P, Op]):  # noqa: N801 - a decorator
    """Marks a builder whose operation ends in one value."""


class iterating_endpoint(_Endpoint[P, Op]):  # noqa: N801 - a decorator
    """Marks a builder whose operation is iterated over, with `for` or `async for`."""

    _iterates = True
