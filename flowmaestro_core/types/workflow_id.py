"""`WorkflowId`: the id of a workflow, with the types of its inputs and outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Generic, TypeVar

__all__ = ["WorkflowId"]

InputsT = TypeVar("InputsT")
if TYPE_CHECKING:
    # Type checkers know this module, installed or not; at run time, no default is needed.
    from typing_extensions import TypeVar as TypeVarWithDefault

    OutputsT = TypeVarWithDefault("OutputsT", default=Dict[str, Any])
else:
    OutputsT = TypeVar("OutputsT")


class WorkflowId(str, Generic[InputsT, OutputsT]):
    """The id of a workflow: a `str` that also tells type checkers its inputs and outputs.

    The first type parameter is the type of the inputs, usually a `TypedDict`; the second is the
    type of the outputs of a completed run, by default `Dict[str, Any]`. A call that starts the
    workflow then accepts no other inputs: type checkers report a missing key, an unknown key and a
    value of another type. Nothing is checked at run time.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        # Not so at run time. It tells type checkers apart an id with types and any other text.
        isidentifier: None  # type: ignore[assignment]
    else:

        def __class_getitem__(cls, types: Any) -> Any:
            """Return the class itself, for one type and for two."""
            return cls
