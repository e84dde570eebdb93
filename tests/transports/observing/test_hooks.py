"""Hooks on both clients: when each is called, with what, and what happens when one raises."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import anyio
import pytest

from flowmaestro import (
    AsyncFlowMaestroClient,
    ConnectionError,
    FlowMaestroClient,
    Hooks,
    RequestInfo,
    ResponseInfo,
    RetryInfo,
    StreamTimes,
    TimeoutError,
)
from flowmaestro.testing import FakeFlowMaestro, ScriptedTransport
from flowmaestro_core.errors import CheckpointError
from flowmaestro_transports import Phase, Response, TransportClosedError, TransportFailure
from tests.harness.transports.player import KEY, KINDS, Player

ROOT = "https://api.flowmaestro.io/api/v1"
FOUND = Response(
    200, {"X-Request-ID": "req_head"}, b'{"data": {}, "meta": {"request_id": "req_1"}}'
)
BUSY_FOR_NOW = Response(503, {"Retry-After": "1"}, b'{"error": {"code": "busy"}}')
BUSY = Response(503, {"X-Request-ID": "req_head"}, b'{"error": {"code": "busy"}}')
ENDED = b'id: 1\nevent: execution:completed\ndata: {"outputs": {}}\n\n'


@pytest.fixture(params=KINDS)
def play(request):
    return Player(request.param)


def stream(body):
    return Response(200, {"Content-Type": "text/event-stream", "X-Request-ID": "req_s"}, body)


def noting():
    """Hooks that note in one list all that they are told."""
    seen = []
    return Hooks(request=seen.append, response=seen.append, retry=seen.append), seen


def test_the_hooks_of_a_call_get_its_request_and_response(play):
    hooks, seen = noting()
    play([FOUND], lambda client: client.workflows.get("wf_1"), hooks)
    asked = RequestInfo("GET", f"{ROOT}/workflows/wf_1", 1)
    assert seen == [asked, ResponseInfo(asked, 200, None, seen[1].seconds, "req_1")]
    assert seen[1].request is seen[0]
    assert 0 <= seen[1].seconds < 60


def test_the_rate_limit_of_a_reply(play):
    hooks, seen = noting()
    limited = Response(200, {"X-RateLimit-Remaining": "7", "X-RateLimit-Limit": "60"}, FOUND.body)
    play([limited], lambda client: client.workflows.get("wf_1"), hooks)
    assert (seen[1].rate_limit.remaining, seen[1].rate_limit.limit) == (7, 60)


def test_the_hooks_of_a_retry_get_both_attempts(play):
    hooks, seen = noting()
    lost = TransportFailure(Phase.NOT_SENT, "no route")
    play([BUSY, lost, FOUND], lambda client: client.workflows.get("wf_1"), hooks)
    first, second, third = (RequestInfo("GET", f"{ROOT}/workflows/wf_1", n) for n in (1, 2, 3))
    assert [one for one in seen if isinstance(one, RequestInfo)] == [first, second, third]
    answers = [(one.status, one.failure) for one in seen if isinstance(one, ResponseInfo)]
    assert answers == [(503, None), (None, Phase.NOT_SENT), (200, None)]
    one, two = (each for each in seen if isinstance(each, RetryInfo))
    assert one == RetryInfo(first, 503, "busy", one.delay, "req_head", reconnects=False)
    assert two == RetryInfo(
        second, Phase.NOT_SENT, "connection_error", two.delay, None, reconnects=False
    )
    assert list(map(type, seen)) == [RequestInfo, ResponseInfo, RetryInfo] * 2 + [
        RequestInfo,
        ResponseInfo,
    ]


def test_a_loss_after_a_poll_has_the_request_id_of_the_lost_stream(play):
    hooks, seen = noting()
    polled = b'event: connected\ndata: {"status": "completed"}\n\n'
    play(
        [stream(polled), FOUND, stream(ENDED)],
        lambda client: client.executions.stream("exec_1"),
        hooks,
        stream_times=StreamTimes(reconnect_base=0.001),
    )
    heads = [each.request_id for each in seen if isinstance(each, ResponseInfo)]
    assert heads == ["req_s", "req_1", "req_s"]
    (retry,) = (each for each in seen if isinstance(each, RetryInfo))
    opened = RequestInfo("GET", f"{ROOT}/executions/exec_1/events", 1)
    assert retry == RetryInfo(
        opened, Phase.REPLY_BROKEN, None, retry.delay, "req_s", reconnects=True
    )
    assert retry.request is seen[0]


def test_the_whole_pause_before_a_stream_is_made_anew_is_told_once(play):
    hooks, seen = noting()
    play(
        [stream(b"retry: 7000\n\n"), FOUND, stream(ENDED)],
        lambda client: client.executions.stream("exec_1"),
        hooks,
    )
    assert [each.delay for each in seen if isinstance(each, RetryInfo)] == [7.0]


def test_hooks_get_no_secrets(play):
    hooks, seen = noting()
    play(
        [BUSY, FOUND],
        lambda client: client.request("GET", "/x", params={"q": "hush"}),
        hooks,
        headers={"X-Token": "hush"},
    )
    assert "q=hush" in play.transport.requests[0].url
    assert "hush" not in repr(seen)
    assert KEY not in repr(seen)
    assert seen[0].url == f"{ROOT}/x?q=***"


def test_a_strict_hook_that_raises_about_a_failure_keeps_the_failure_as_its_context(play):
    def fails(info):
        raise ZeroDivisionError

    lost = TransportFailure(Phase.NOT_SENT, "no route")
    with pytest.raises(ZeroDivisionError) as caught:
        play([lost], lambda client: client.workflows.list(), Hooks(response=fails, strict=True))
    context = caught.value.__context__
    assert (type(context), str(context)) == (TransportFailure, "no route")


@pytest.mark.parametrize("name", ["request", "response", "retry"])
@pytest.mark.parametrize(
    "error",
    [
        TransportFailure(Phase.NOT_SENT, "of the hook"),
        TransportClosedError("of the hook"),
        CheckpointError("of the hook"),
        ZeroDivisionError("of the hook"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exception_of_a_strict_hook_is_never_taken_for_one_of_the_transport(play, name, error):
    """A request that the server has accepted would be sent again."""

    def fails(info):
        raise error

    hooks = Hooks(**{name: fails}, strict=True)
    started = Response(202, {}, b'{"data": {"execution_id": "exec_1"}}')
    world = {"request": [], "response": [started], "retry": [BUSY_FOR_NOW]}[name]
    with pytest.raises(type(error)) as caught:
        play(world, lambda client: client.workflows.execute("wf_1"), hooks)
    assert caught.value is error
    assert len(play.transport.requests) == len(world)


@pytest.mark.parametrize(
    "failure", [TransportFailure(Phase.NOT_SENT, "of the hook"), KeyboardInterrupt()], ids=repr
)
def test_exception_of_a_strict_hook_about_an_opening_is_raised_as_it_is(play, failure):
    def fails(info):
        raise failure

    with pytest.raises(type(failure)) as caught:
        play(
            [stream(ENDED)],
            lambda client: client.executions.stream("exec_1"),
            Hooks(response=fails, strict=True),
        )
    assert caught.value is failure
    assert len(play.transport.requests) == 1
    assert play.transport.open_bodies == 0


@pytest.mark.parametrize("name", ["request", "response", "retry"])
def test_a_hook_that_raises_changes_nothing_and_is_logged_and_counted(play, name, caplog):
    def fails(info):
        raise ZeroDivisionError(name)

    hooks = Hooks(**{name: fails})
    reply = play([BUSY, FOUND], lambda client: client.workflows.get("wf_1"), hooks)
    assert reply.attempts == 2
    logged = [each for each in caplog.records if each.levelname == "ERROR"]
    assert hooks.failures == len(logged) == (1 if name == "retry" else 2)
    assert {each.name for each in logged} == {"flowmaestro"}
    assert all(f"ZeroDivisionError: {name}" in each.getMessage() for each in logged)


def test_a_trace_that_cannot_be_made_changes_nothing_and_is_logged_and_counted(play, caplog):
    class Untraced(Hooks):
        def trace(self, operation, transport):
            raise ZeroDivisionError(operation)

    hooks = Untraced()
    assert play([FOUND], lambda client: client.workflows.get("wf_1"), hooks)
    assert hooks.failures == 1
    assert "ZeroDivisionError: " in caplog.text


def test_the_log_of_a_hook_that_raises_does_not_show_the_failure_beside_it(play, caplog):
    def fails(info):
        raise ZeroDivisionError

    lost = TransportFailure(Phase.NOT_SENT, f"cannot reach a host with {KEY}")
    hooks = Hooks(response=fails)
    play([lost, FOUND], lambda client: client.workflows.get("wf_1"), hooks)
    assert hooks.failures == 2
    assert KEY not in caplog.text


def test_an_interrupt_in_a_hook_ends_the_call(play):
    def fails(info):
        raise KeyboardInterrupt

    hooks = Hooks(request=fails)
    with pytest.raises(KeyboardInterrupt):
        play([], lambda client: client.workflows.list(), hooks)
    assert hooks.failures == 0


def test_a_request_hook_adds_header_fields_to_each_attempt_and_replaces_none(play):
    def add(info):
        return {"traceparent": f"00-{info.attempt}", "x-api-key": "other", "X-MINE": "other"}

    headers = {"X-Mine": "kept"}
    play([BUSY, FOUND], lambda client: client.workflows.get("wf_1"), Hooks(add), headers=headers)
    first, second = (request.headers for request in play.transport.requests)
    assert (first["traceparent"], second["traceparent"]) == ("00-1", "00-2")
    assert first.get_list("X-API-Key") == [KEY]
    assert first.get_list("x-mine") == ["kept"]


class Traced(Hooks):
    """Hooks whose trace adds to a request what `add` makes of it."""

    def __init__(self, add, **more):
        super().__init__(**more)
        made = SimpleNamespace(attempted=lambda *_: None, ended=lambda *_: None)
        made.attempting = lambda info, *_: add(info)
        vars(self)["made"] = made

    def trace(self, operation, transport):
        return vars(self)["made"]


@pytest.mark.parametrize("kind", [Hooks, Traced])
def test_request_with_added_header_fields_keeps_max_reply_size(play, kind):
    hooks = kind(lambda info: {"traceparent": "00-1"})
    play([FOUND], lambda client: client.workflows.get("wf_1"), hooks, max_reply_size=1000)
    (request,) = play.transport.requests
    assert (request.headers["traceparent"], request.max_reply_size) == ("00-1", 1000)


@pytest.mark.parametrize("kind", [Hooks, Traced])
@pytest.mark.parametrize(
    "added", [["a"], "b", 7, {"a b": "c"}, {"a": "b\r\nc"}, {"Content-Length": "1"}, {"Host": "h"}]
)
def test_added_value_that_is_not_header_fields_is_a_hook_failure(play, kind, added, caplog):
    hooks = kind(lambda info: added)
    play([FOUND], lambda client: client.workflows.get("wf_1"), hooks)
    assert hooks.failures == 1
    assert "header" in caplog.text
    strict = kind(lambda info: added, strict=True)
    with pytest.raises((TypeError, ValueError), match="header"):
        play([], lambda client: client.workflows.get("wf_1"), strict)


def test_the_operation_the_route_and_the_execution_are_told(play):
    hooks, seen = noting()
    started = Response(200, {}, b'{"data": {"execution_id": "exec_1"}}')
    play([started, stream(ENDED), FOUND], lambda client: client.workflows.run("wf 1"), hooks)
    asked = [each for each in seen if isinstance(each, RequestInfo)]
    assert {each.operation for each in asked} == {"workflows.run"}
    assert [(each.route, each.workflow_id, each.execution_id) for each in asked] == [
        ("/workflows/{workflow_id}/execute", "wf 1", None),
        ("/executions/{execution_id}/events", None, "exec_1"),
        ("/executions/{execution_id}", None, "exec_1"),
    ]
    assert len({each.call_id for each in asked}) == 3


@pytest.mark.parametrize(
    ("do", "operation", "route"),
    [
        (
            lambda client: client.threads.list_messages("th_1"),
            "threads.list_messages",
            "/threads/{thread_id}/messages",
        ),
        (
            lambda client: client.knowledge_bases.list(),
            "knowledge_bases.list",
            "/knowledge-bases",
        ),
        (lambda client: client.request("GET", "/workflows/wf_1"), "request", None),
    ],
)
def test_operations_and_routes_have_no_ids_in_them(play, do, operation, route):
    hooks, seen = noting()
    play([Response(200, {}, b'{"data": []}')], do, dataclasses.replace(hooks, retry=None))
    assert (seen[0].operation, seen[0].route) == (operation, route)


def test_the_attempts_of_a_call_share_its_id_and_two_calls_do_not(play):
    hooks, seen = noting()
    moved = Response(302, {"Location": "/api/v1/workflows/wf_2"}, b"")

    def do(client):
        return client.workflows.get("wf_1")

    play([BUSY, moved, FOUND], do, hooks)
    play([FOUND], do, hooks)
    ids = [each.call_id for each in seen if isinstance(each, RequestInfo)]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert all(ids)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_hooks_of_an_awaiting_client_may_be_coroutine_functions(backend):
    seen = []

    async def note(info):
        await anyio.lowlevel.checkpoint()
        seen.append(type(info))

    world = [BUSY, FOUND]
    Player(backend)(world, lambda client: client.workflows.get("wf_1"), Hooks(note, note, note))
    assert seen == [RequestInfo, ResponseInfo, RetryInfo, RequestInfo, ResponseInfo]


async def coroutine_function(info):
    raise AssertionError("never called")


class Awaitable:
    def __init__(self, info):
        pass

    def __await__(self):
        raise AssertionError("never called")


@pytest.mark.parametrize("name", ["request", "response", "retry"])
def test_a_blocking_client_refuses_coroutine_functions(name):
    with pytest.raises(TypeError, match=rf"hooks\.{name}"):
        FlowMaestroClient(KEY, hooks=Hooks(**{name: coroutine_function}))


@pytest.mark.parametrize("name", ["request", "response", "retry"])
def test_a_blocking_client_refuses_what_only_turns_out_to_be_awaitable(name):
    hooks = Hooks(**{name: lambda info: coroutine_function(info)}, strict=True)
    replies = {"request": [], "response": [FOUND], "retry": [BUSY]}[name]
    client = FlowMaestroClient(KEY, transport=ScriptedTransport(replies), hooks=hooks)
    with client, pytest.raises(TypeError, match="cannot await what a hook returned"):
        client.workflows.get("wf_1")


def test_other_callbacks_of_a_blocking_client_may_not_return_awaitables_either():
    fake = FakeFlowMaestro()
    with FlowMaestroClient(fake.api_key, transport=fake.transport()) as client:
        with pytest.raises(TypeError, match="cannot await what the callback returned"):
            client.workflows.run("wf_123", on_event=lambda event: coroutine_function(event))
        with pytest.raises(TypeError, match="cannot await what the callback returned"):
            client.workflows.run("wf_123", on_event=Awaitable)


@pytest.mark.parametrize("client", [FlowMaestroClient, AsyncFlowMaestroClient])
def test_hooks_of_another_type_are_refused(client):
    with pytest.raises(TypeError, match="hooks must be a Hooks, not dict"):
        client(KEY, hooks={"request": print})
    with pytest.raises(TypeError, match=r"hooks\.retry must be a function, not str"):
        Hooks(retry="print")
    with pytest.raises(TypeError, match=r"hooks\.strict must be a bool"):
        Hooks(strict=1)


def test_a_derived_client_has_the_hooks_of_its_parent(play):
    hooks, seen = noting()
    play(
        [FOUND],
        lambda client: (
            client.with_options(timeout=5).with_options(max_retries=0).workflows.get("w")
        ),
        hooks,
    )
    assert list(map(type, seen)) == [RequestInfo, ResponseInfo]


def test_a_last_failure_is_told_and_no_retry(play):
    hooks, seen = noting()
    lost = TransportFailure(Phase.MAYBE_PROCESSED, "cut")
    with pytest.raises(ConnectionError):
        play([lost], lambda client: client.workflows.execute("wf_1"), hooks)
    assert list(map(type, seen)) == [RequestInfo, ResponseInfo]


ASKED = RequestInfo("GET", f"{ROOT}/workflows/wf_1", 1)


@pytest.mark.parametrize(
    "info",
    [
        ASKED,
        ResponseInfo(ASKED, 200, None, 0.1, "req_1"),
        RetryInfo(ASKED, 503, "busy", 0.5, "req_1", reconnects=False),
    ],
    ids=lambda info: type(info).__name__,
)
def test_the_arguments_of_hooks_are_immutable(info):
    for field in dataclasses.fields(info):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(info, field.name, "other")


class TestAHookThatWaits:
    """A hook may wait for a rate limit, in virtual time here."""

    def test_its_time_counts_for_the_call(self):
        fake = FakeFlowMaestro()
        transport = fake.transport()
        hooks = Hooks(request=lambda info: transport.sleep(40.0), strict=True)
        with FlowMaestroClient(
            fake.api_key, transport=transport, hooks=hooks, call_timeout=30.0
        ) as client:
            with pytest.raises(TimeoutError, match=r"request hook waited .* \(not sent\)"):
                client.workflows.execute("wf_123")
            assert fake.requests == []

    @pytest.mark.parametrize(
        ("options", "waited", "left"),
        [({"call_timeout": 15.0}, 12.0, 3.0), ({"timeout": 10.0}, 40.0, 10.0)],
        ids=["of the call", "of the attempt"],
    )
    def test_its_time_counts_for_the_call_and_not_for_the_attempt(self, options, waited, left):
        given = []

        class Noting(ScriptedTransport):
            def send(self, request, timeout):
                given.append(timeout)
                return super().send(request, timeout)

        transport = Noting([FOUND])
        hooks = Hooks(request=lambda info: transport.sleep(waited))
        client = FlowMaestroClient(KEY, transport=transport, hooks=hooks, **options)
        client.workflows.get("wf_1")
        assert given == [left]
