"""Under gevent, which has patched the standard library: `SocketTransport` waits, and others run."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import faulthandler  # noqa: E402 - all that follows sees what gevent has patched
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402
from outside import KEY, flowmaestro  # noqa: E402

from flowmaestro import FlowMaestroClient, StreamError  # noqa: E402

PROMPT = 60
"""Seconds in which a closed stream ends on a busy machine. Its next event is hours away."""


def others_run_and_call_while_a_stream_waits(client: FlowMaestroClient, execution: str) -> None:
    """If the stream kept others from running, `main` would end the process."""
    turns, calls = 0, 0
    types = []

    def read() -> None:
        types.extend(event["type"] for event in client.executions.stream(execution))

    reader = gevent.spawn(read)
    while calls < 3:
        gevent.sleep(0.01)
        turns += 1
        if turns % 20 == 0:
            assert client.executions.get(execution)["data"]["id"] == execution
            calls += 1
    assert not reader.ready()
    client.executions.cancel(execution)
    reader.get(timeout=PROMPT)
    assert types[-1] == "execution:cancelled", types


def a_stream_is_closed_from_another_greenlet(client: FlowMaestroClient, execution: str) -> None:
    stream = client.executions.stream(execution)
    next(stream)

    def read_on() -> str:
        try:
            for _ in stream:
                pass
        except StreamError as error:
            return str(error)
        return "it ended"

    reader = gevent.spawn(read_on)
    gevent.sleep(0.3)  # let it wait
    stream.close()
    ending = reader.get(timeout=PROMPT)
    assert "closed" in ending, ending


def a_client_is_closed_from_another_greenlet(client: FlowMaestroClient, execution: str) -> None:
    def read() -> BaseException:
        try:
            for _ in client.executions.stream(execution):
                pass
        except Exception as error:
            return error
        raise AssertionError("the stream ended")

    reader = gevent.spawn(read)
    gevent.sleep(0.3)
    client.close()
    assert reader.get(timeout=PROMPT)


def main() -> None:
    faulthandler.dump_traceback_later(300, exit=True)
    with tempfile.TemporaryDirectory() as folder, flowmaestro(Path(folder)) as url:
        for scene in (
            others_run_and_call_while_a_stream_waits,
            a_stream_is_closed_from_another_greenlet,
            a_client_is_closed_from_another_greenlet,
        ):
            with FlowMaestroClient(KEY, base_url=url) as client:
                scene(client, client.workflows.execute("wf_endless")["data"]["execution_id"])


if __name__ == "__main__":
    main()
