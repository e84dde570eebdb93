"""A FastAPI application: a browser follows a run, and closing its tab cancels the run.

pip install 'flowmaestro>=1' fastapi uvicorn
python examples/fastapi_stream.py
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, suppress
from typing import Any, AsyncIterator

import anyio
from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse, StreamingResponse

from flowmaestro import AsyncFlowMaestroClient, NotFoundError, ValidationError

PAGE = """<!doctype html><title>A run</title><ul id="events"></ul><script>
const source = new EventSource("/runs/wf_123/Ada");
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


@app.get("/runs/{workflow_id}/{name}", response_class=StreamingResponse)
async def run(workflow_id: str, name: str) -> RunResponse:
    """Start a run and stream its events."""
    client: AsyncFlowMaestroClient = app.state.client
    try:
        started = await client.workflows.execute(workflow_id, inputs={"name": name})
    except NotFoundError:
        raise HTTPException(404, "There is no such workflow") from None
    return RunResponse(client, started["data"]["execution_id"])


if __name__ == "__main__":
    import uvicorn
    from service import service

    with service():
        uvicorn.run(app)
