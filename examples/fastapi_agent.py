"""A FastAPI application: a browser talks to an agent and sees the answer as it is written.

pip install 'flowmaestro>=1' fastapi uvicorn
python examples/fastapi_agent.py
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, Dict, List

from fastapi import Body, FastAPI, HTTPException
from fastapi.responses import HTMLResponse, StreamingResponse

from flowmaestro import AsyncFlowMaestroClient, NotFoundError, StreamError

AGENT = os.environ.get("FLOWMAESTRO_AGENT_ID", "agent_abc123")
PAGE = """<!doctype html><title>An agent</title>
<form id="form"><input id="question" value="What is my order status?"><button>Ask</button></form>
<p id="answer"></p><script>
const thread = fetch("/threads", {method: "POST"}).then(reply => reply.json());
form.onsubmit = async submitted => {
  submitted.preventDefault();
  answer.textContent = "";
  const reply = await fetch(`/threads/${await thread}/messages`, {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify({content: question.value}),
  });
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece; !(piece = await reader.read()).done; ) answer.textContent += piece.value;
};
</script>"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for the life of the application."""
    async with AsyncFlowMaestroClient() as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    """Return a page that asks the agent."""
    return PAGE


@app.post("/threads")
async def create_thread() -> str:
    """Begin a conversation. Keep its id with your user, who must not see those of others."""
    client: AsyncFlowMaestroClient = app.state.client
    thread = await client.agents.create_thread(AGENT)
    return thread["data"]["id"]


@app.post("/threads/{thread_id}/messages", response_class=StreamingResponse)
async def ask(thread_id: str, content: str = Body(embed=True)) -> StreamingResponse:
    """Send a message and stream the answer as text."""
    client: AsyncFlowMaestroClient = app.state.client
    answer = client.threads.send_message_stream(thread_id, content)
    pieces = answer.text()
    try:
        # Nothing is sent before the first piece is asked for. Ask here, where an error can still
        # become a status.
        first = await pieces.__anext__()
    except NotFoundError:
        raise HTTPException(404, "There is no such conversation") from None
    except (StreamError, StopAsyncIteration):
        raise HTTPException(502, "The agent could not answer") from None

    async def texts() -> AsyncIterator[str]:
        # If the browser leaves, this block closes the stream. The API has no call to stop the
        # agent.
        async with answer:
            yield first
            try:
                async for piece in pieces:
                    yield piece
            except StreamError:
                yield "\n(The answer could not be completed.)"

    return StreamingResponse(texts(), media_type="text/plain; charset=utf-8")


@app.get("/threads/{thread_id}/messages")
async def messages(thread_id: str) -> List[Dict[str, Any]]:
    """Return the whole conversation, for a browser that has left and comes back."""
    client: AsyncFlowMaestroClient = app.state.client
    try:
        found = [message async for message in client.threads.iterate_messages(thread_id)]
    except NotFoundError:
        raise HTTPException(404, "There is no such conversation") from None
    return [{"role": message["role"], "content": message["content"]} for message in found]


if __name__ == "__main__":
    import uvicorn
    from service import service

    with service():
        uvicorn.run(app)
