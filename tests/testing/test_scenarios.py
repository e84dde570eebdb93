"""A thousand scenarios: what a user's application may go through, in memory and in virtual time.

Each is a script and what must come of it, on a blocking client, on asyncio and on trio, against
both descriptions of the API. None looks up an address, touches a socket, sleeps or sets a timer,
and every script must be used.
"""

from __future__ import annotations

import itertools
import time

import pytest
from one_face import LANES, World
from stillness import SocketWatch, watch_timers

from flowmaestro import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    ConnectionError,
    FlowMaestroError,
    InsufficientCreditsError,
    NotFoundError,
    RateLimitError,
    ServerError,
    StreamError,
    TimeoutError,
    ValidationError,
    webhooks,
)
from flowmaestro.testing import FakeFlowMaestro, Node, seeds

CPU_SECONDS = 10.0
"""What a thousand of them may take; twice that where a test looks, which may be traced."""
SHAPES = ("deployed", "documented")
OF_THE_FAKE = ("events", "messages")
"""What a scenario says of the fake itself."""
ENDS = ("completed", "failed", "raises", "cancelled")
CASES = []


def scenario(**axes):
    """A scenario for each combination of what its parameters may be."""

    def register(act):
        for values in itertools.product(*axes.values()):
            name = "-".join([act.__name__, *(str(value) for value in values)])
            CASES.append(pytest.param(act, dict(zip(axes, values)), id=name.replace("_", "-")))
        return act

    return register


@pytest.fixture(scope="module", autouse=True)
def still():
    """Nobody sleeps, sets a timer or uses the network, and it is done in good time."""
    began, sockets = time.process_time(), SocketWatch()
    with pytest.MonkeyPatch.context() as patch:
        timers = watch_timers(patch)
        yield
    sockets.stop()
    assert (timers, sockets.uses) == ([], [])
    thousands = len(CASES) * len(LANES) * len(SHAPES) / 1000
    assert time.process_time() - began < 2 * CPU_SECONDS * thousands


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize(("act", "given"), CASES)
def test_scenario(act, given, shapes, lane):
    arranged = {name: given[name] for name in OF_THE_FAKE if name in given}
    with FakeFlowMaestro(shapes, strict=True, **arranged) as fake:
        World(fake, lane).run(act, **given)


def test_there_are_a_thousand():
    assert len(CASES) * len(LANES) * len(SHAPES) >= 1000


@pytest.mark.parametrize("lane", LANES)
def test_a_scenario_can_fail(lane):
    async def wrong(world):
        assert (await world.client().workflows.run("wf_123"))["status"] == "failed"

    with pytest.raises(AssertionError):
        World(FakeFlowMaestro(), lane).run(wrong)


# What scenarios are made of.


async def everything(iterator):
    return [item async for item in iterator]


def method(client, call):
    """The method that is called so, such as `workflows.get`."""
    resource, _, name = call.partition(".")
    return getattr(getattr(client, resource), name)


IDS = {
    "workflows": "wf_123",
    "executions": "exec_xyz789",
    "triggers": seeds.ENABLED_TRIGGER_ID,
    "webhooks": "wh_abc123",
}


async def one_call(client, call):
    """A call about something that the fake came with."""
    if call == "threads.send_message":
        return await client.threads.send_message("thread_xyz789", "Hi")
    return await method(client, call)(IDS[call.partition(".")[0]])


def a_workflow(fake, end, seconds=2.0):
    """A workflow of two nodes that takes `seconds` and ends like that, unless it is cancelled."""

    def outputs(inputs):
        if end == "raises":
            raise KeyError("rate")
        return {"doubled": 2 * inputs["n"]}

    nodes = [Node("fetch", seconds=seconds / 2), Node("write", seconds=seconds / 2)]
    ending = {"fails_at": "write", "error": "Broke"} if end == "failed" else {"outputs": outputs}
    return fake.workflow("wf_mine", nodes=nodes, **ending)


def cancel_later(fake, seconds):
    """Have somebody else cancel what runs then."""
    from flowmaestro import FlowMaestroClient

    def cancel():
        client = FlowMaestroClient(fake.api_key, transport=fake.transport())
        client.executions.cancel(fake.executions[-1].id)

    fake.clock.call_later(seconds, cancel)


def check_end(execution, end):
    """The execution says how it ended, whatever it is asked by."""
    assert execution["status"] == ("failed" if end == "raises" else end)
    assert execution["outputs"] == ({"doubled": 42} if end == "completed" else None)
    error = {"failed": "Broke", "raises": "KeyError: 'rate'"}.get(end)
    assert execution["error"] == error


def statuses(fake, path=None):
    return [request.status for request in fake.requests if path in (None, request.path)]


# Executing, waiting and streaming.


@scenario(end=ENDS, seconds=[0.4, 4.0, 60.0], poll_interval=[1.0, 10.0])
async def an_execution_is_waited_for(world, end, seconds, poll_interval):
    fake, client = world.fake, world.client()
    started = await client.workflows.execute(a_workflow(fake, end, seconds), inputs={"n": 21})
    if end == "cancelled":
        cancel_later(fake, seconds / 2)
    execution = await client.executions.wait_for_completion(
        started["data"]["execution_id"], poll_interval=poll_interval, timeout=1000.0
    )
    check_end(execution, end)
    (seen,) = fake.executions
    assert -1e-6 <= fake.clock.now - seen.completed_at <= poll_interval
    assert len(fake.requests) <= 16 + seconds / poll_interval
    fake.assert_executed("wf_mine", inputs={"n": 21}, times=1)


@scenario(stop=["hangs_at", "pauses_at"], timeout=[0.5, 5.0, 60.0], by=["run", "wait"])
async def an_execution_does_not_end_in_time(world, stop, timeout, by):
    fake, client = world.fake, world.client()
    fake.workflow("wf_mine", nodes=["draft", "approve"], **{stop: "approve"})
    if by == "run":
        call = client.workflows.run
        wanted = "wf_mine"
    else:
        call = client.executions.wait_for_completion
        wanted = (await client.workflows.execute("wf_mine"))["data"]["execution_id"]
    with pytest.raises(TimeoutError):
        await call(wanted, timeout=timeout)
    assert timeout <= fake.clock.now <= timeout + 1
    assert fake.executions[-1].status in ("pending", "running", "paused")
    assert not fake.open_streams


@scenario(end=ENDS, events=["live", "silent"])
async def an_execution_is_streamed(world, end, events):
    fake, client = world.fake, world.client()
    started = await client.workflows.execute(a_workflow(fake, end), inputs={"n": 21})
    if end == "cancelled":
        cancel_later(fake, 1.5)
    seen = await everything(client.executions.stream(started["data"]["execution_id"]))
    assert seen[0]["type"] == "connected"
    assert seen[-1]["type"] == f"execution:{'failed' if end == 'raises' else end}"
    nodes = [event["node_id"] for event in seen if event["type"] == "node:started"]
    assert nodes == (["fetch", "write"] if events == "live" else [])
    check_end(fake.executions[-1].__dict__, end)


@scenario(events=["live", "silent"], end=ENDS, listened=[True, False])
async def a_workflow_is_run(world, events, end, listened):
    fake, client, heard = world.fake, world.client(), []
    if end == "cancelled":
        cancel_later(fake, 1.5)
    workflow = a_workflow(fake, end)
    options = {"on_event": heard.append} if listened else {}
    check_end(await client.workflows.run(workflow, {"n": 21}, **options), end)
    if listened:
        assert heard[-1]["type"] == f"execution:{'failed' if end == 'raises' else end}"
        assert ("node:started" in [event["type"] for event in heard]) is (events == "live")
    fake.assert_executed(workflow, inputs={"n": 21}, times=1)


@scenario(end=["completed", "failed"], after_events=[0, 1, 3], times=[1, 2])
async def a_stream_is_lost(world, end, after_events, times):
    fake, client = world.fake, world.client()
    started = await client.workflows.execute(a_workflow(fake, end, 60.0), inputs={"n": 21})
    fake.drop_connection(after_events, times=times)
    events = await everything(client.executions.stream(started["data"]["execution_id"]))
    names = [event["type"] for event in events]
    assert names[-1] == f"execution:{end}"
    assert [name for name in names if name in ("execution:completed", "execution:failed")] == [
        names[-1]
    ]
    assert "stream:reconnected" in names or after_events == 0


@scenario(count=[1, 3, 10], concurrency=[1, 2, 8])
async def a_workflow_is_run_many_times(world, count, concurrency):
    fake, client, tally = world.fake, world.client(), []
    fake.workflow("wf_mine", outputs=lambda inputs: {"square": inputs["n"] ** 2})
    inputs = [{"n": number} for number in range(count)]
    executions = await everything(
        client.workflows.run_many(
            "wf_mine", inputs, concurrency=concurrency, progress=lambda *it: tally.append(it)
        )
    )
    assert sorted(it["outputs"]["square"] for it in executions) == [n**2 for n in range(count)]
    assert tally[-1] == (count, count)
    fake.assert_executed("wf_mine", times=count)


@scenario(seconds=[[1], [5, 1], [30, 1, 90]])
async def many_are_waited_for(world, seconds):
    fake, client, ids = world.fake, world.client(), {}
    for each in seconds:
        workflow = fake.workflow(nodes=[Node("work", seconds=each)], outputs={})
        ids[(await client.workflows.execute(workflow))["data"]["execution_id"]] = each
    ended = await everything(client.executions.wait_many(list(ids), timeout=1000))
    assert [ids[it["id"]] for it in ended] == sorted(seconds)
    assert {it["status"] for it in ended} == {"completed"}


@scenario(state=["running", "ended"], lost=[False, True])
async def an_execution_is_cancelled(world, state, lost):
    fake, client = world.fake, world.client()
    started = await client.workflows.execute(a_workflow(fake, "completed"), inputs={"n": 1})
    run = started["data"]["execution_id"]
    fake.clock.advance(1.0 if state == "running" else 10.0)
    if lost:
        fake.drop_connection(path="/executions/*/cancel")
    if state == "running":
        assert (await client.executions.cancel(run))["data"]["status"] == "cancelled"
    else:
        with pytest.raises(ValidationError):
            await client.executions.cancel(run)
    check = fake.executions[-1]
    assert check.status == ("cancelled" if state == "running" else "completed")


# Failing and trying again.


@scenario(status=[429, 500, 502, 503, 504], times=[1, 3], retry_after=[None, 7.0])
async def a_read_is_tried_again(world, status, times, retry_after):
    fake, client = world.fake, world.client()
    fake.fail_next(times, status, retry_after=retry_after)
    reply = await client.workflows.get("wf_123")
    assert reply["data"]["id"] == "wf_123"
    assert statuses(fake) == [status] * times + [200]
    assert fake.clock.now >= times * (retry_after or 0)
    assert fake.clock.now <= times * max(8.0, retry_after or 0)


@scenario(status=[429, 500, 502, 503, 504], max_retries=[0, 2])
async def a_read_is_given_up(world, status, max_retries):
    fake, client = world.fake, world.client(max_retries=max_retries)
    fake.fail_next(max_retries + 1, status, path="/executions/*")
    with pytest.raises(RateLimitError if status == 429 else ServerError) as caught:
        await client.executions.get("exec_xyz789")
    assert caught.value.status_code == status
    assert len(caught.value.attempts) == max_retries + 1
    assert statuses(fake) == [status] * (max_retries + 1)


REFUSALS = {
    400: ValidationError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: AuthorizationError,
    404: NotFoundError,
    409: ConflictError,
    422: ValidationError,
    501: ServerError,
}


@scenario(status=REFUSALS, by=["get", "execute"])
async def what_no_retry_mends_is_told_at_once(world, status, by):
    fake, client = world.fake, world.client()
    fake.fail_next(1, status)
    with pytest.raises(REFUSALS[status]) as caught:
        await getattr(client.workflows, by)("wf_123")
    assert isinstance(caught.value, FlowMaestroError)
    assert (statuses(fake), fake.clock.now, fake.executions) == ([status], 0.0, [])


ACTS = ["workflows.execute", "triggers.execute", "threads.send_message"]


@scenario(status=[500, 502, 503, 504, "lost"], call=ACTS)
async def what_may_have_been_done_is_not_done_twice(world, status, call):
    fake, client = world.fake, world.client()
    if status == "lost":
        fake.drop_connection(method="POST")
    else:
        fake.fail_next(1, status, method="POST")
    with pytest.raises(ConnectionError if status == "lost" else ServerError):
        await one_call(client, call)
    fake.assert_called(times=1)
    done = status == "lost" and call != "threads.send_message"
    fake.assert_executed("wf_123", times=int(done))


@scenario(status=[429, 503], times=[1, 2], call=ACTS)
async def what_was_surely_not_done_is_tried_again(world, status, times, call):
    fake, client = world.fake, world.client()
    fake.fail_next(times, status, retry_after=3.0, method="POST")
    assert (await one_call(client, call))["data"]
    fake.assert_executed("wf_123", times=int(call != "threads.send_message"))
    keys = {request.headers["idempotency-key"] for request in fake.requests}
    assert (len(keys), len(fake.requests)) == (1, times + 1)
    assert fake.clock.now >= times * 3


@scenario(times=[1, 2, 3, 4])
async def connections_are_lost(world, times):
    fake, client = world.fake, world.client()
    fake.drop_connection(times=times)
    if times < 4:
        assert (await client.agents.get("agent_abc123"))["data"]["name"] == "Support"
    else:
        with pytest.raises(ConnectionError):
            await client.agents.get("agent_abc123")
    assert statuses(fake) == [None] * times + [200] * (times < 4)


@scenario(latency=[0.2, 2.0, 31.0], timeout=[1.0, 30.0], by=["get", "execute"])
async def replies_are_slow(world, latency, timeout, by):
    fake, client = world.fake, world.client(timeout=timeout)
    fake.latency(latency)
    call = getattr(client.workflows, by)
    if latency < timeout:
        await call("wf_123")
        assert fake.clock.now == pytest.approx(latency)
    else:
        with pytest.raises(TimeoutError):
            await call("wf_123")
        assert fake.clock.now >= timeout
    tried = 1 if by == "execute" or latency < timeout else 4
    fake.assert_called(times=tried)


@scenario(per_minute=[5, 10, 20], calls=[12, 30])
async def a_minute_s_limit_is_kept_to(world, per_minute, calls):
    fake, client = world.fake, world.client()
    fake.rate_limit(per_minute=per_minute)
    for _ in range(calls):
        await client.workflows.get("wf_123")
    windows = (calls - 1) // per_minute
    assert 60 * windows <= fake.clock.now <= 60 * windows + 20
    assert statuses(fake).count(200) == calls


@scenario(per_day=[1, 3])
async def a_day_s_limit_is_told_of_at_once(world, per_day):
    fake, client = world.fake, world.client()
    fake.rate_limit(per_day=per_day)
    for _ in range(per_day):
        await client.workflows.get("wf_123")
    with pytest.raises(RateLimitError) as caught:
        await client.workflows.get("wf_123")
    assert caught.value.retry_after > 3600
    assert fake.clock.now < 1


# Lists, and what is not there.

LISTS = {
    "workflows": 5,
    "executions": 26,
    "agents": 2,
    "triggers": 3,
    "knowledge_bases": 1,
    "webhooks": 1,
}


@scenario(resource=LISTS, per_page=[1, 7, 100])
async def a_list_is_walked_through(world, resource, per_page):
    client = world.client()
    found = await everything(getattr(client, resource).iterate(per_page=per_page))
    assert len({item["id"] for item in found}) == len(found) == LISTS[resource]
    world.fake.assert_called("GET", params={"page": 1, "per_page": per_page}, times=1)


@scenario(fault=["status", "lost"], page=[1, 2])
async def a_list_is_walked_through_with_a_failure(world, fault, page):
    fake, client, found = world.fake, world.client(), []
    async for item in client.executions.iterate(per_page=9):
        if len(found) == 9 * page - 1:
            fake.fail_next(2) if fault == "status" else fake.drop_connection(times=2)
        found.append(item["id"])
    assert len(set(found)) == len(found) == 26


@scenario(
    call=[
        "workflows.get",
        "workflows.execute",
        "executions.get",
        "executions.cancel",
        "agents.get",
        "agents.create_thread",
        "threads.get",
        "triggers.execute",
        "knowledge_bases.get",
        "webhooks.get",
        "webhooks.delete",
    ]
)
async def what_is_not_there_is_not_found(world, call):
    fake, client = world.fake, world.client()
    with pytest.raises(NotFoundError):
        await method(client, call)("11111111-2222-4333-8444-555555555555")
    assert len(fake.requests) == 1


@scenario(key=[seeds.EXPIRED_KEY, seeds.REVOKED_KEY, "fm_live_unknown"])
async def a_bad_key_is_refused(world, key):
    with pytest.raises(AuthenticationError) as caught:
        await world.client(key).workflows.list()
    assert caught.value.code.endswith("api_key")
    assert key not in str(caught.value)


@scenario(call=["workflows.execute", "triggers.execute", "webhooks.delete"])
async def a_key_that_may_only_read_may_not_act(world, call):
    client = world.client(seeds.READ_ONLY_KEY)
    with pytest.raises(AuthorizationError):
        await one_call(client, call)
    assert (world.fake.executions, len(world.fake.requests)) == ([], 1)
    assert await everything(method(client, call.partition(".")[0] + ".iterate")())


# Agents, knowledge and webhooks.

REPLIES = {
    "text": "All is well.",
    "tokens": ["Al", "l is ", "well."],
    "function": lambda text: "All is well." if text == "How?" else "What?",
    "unicode": "Größe \u2028 \U0001f600 ok",
    "empty": "",
}


@scenario(messages=["refused", "sse", "two-connection"], reply=REPLIES)
async def an_answer_is_streamed(world, messages, reply):
    fake, client = world.fake, world.client()
    agent = fake.agent("agent_mine", REPLIES[reply])
    thread = (await client.agents.create_thread(agent))["data"]["id"]
    events = await everything(client.threads.send_message_stream(thread, "How?"))
    wanted = {"unicode": REPLIES["unicode"], "empty": ""}.get(reply, "All is well.")
    tokens = [event["token"] for event in events if event["type"] == "message:token"]
    assert ("".join(tokens), events[-1]["content"]) == (wanted, wanted)
    assert events[-1]["type"] == "message:completed"
    if messages == "sse" and reply == "tokens":
        assert tokens == REPLIES["tokens"]


@scenario(messages=["sse", "two-connection", "refused"], whole=[True, False])
async def an_agent_cannot_answer(world, messages, whole):
    fake, client = world.fake, world.client()
    agent = fake.agent("agent_mine", ValueError("odd"), "Well.")
    thread = (await client.agents.create_thread(agent))["data"]["id"]
    if whole:
        asked = client.threads.send_message
    else:
        asked = lambda *it: everything(client.threads.send_message_stream(*it).text())  # noqa: E731
    with pytest.raises((ServerError, StreamError), match="ValueError: odd"):
        await asked(thread, "How?")
    assert "Well." in str(await client.threads.send_message(thread, "How?"))


@scenario(seconds=[0.0, 40.0, 110.0])
async def an_agent_takes_its_time(world, seconds):
    fake, client = world.fake, world.client()
    thread = await client.agents.create_thread(fake.agent("agent_mine", "Well.", seconds=seconds))
    before = fake.clock.now
    answer = await client.threads.send_message(thread["data"]["id"], "How?")
    assert answer["data"]["content"] == "Well."
    assert fake.clock.now - before == pytest.approx(seconds)
    messages = (await client.threads.list_messages(thread["data"]["id"]))["data"]
    assert [message["role"] for message in messages] == ["user", "assistant"]


@scenario(top_k=[1, 2, 5])
async def a_knowledge_base_is_asked(world, top_k):
    fake, client = world.fake, world.client()
    fake.knowledge_base("kb_mine", texts={"pets": "Cats purr.\n\nCats sleep.\n\nCats eat."})
    found = (await client.knowledge_bases.query("kb_mine", "cats", top_k=top_k))["data"]["results"]
    assert len(found) == min(top_k, 3)
    assert {result["document_name"] for result in found} == {"pets"}
    assert all(result["similarity"] == result["score"] for result in found)


RECEIVERS = {
    "good": ([200], "delivered"),
    "late": ([500, 200], "delivered"),
    "mute": ([None, None, 204], "delivered"),
    "dead": ([503], "failed"),
}


@scenario(end=["completed", "failed"], receiver=RECEIVERS)
async def a_webhook_is_told(world, end, receiver):
    fake, client, received = world.fake, world.client(), []
    answers, state = RECEIVERS[receiver]

    def receive(request):
        if request.url != "https://example.com/hook":
            return 200
        received.append(request)
        return answers[min(len(received), len(answers)) - 1]

    fake.receive_webhooks(receive)
    await client.executions.cancel("exec_xyz789")
    created = await client.webhooks.create(
        name="Mine", url="https://example.com/hook", events=[f"execution.{end}"]
    )
    await client.workflows.run(a_workflow(fake, end), {"n": 21})
    fake.clock.advance(60)
    tried = [it for it in fake.deliveries if it.webhook_id == created["data"]["id"]]
    assert [it.state for it in tried] == [state]
    assert len({request.body for request in received}) == 1
    signature = received[-1].headers["x-flowmaestro-signature"]
    event = webhooks.parse(received[-1].body, signature, created["data"]["secret"])
    assert event["event"] == f"execution.{end}"
