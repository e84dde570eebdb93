"""Whatever a server says, a caller gets a result or an error of ours, and nothing else.

Every endpoint reads replies with each wrong value under each name that the core reads. `Stepper`
checks each step. Damaged replies of the whole API are fed by `tests/fuzz`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import json
from typing import Any, Callable, Iterator, List, Tuple

import pytest

import flowmaestro_core.resources
from flowmaestro_core.actions import EVENTS, Emit, Send, Wait
from flowmaestro_core.calls.call import Call
from flowmaestro_core.calls.raw import raw_call
from flowmaestro_core.errors import FlowMaestroError
from flowmaestro_core.http.messages import Headers, Response
from flowmaestro_core.machines import machine_for
from flowmaestro_core.operation import Operation
from flowmaestro_core.payloads.reply import error_from_response, is_daily_quota_error
from flowmaestro_core.streams.events import event_from_sse
from flowmaestro_core.streams.sse import ServerSentEvent
from tests.harness.core.stepping import Report, Stepper, a_context

NAMES = """
    data meta request_id pagination page per_page total_count total_pages has_next has_more
    messages message id message_id thread_id execution_id status outputs error code details
    window retry_after statusCode success error_message inputs input_schema label description
    type required results similarity score chunk_id trigger_type usage total_tokens role content
    created_at completed_at secret deleted token executionId output progress
    """.split()  # noqa: SIM905 - fifty strings are easier to read so
"""The keys that the core reads."""

WORDS = """
    completed running failed cancelled pending processing assistant user day minute
    execution:completed message:completed message:token connected wf_1 exec_1
    """.split()  # noqa: SIM905
"""Texts that mean something to the core."""


def endpoints() -> Iterator[Any]:
    """Every method of every resource, as a function that builds its operation."""
    arguments = {
        "events": ["execution.completed"],
        "execution_ids": ["exec_1", "exec_2"],
        "inputs": [{}, {}],
        "url": "https://example.com",
    }
    for each in flowmaestro_core.resources.__all__:
        resource = getattr(flowmaestro_core.resources, each)
        for name in vars(resource):
            if name.startswith("_"):
                continue
            build = getattr(resource, name)
            required = {
                parameter.name: arguments.get(parameter.name, "x")
                for parameter in inspect.signature(build).parameters.values()
                if parameter.default is parameter.empty
            }
            yield pytest.param(lambda b=build, g=required: b(**g), id=f"{resource.__name__}.{name}")
    yield pytest.param(lambda: raw_call("GET", "/x", None, None), id="request")


WRONG = [None, True, -1, 10**400, float("inf"), "", "\ud800", [1], [{}], {}, {"x": 1}]

PLACES: Tuple[Callable[[Any], Any], ...] = (
    lambda wrong: wrong,
    lambda wrong: {"data": wrong},
    lambda wrong: {"data": [wrong, {}]},
    lambda wrong: {"data": {"message": wrong}},
    lambda wrong: {"data": {"messages": [wrong]}},
    lambda wrong: {"data": {"usage": wrong}},
    lambda wrong: {"data": {"inputs": {"name": wrong}}},
    lambda wrong: {"data": {"results": [wrong]}},
    lambda wrong: {"data": [{"inputs": {"name": wrong}}]},
    lambda wrong: {"data": {}, "meta": wrong},
    lambda wrong: {"data": [], "pagination": wrong},
    lambda wrong: {"error": wrong},
)


def details(wrong: Any) -> Any:
    return {"error": {"details": wrong}}


def functions_of(shape: Any) -> Tuple[Any, ...]:
    """The functions that a shape is made of, without what they are given."""
    if not isinstance(shape, functools.partial):
        return (shape,)
    inner = [part for part in shape.args if isinstance(part, functools.partial)]
    return (shape.func, *map(functions_of, inner))


def reader(call: Any) -> Any:
    """The code that reads the reply to a call; of calls that share it, one is tried."""
    return type(call), functions_of(call.shape), call.data_type


CALLS = [each for each in endpoints() if isinstance(each.values[0](), Call)]
READERS = list({reader(each.values[0]()): each for each in CALLS}.values())
OTHERS = [
    each
    for each in endpoints()
    if not isinstance(each.values[0](), Call)
    and (".iterate" not in each.id or each.id in ("Executions.iterate", "Workflows.iterate"))
]
"""One machine walks through all pages; of executions it goes on where others end."""


@functools.cache
def all_wrong(*places: Callable[[Any], Any]) -> List[bytes]:
    """Bodies with each wrong value, in each place and there under each name, eight at a time."""
    some = [NAMES[at : at + 8] for at in range(0, len(NAMES), 8)]
    return [
        json.dumps(place(value)).encode()
        for place, first in itertools.product(places, range(len(WRONG)))
        for value in (WRONG[first], *(dict(zip(names, wrong_from(first))) for names in some))
    ]


def wrong_from(first: int) -> List[Any]:
    return WRONG[first:] + WRONG[:first]


@pytest.mark.no_cover
@pytest.mark.parametrize("build", READERS)
def test_call_survives_a_wrong_value_under_each_key(build: Callable[[], Call[Any]]) -> None:
    call = build()
    for body in all_wrong(*PLACES):
        with contextlib.suppress(FlowMaestroError):
            call.reply(Response(200, Headers(), body))


@pytest.mark.no_cover
@pytest.mark.parametrize("build", OTHERS)
def test_machine_survives_a_wrong_value_under_each_key(
    build: Callable[[], Operation[Any, Any]],
) -> None:
    for body in all_wrong(*PLACES[1:3]):
        stepper = Stepper(machine_for(build(), a_context(), "token"))
        action = stepper.start()
        for _ in range(3):
            if isinstance(action, Send):
                action = stepper.report(
                    Report("response_received", (Response(200, Headers(), body),))
                )
            elif isinstance(action, (Emit, Wait)):
                action = stepper.report(Report(EVENTS[type(action)][0]))


@pytest.mark.parametrize("status", [400, 404, 408, 429, 500, 503, 999])
def test_error_body_survives_a_wrong_value_under_each_key(status: int) -> None:
    for body in all_wrong(PLACES[0], PLACES[-1], details):
        error = error_from_response(Response(status, Headers(), body))
        assert isinstance(error, FlowMaestroError)
        assert str(error)
        is_daily_quota_error(error)


def test_event_survives_a_wrong_value_under_each_key() -> None:
    for kind in ("message", *WORDS):
        for wrong in WRONG:
            for data in (wrong, *({name: wrong} for name in NAMES)):
                item = event_from_sse(ServerSentEvent(kind, json.dumps(data)))
                assert isinstance(item["type"], str)
