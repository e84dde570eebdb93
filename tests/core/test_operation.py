from __future__ import annotations

import inspect
from typing import Any, AsyncIterator, Callable, Coroutine, Iterator, List, Tuple, TypeVar

import pytest

from flowmaestro_core.calls.call import Call
from flowmaestro_core.context import Context
from flowmaestro_core.errors import RateLimitError
from flowmaestro_core.executions.operation import Batch, Run
from flowmaestro_core.executions.outcome import RunOutcome
from flowmaestro_core.operation import (
    Operation,
    Resource,
    Sync,
    endpoint,
    iterating_endpoint,
    outcomes,
)
from flowmaestro_core.options import ClientOptions
from flowmaestro_core.resources import Workflows

T = TypeVar("T")


class Things(Resource[Any]):
    """Things."""

    @endpoint
    def get(self, thing_id: str, *, deep: bool = False) -> Call[Any]:
        """Get one thing."""
        return Call("GET", f"/things/{thing_id}/{deep}")

    @iterating_endpoint
    def iterate(self) -> Call[Any]:
        """All things."""
        return Call("GET", "/things")


class Recorder:
    """An executor whose methods give back what was built, and note how often one was made."""

    def __init__(self) -> None:
        self.made: List[Tuple[str, bool]] = []

    def method(self, build: Callable[..., Any], iterates: bool) -> Callable[..., Any]:
        self.made.append((build.__name__, iterates))

        def perform(resource: Resource[Any], *args: Any, **kwargs: Any) -> Any:
            return resource, build(resource, *args, **kwargs)

        return perform


class Another(Recorder):
    """Another kind of executor."""


def test_read_from_the_class_it_is_the_pure_builder() -> None:
    assert Things.get("t", deep=True) == Call("GET", "/things/t/True")
    assert Things.iterate() == Call("GET", "/things")
    assert list(inspect.signature(Things.get).parameters) == ["thing_id", "deep"]
    assert Things.get.__doc__ == "Get one thing."
    assert vars(Things)["get"].__doc__ == "Get one thing."


def test_read_from_a_resource_it_is_the_performers_method() -> None:
    recorder = Recorder()
    things = Things(recorder)
    assert things.get("t") == (things, Call("GET", "/things/t/False"))
    assert things.iterate() == (things, Call("GET", "/things"))
    assert recorder.made == [("get", False), ("iterate", True)]


def test_a_method_is_made_once_for_each_kind_of_performer() -> None:
    class Fresh(Resource[Sync]):
        @endpoint
        def get(self) -> Call[Any]:
            """Get."""
            return Call("GET", "/")

    first, second, other = Recorder(), Recorder(), Another()
    Fresh(first).get()
    Fresh(first).get()
    resource = Fresh(second)
    assert resource.get()[0] is resource  # type: ignore[index, call-overload]
    Fresh(other).get()
    assert (len(first.made), len(second.made), len(other.made)) == (1, 0, 1)


class Text(Operation[str, Coroutine[Any, Any, str]]):
    """One text."""


class Items(Operation[Iterator[T], AsyncIterator[T]]):
    """All items."""


def text(self: object) -> Text:
    raise NotImplementedError


def numbers(self: object) -> Items[int]:
    raise NotImplementedError


def silent(self):  # type: ignore[no-untyped-def]
    raise NotImplementedError


def unresolved(self: object) -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
    raise NotImplementedError


def bare(self: object) -> Operation[int, int]:
    raise NotImplementedError


def test_outcomes_follow_from_return_annotation() -> None:
    assert outcomes(text) == (str, str)
    assert outcomes(numbers) == (Iterator[int], AsyncIterator[int])
    assert outcomes(Things.get) == (Any, Any)


@pytest.mark.parametrize("build", [silent, unresolved, bare])
def test_a_builder_whose_annotation_tells_nothing(build: Callable[..., Any]) -> None:
    assert outcomes(build) == (Any, Any)


def test_a_context_follows_its_options_and_shares_its_budget() -> None:
    context = Context(ClientOptions("fm_live_0123456789", max_retries=7))
    derived = context.with_options(context.options.with_changes(max_retries=1))
    assert derived.options.max_retries == 1
    assert derived.budget is context.budget
    assert context.options.max_retries == 7


def test_contexts_share_a_pace_if_they_have_the_same_key() -> None:
    context = Context(ClientOptions("fm_live_0123456789"))
    assert context.with_options(context.options.with_changes(max_retries=1)).pace is context.pace
    other = context.options.with_changes(api_key="fm_live_9876543210")
    assert context.with_options(other).pace is not context.pace


def test_a_context_with_another_key_redacts_both_keys() -> None:
    context = Context(ClientOptions("fm_live_old456789"), secrets=lambda: ("proxy-password",))
    other = context.options.with_changes(api_key="fm_live_new456789")
    derived = context.with_options(other)
    assert derived.options.api_key == "fm_live_new456789"
    again = derived.with_options(derived.options.with_changes(max_retries=1))
    for each in (derived, again):
        text = "fm_live_old456789 fm_live_new456789 proxy-password"
        assert each.scrubber.text(text) == "*** *** ***"
        assert "fm_live_" not in repr(each)
    assert context.scrubber.text("fm_live_old456789 fm_live_new456789").endswith("new456789")
    # A program that rotates between two keys does not keep one more key each time.
    assert derived.with_options(context.options).with_options(other).former_keys == (
        "fm_live_old456789",
        "fm_live_new456789",
    )


def test_context_redacts_the_keys_of_a_long_chain() -> None:
    context = Context(ClientOptions("fm_live_0"))
    for number in range(1, 1100):
        options = context.options.with_changes(api_key=f"fm_live_{number}")
        context = context.with_options(options)
    keys = {f"fm_live_{number}" for number in range(1100)}
    assert keys <= set(context.scrubber.secrets)


def test_every_client_has_a_budget_of_its_own() -> None:
    options = ClientOptions("fm_live_0123456789")
    assert Context(options).budget is not Context(options).budget


def test_stream_times_are_stream_times() -> None:
    with pytest.raises(TypeError, match="stream_times must be a StreamTimes, not int"):
        Context(ClientOptions(api_key="key"), stream_times=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Run, Batch])
def test_operations_that_hold_functions_have_no_generated_methods(kind: Any) -> None:
    """Generating them would cost each program a millisecond at its start."""
    assert (kind.__eq__, kind.__repr__) == (object.__eq__, object.__repr__)


def test_a_resource_names_its_methods_at_a_prompt() -> None:
    executor: Any = None
    assert repr(Workflows(executor)) == ("<Workflows: execute, get, iterate, list, run, run_many>")


def test_an_outcome_tells_its_place_and_what_became_of_it() -> None:
    ended: Any = {"status": "failed", "outputs": None}
    outcomes = [
        RunOutcome(0, execution_id="ex_1"),
        RunOutcome(1, execution_id="ex_2", execution=ended, replayed=True),
        RunOutcome(2, error=RateLimitError("Later")),
    ]
    assert [repr(outcome) for outcome in outcomes] == [
        "<RunOutcome 0: ex_1 running>",
        "<RunOutcome 1: ex_2 failed, replayed>",
        "<RunOutcome 2: RateLimitError>",
    ]
