"""Many executions through both clients, in memory: concurrency, progress, and how it is left."""

import json
import os
import threading
import warnings

import anyio
import pytest

from flowmaestro import (
    AsyncFlowMaestroClient,
    FlowMaestroClient,
    JournalError,
    StreamError,
)
from flowmaestro.testing import AsyncMemoryTransport, FakeFlowMaestro, MemoryTransport, Node
from flowmaestro_core.executions.outcome import still_runs
from flowmaestro_core.http.messages import Response

BACKENDS = ["asyncio", "trio"]
NAMES = ["Ada", "Bob", "Cyd", "Dan", "Eve"]
INPUTS = [{"name": name} for name in NAMES]
GREETINGS = {f"Hello, {name}!" for name in NAMES}
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def fake():
    return FakeFlowMaestro()


@pytest.fixture
def client(fake):
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        yield client


@pytest.fixture(params=BACKENDS)
def run_async(request, fake):
    """Run `main(client)` under one of the event loops."""

    def run(main):
        async def with_client():
            transport = AsyncMemoryTransport(fake)
            async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
                return await main(client)

        return anyio.run(with_client, backend=request.param)

    return run


def greetings(outcomes):
    return {outcome.outputs["message"] for outcome in outcomes}


def test_sync_client_runs_many_without_a_thread(client):
    threads = set(threading.enumerate())
    told = []
    ended = []
    for execution in client.workflows.run_many(
        "wf_123", INPUTS, concurrency=2, progress=lambda it: told.append((it.done, it.total))
    ):
        assert len(told) == len(ended) + 1
        ended.append(execution)
        assert set(threading.enumerate()) <= threads
    assert greetings(ended) == GREETINGS
    assert told == [(n, 5) for n in range(1, 6)]


def test_async_client_runs_many(run_async):
    told = []

    async def progress(it):
        await anyio.lowlevel.checkpoint()
        told.append((it.done, it.total))

    async def main(client):
        runs = client.workflows.run_many("wf_123", iter(INPUTS), progress=progress)
        return [execution async for execution in runs]

    assert greetings(run_async(main)) == GREETINGS
    assert told == [(n, None) for n in range(1, 6)]


def started(fake):
    return {it.id for it in fake.executions if it.inputs in INPUTS}


def test_in_flight_has_all_ids_after_close(fake, client):
    work = Node("work", seconds=lambda inputs: 0.1 if inputs in INPUTS[:2] else 3600.0)
    fake.workflow("wf_123", nodes=[work])
    runs = client.workflows.run_many("wf_123", INPUTS, concurrency=4)
    handed = next(runs).execution_id
    runs.close()
    assert {it.execution_id for it in runs.in_flight} == started(fake) - {handed}
    assert all(it.inputs is INPUTS[it.index] for it in runs.in_flight)
    # The other short one has ended.
    assert [still_runs(it) for it in runs.in_flight] == [True, True, False]


def test_in_flight_has_all_ids_after_cancellation(fake, run_async):
    async def main(client):
        with anyio.CancelScope() as scope:
            many = client.workflows.run_many
            runs = many(
                "wf_123",
                INPUTS,
                concurrency=3,
                on_start=lambda it: it.index == 2 and scope.cancel(),
            )
            await runs.__anext__()
        assert scope.cancelled_caught
        return runs.in_flight

    left = run_async(main)
    assert {it.execution_id for it in left} == started(fake)
    assert len(left) == 3


async def later(*counts):
    raise AssertionError


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("on_event", lambda client, given: client.workflows.run("wf_123", {}, given)),
        (
            "on_poll",
            lambda client, given: client.executions.wait_for_completion(
                "exec_xyz789", on_poll=given
            ),
        ),
        ("progress", lambda client, given: client.executions.wait_many(["ex"], progress=given)),
        (
            "progress",
            lambda client, given: client.workflows.run_many("wf_123", INPUTS, progress=given),
        ),
    ],
    ids=["run", "wait", "wait_many", "run_many"],
)
def test_sync_client_refuses_a_coroutine_function(argument, call):
    def nothing_is_sent(request):
        raise AssertionError(request)

    client = FlowMaestroClient("fm_live_x", transport=nothing_is_sent)
    wrong = f"cannot await the coroutine function given as {argument};"
    with pytest.raises(TypeError, match=wrong):
        call(client, later)


def start_only(sent):
    """Return a transport that notes each request, and whose executions have ended at once."""

    def respond(request):
        sent.append(request)
        data = {"id": "exec_1", "execution_id": "exec_1", "status": "completed", "outputs": {}}
        return Response(202, {}, json.dumps({"data": data}).encode())

    return respond


@pytest.fixture
def fork():
    """Return a function that runs another one in a child, whose result is the exit status."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")

    async def run(refused):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # this process may have threads
            child = os.fork()
        if not child:
            status = 1
            try:
                status = await refused()
            finally:
                os._exit(status)
        return os.waitpid(child, 0)[1] >> 8  # noqa: ASYNC222 - the loop has nothing else to do

    return run


@pytest.mark.parametrize("journaled", [False, True])
@pytest.mark.parametrize("awaits", [False, True])
def test_batch_of_the_parent_starts_nothing_in_a_forked_child(fork, tmp_path, journaled, awaits):
    """Nor does it poll. The parent continues it."""
    sent = []
    journal = tmp_path / "journal" if journaled else None
    options = {"concurrency": 1, "journal": journal}

    async def main():
        make = AsyncFlowMaestroClient if awaits else FlowMaestroClient
        client = make("fm_live_x", transport=start_only(sent))
        outcomes = client.workflows.run_many("wf_1", [{"n": n} for n in range(4)], **options)

        async def take():
            return await outcomes.__anext__() if awaits else next(outcomes)

        async def refused():
            before = len(sent)
            with pytest.raises(JournalError if journaled else StreamError) as caught:
                await take()
            assert caught.value.code == ("journal_busy" if journaled else "stream_closed")
            assert "the parent process" in str(caught.value)
            assert len(sent) == before
            return 7

        await take()
        assert await fork(refused) == 7
        for _ in range(3):
            assert (await take()).ok

    anyio.run(main)
    assert len([request for request in sent if request.method == "POST"]) == 4
