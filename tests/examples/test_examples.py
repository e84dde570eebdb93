"""Each example runs without arguments, against a fake FlowMaestro."""

from __future__ import annotations

import asyncio
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
ENDS_WITH = {
    "basic_run": "{'message': 'Hello, Ada!'}",
    "batch_from_csv": "3 rows in results.csv",
    "chat": "4 messages",
    "own_transport": "{'message': 'Hello, Ada!'}",
    "semantic_search": "Changing a passwo",
    "streaming": "timeline.svg",
    "webhook_receiver": "execution.completed: completed",
}
"""What the last line of an example's output ends with."""
IN_OTHER_WAYS = {"dask_batch", "fastapi_agent", "fastapi_stream", "prefork_worker", "service"}
"""`nox -s engines-dask`; the tests below; the module that the examples share."""


@pytest.fixture(autouse=True)
def importable_examples(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))


def test_every_example_is_tried():
    assert {file.stem for file in EXAMPLES.glob("*.py")} == {*ENDS_WITH, *IN_OTHER_WAYS}


@pytest.mark.parametrize("name", ENDS_WITH)
def test_an_example_runs_without_arguments(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert capsys.readouterr().out.rstrip().endswith(ENDS_WITH[name])


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="there is no fork here")
def test_workers_that_were_forked_share_a_client():
    command = [sys.executable, str(EXAMPLES / "prefork_worker.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["completed, in a child: True"] * 4
    assert not done.stderr


def visit(app, path, inputs=None, stay=True, spec_version="2.3"):
    """Status and body that a browser gets; it stays, or leaves after the first piece."""
    sent = []
    body = [] if inputs is None else [json.dumps(inputs).encode()]

    async def connect():
        gone = asyncio.Event()  # Python 3.9 binds it to the running loop.

        async def receive():
            if body:
                return {"type": "http.request", "body": body.pop(), "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)
            if message.get("body") and not stay:
                gone.set()
                if spec_version >= "2.4":
                    raise OSError("the browser has gone")
                await asyncio.sleep(0)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": spec_version},
            "http_version": "1.1",
            "method": "GET" if inputs is None else "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }
        async with app.router.lifespan_context(app):
            await app(scope, receive, send)

    try:
        asyncio.run(connect())
    except Exception as error:
        assert type(error).__name__ == "ClientDisconnect"  # noqa: PT017 - of starlette's
    return sent[0]["status"], b"".join(it.get("body", b"") for it in sent).decode()


def app_of(example):
    pytest.importorskip("fastapi")
    return runpy.run_path(str(EXAMPLES / f"{example}.py"))["app"]


class TestFastAPI:
    @pytest.fixture
    def app(self):
        return app_of("fastapi_stream")

    def start(self, app, workflow):
        """Return the path of the events of a run."""
        status, execution_id = visit(app, f"/runs/{workflow}", inputs={"name": "Ada"})
        assert status == 200
        return f"/runs/{json.loads(execution_id)}/events"

    def events(self, body):
        lines = [line[6:] for line in body.splitlines() if line.startswith("data: ")]
        return [json.loads(line)["type"] for line in lines]

    def test_a_browser_gets_the_events_of_its_run(self, app, flowmaestro_fake):
        path = self.start(app, "wf_123")
        status, body = visit(app, path)
        assert status == 200
        assert self.events(body)[-1] == "execution:completed"
        assert flowmaestro_fake.executions[-1].inputs == {"name": "Ada"}
        assert flowmaestro_fake.executions[-1].status == "completed"

    def test_a_browser_that_connects_again_starts_nothing(self, app, flowmaestro_fake):
        path = self.start(app, "wf_123")
        before = len(flowmaestro_fake.executions)
        for _ in range(2):
            _, body = visit(app, path)
            assert self.events(body)[-1] in ("connected", "execution:completed")
        assert len(flowmaestro_fake.executions) == before

    @pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
    def test_a_run_is_cancelled_when_its_browser_leaves(self, app, flowmaestro_fake, spec_version):
        flowmaestro_fake.workflow("wf_long", nodes=["think"], hangs_at="think")
        visit(app, self.start(app, "wf_long"), stay=False, spec_version=spec_version)
        assert flowmaestro_fake.executions[-1].status == "cancelled"

    def test_an_unknown_workflow_or_run_is_404(self, app, flowmaestro_fake):
        status, _ = visit(app, "/runs/wf_unknown", inputs={})
        assert status == 404
        status, _ = visit(app, "/runs/exec_unknown/events")
        assert status == 404

    def test_the_page_follows_a_run(self, app, flowmaestro_fake):
        status, page = visit(app, "/")
        assert status == 200
        assert '"/runs/wf_123", {' in page


class TestFastAPIAgent:
    @pytest.fixture
    def app(self):
        return app_of("fastapi_agent")

    def ask(self, app, thread, **options):
        path = f"/threads/{thread}/messages"
        return visit(app, path, {"content": "Where is it?"}, **options)

    def begin(self, app, fake, answer):
        """Return the id of a conversation with an agent that gives this answer."""
        fake.agent("agent_abc123", answer)
        status, thread = visit(app, "/threads", {})
        assert status == 200
        return json.loads(thread)

    def test_the_browser_gets_the_answer(self, app, flowmaestro_fake):
        thread = self.begin(app, flowmaestro_fake, ["It ", "has ", "shipped."])
        assert self.ask(app, thread) == (200, "It has shipped.")

    def test_the_answer_is_kept_if_the_browser_leaves(self, app, flowmaestro_fake):
        thread = self.begin(app, flowmaestro_fake, ["It ", "has ", "shipped."])
        assert self.ask(app, thread, stay=False) == (200, "It ")
        flowmaestro_fake.clock.advance(10)  # The agent goes on.
        status, text = visit(app, f"/threads/{thread}/messages")
        assert status == 200
        assert json.loads(text)[-1] == {"role": "assistant", "content": "It has shipped."}

    def test_an_unknown_conversation_is_404(self, app, flowmaestro_fake):
        assert self.ask(app, "thread_unknown")[0] == 404
        assert visit(app, "/threads/thread_unknown/messages")[0] == 404

    def test_a_failure_of_the_agent_is_502(self, app, flowmaestro_fake):
        thread = self.begin(app, flowmaestro_fake, RuntimeError("no model"))
        assert self.ask(app, thread)[0] == 502

    def test_the_page_is_there(self, app, flowmaestro_fake):
        assert "/threads" in visit(app, "/")[1]
