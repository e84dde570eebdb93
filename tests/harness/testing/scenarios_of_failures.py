"""Failing, and trying again or not."""

from __future__ import annotations

import pytest

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
    TimeoutError,
    ValidationError,
)
from tests.harness.testing.scenarios import one_call, scenario, statuses


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
    assert (caught.value.retry_after or 0) > 3600
    assert fake.clock.now < 1
