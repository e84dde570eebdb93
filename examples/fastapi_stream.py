"""A FastAPI application: a browser follows a run, and closing its tab cancels the run.

A POST starts the run, and a GET follows it. An `EventSource` whose connection is lost repeats its
GET by itself: if that started the run, the workflow would run twice.

pip install 'flowmaestro>=1' fastapi uvicorn
python examples/fastapi_stream.py
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, suppress
from typing import Any, AsyncIterator, Dict

import anyio
from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse, StreamingResponse

from flowmaestro import AsyncFlowMaestroClient, NotFoundError, ValidationError

PAGE = """<!doctype html><title>A run</title><ul id="events"></ul><script type="module">
const started = await fetch("/runs/wf_123", {
  method: "POST",
  headers: {"Content-Type": "application/json"},
  body: JSON.stringify({name: "Ada"}),
});
const source = new EventSource(`/runs/${await started.json()}/events`);
source.onmessage = message => {
  const event = JSON.parse(message.data);
  const line = document.createElement("li");
  line.textContent = event.type;
  document.getElementById("events").append(line);
  if (/^execution:(completed|failed|cancelled)$/.test(event.type)) source.close();
};
</script>"""


class RunResponse(StreamingResponse):
    """The events of one execution, which is cancelled when the browser leaves before its end."""

    def __init__(self, client: AsyncFlowMaestroClient, execution_id: str) -> None:
        self.client = client
        self.execution_id = execution_id
        self.has_ended = False
        super().__init__(self.events(), media_type="text/event-stream")

    async def events(self) -> AsyncIterator[str]:
        """Each event as one message of the browser's `EventSource`."""
        async with self.client.executions.stream(self.execution_id) as stream:
            async for event in stream:
                yield f"data: {json.dumps(event)}\n\n"
        self.has_ended = True

    async def __call__(self, *connection: Any) -> None:
        """Send the events; this returns or raises when the browser is gone."""
        try:
            await super().__call__(*connection)
        finally:
            if not self.has_ended:
                with anyio.CancelScope(shield=True):  # cancel the run even if we are cancelled
                    with suppress(ValidationError):  # the run has ended meanwhile
                        await self.client.executions.cancel(self.execution_id)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for the life of the application."""
    async with AsyncFlowMaestroClient() as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    """Return a page that starts a run and lists its events."""
    return PAGE


@app.post("/runs/{workflow_id}")
async def start(workflow_id: str, inputs: Dict[str, Any]) -> str:
    """Start a run and return its id. Keep it with your user, who must not see those of others."""
    client: AsyncFlowMaestroClient = app.state.client
    try:
        started = await client.workflows.execute(workflow_id, inputs=inputs)
    except NotFoundError:
        raise HTTPException(404, "There is no such workflow") from None
    return started["data"]["execution_id"]


@app.get("/runs/{execution_id}/events", response_class=StreamingResponse)
async def follow(execution_id: str) -> RunResponse:
    """Stream the events of a run."""
    client: AsyncFlowMaestroClient = app.state.client
    try:
        await client.executions.get(execution_id)  # A stream that has begun cannot become a 404.
    except NotFoundError:
        raise HTTPException(404, "There is no such run") from None
    return RunResponse(client, execution_id)


if __name__ == "__main__":
    import uvicorn
    from service import service

    with service():
        uvicorn.run(app)
