"""The types of the methods that start a workflow, for type checkers.

A plain `str` as `workflow_id` takes any inputs. A `WorkflowId[InputsT, OutputsT]` takes `InputsT`,
and the ended execution of `run` has `OutputsT`. At run time this module
is empty, and the decorators are `endpoint` and `iterating_endpoint`, so a call costs nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import (
        Any,
        Callable,
        Coroutine,
        Generic,
        Iterable,
        Mapping,
        NoReturn,
        Optional,
        Protocol,
        Type,
        Union,
        overload,
    )

    from typing_extensions import Concatenate, ParamSpec, TypeVar

    from flowmaestro_core.executions.outcome import EndedExecution
    from flowmaestro_core.operation import Async, Operation, Resource, Sync
    from flowmaestro_core.types import WorkflowId

    MYPY = False
    """mypy takes it for True. mypy infers `I` from a dict literal and from the id at once, and
    fails. It looks at an argument that may be a callable only later, when it knows `I`."""
    P = ParamSpec("P")
    I = TypeVar("I")  # noqa: E741
    O = TypeVar("O")  # noqa: E741
    S = TypeVar("S", covariant=True)
    A = TypeVar("A", covariant=True)
    Op = TypeVar("Op", bound=Operation[Any, Any], covariant=True)
    Inputs = Optional[Mapping[str, Any]]

    class PlainText(Protocol):
        """A `str` that is not a `WorkflowId`."""

        def isidentifier(self) -> bool: ...

    class Builder(Protocol[P, Op]):
        """The builder of a start, as a class has it."""

        def __call__(
            self, workflow_id: str, inputs: Inputs = None, *args: P.args, **kwargs: P.kwargs
        ) -> Op: ...

    class Execute(Protocol[P, S]):
        """A method that starts one execution."""

        if MYPY:

            @overload
            def __call__(
                self,
                workflow_id: WorkflowId[I, Any],
                inputs: Union[I, Callable[[I], NoReturn]],
                *args: P.args,
                **kwargs: P.kwargs,
            ) -> S: ...
        else:

            @overload
            def __call__(  # pyright: ignore[reportOverlappingOverload]
                self,
                workflow_id: WorkflowId[I, Any],
                inputs: I,
                *args: P.args,
                **kwargs: P.kwargs,
            ) -> S: ...

        @overload
        def __call__(
            self, workflow_id: PlainText, inputs: Inputs = None, *args: P.args, **kwargs: P.kwargs
        ) -> S: ...
        def __call__(
            self, workflow_id: Any, inputs: Any = None, *args: Any, **kwargs: Any
        ) -> Any: ...

    class Run(Protocol[P]):
        """`run` of a sync client."""

        if MYPY:

            @overload
            def __call__(
                self,
                workflow_id: WorkflowId[I, O],
                inputs: Union[I, Callable[[I], NoReturn]],
                *args: P.args,
                **kwargs: P.kwargs,
            ) -> EndedExecution[Optional[O]]: ...
        else:

            @overload
            def __call__(  # pyright: ignore[reportOverlappingOverload]
                self,
                workflow_id: WorkflowId[I, O],
                inputs: I,
                *args: P.args,
                **kwargs: P.kwargs,
            ) -> EndedExecution[Optional[O]]: ...

        @overload
        def __call__(
            self, workflow_id: PlainText, inputs: Inputs = None, *args: P.args, **kwargs: P.kwargs
        ) -> EndedExecution: ...
        def __call__(
            self, workflow_id: Any, inputs: Any = None, *args: Any, **kwargs: Any
        ) -> Any: ...

    class AsyncRun(Protocol[P]):
        """`run` of an async client."""

        if MYPY:

            @overload
            def __call__(
                self,
                workflow_id: WorkflowId[I, O],
                inputs: Union[I, Callable[[I], NoReturn]],
                *args: P.args,
                **kwargs: P.kwargs,
            ) -> Coroutine[Any, Any, EndedExecution[Optional[O]]]: ...
        else:

            @overload
            def __call__(  # pyright: ignore[reportOverlappingOverload]
                self,
                workflow_id: WorkflowId[I, O],
                inputs: I,
                *args: P.args,
                **kwargs: P.kwargs,
            ) -> Coroutine[Any, Any, EndedExecution[Optional[O]]]: ...

        @overload
        def __call__(
            self, workflow_id: PlainText, inputs: Inputs = None, *args: P.args, **kwargs: P.kwargs
        ) -> Coroutine[Any, Any, EndedExecution]: ...
        def __call__(
            self, workflow_id: Any, inputs: Any = None, *args: Any, **kwargs: Any
        ) -> Any: ...

    class RunMany(Protocol[P, S]):
        """A method that starts an execution for each row."""

        if MYPY:

            @overload
            def __call__(
                self,
                workflow_id: WorkflowId[I, Any],
                inputs: Iterable[Union[I, Callable[[I], NoReturn]]],
                *args: P.args,
                **kwargs: P.kwargs,
            ) -> S: ...
        else:

            @overload
            def __call__(  # pyright: ignore[reportOverlappingOverload]
                self,
                workflow_id: WorkflowId[I, Any],
                inputs: Iterable[I],
                *args: P.args,
                **kwargs: P.kwargs,
            ) -> S: ...

        @overload
        def __call__(
            self,
            workflow_id: PlainText,
            inputs: Iterable[Inputs],
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> S: ...
        def __call__(self, workflow_id: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any: ...

    class BatchBuilder(Protocol[P, Op]):
        """The builder of a batch, as a class has it."""

        def __call__(
            self, workflow_id: str, inputs: Iterable[Inputs], *args: P.args, **kwargs: P.kwargs
        ) -> Op: ...

    class execute_endpoint(Generic[P, Op]):  # noqa: N801
        """`endpoint` of `execute`."""

        def __init__(self, build: Callable[Concatenate[Any, str, Inputs, P], Op]) -> None: ...
        @overload
        def __get__(self, resource: None, owner: Type[Any]) -> Builder[P, Op]: ...
        @overload
        def __get__(
            self: execute_endpoint[P, Operation[S, A]], resource: Resource[Sync], owner: Type[Any]
        ) -> Execute[P, S]: ...
        @overload
        def __get__(
            self: execute_endpoint[P, Operation[S, A]], resource: Resource[Async], owner: Type[Any]
        ) -> Execute[P, A]: ...
        def __get__(self, resource: Any, owner: Type[Any]) -> Any: ...

    class run_endpoint(Generic[P, Op]):  # noqa: N801
        """`endpoint` of `run`."""

        def __init__(self, build: Callable[Concatenate[Any, str, Inputs, P], Op]) -> None: ...
        @overload
        def __get__(self, resource: None, owner: Type[Any]) -> Builder[P, Op]: ...
        @overload
        def __get__(self, resource: Resource[Sync], owner: Type[Any]) -> Run[P]: ...
        @overload
        def __get__(self, resource: Resource[Async], owner: Type[Any]) -> AsyncRun[P]: ...
        def __get__(self, resource: Any, owner: Type[Any]) -> Any: ...

    class run_many_endpoint(Generic[P, Op]):  # noqa: N801
        """`iterating_endpoint` of `run_many`."""

        def __init__(
            self, build: Callable[Concatenate[Any, str, Iterable[Inputs], P], Op]
        ) -> None: ...
        @overload
        def __get__(self, resource: None, owner: Type[Any]) -> BatchBuilder[P, Op]: ...
        @overload
        def __get__(
            self: run_many_endpoint[P, Operation[S, A]], resource: Resource[Sync], owner: Type[Any]
        ) -> RunMany[P, S]: ...
        @overload
        def __get__(
            self: run_many_endpoint[P, Operation[S, A]],
            resource: Resource[Async],
            owner: Type[Any],
        ) -> RunMany[P, A]: ...
        def __get__(self, resource: Any, owner: Type[Any]) -> Any: ...
