"""Threads: conversations with agents."""

from __future__ import annotations

from functools import partial
from typing import Optional

from flowmaestro_core.arguments import flag, text
from flowmaestro_core.calls.call import Call, Confirmation
from flowmaestro_core.calls.pages import MAX_PER_PAGE, Pages
from flowmaestro_core.http.urls import path
from flowmaestro_core.messages.operation import MessageStream
from flowmaestro_core.operation import D, Resource, endpoint, iterating_endpoint
from flowmaestro_core.payloads import shapes
from flowmaestro_core.payloads.encode import json_body
from flowmaestro_core.payloads.reply import Page, Reply
from flowmaestro_core.resources.listing import iterate_pages, list_call
from flowmaestro_core.streams.operation import Events
from flowmaestro_core.types import (
    DeletedResource,
    SendMessageResponse,
    Thread,
    ThreadEvent,
    ThreadMessage,
)

ANSWER_TIMEOUT = 130.0
"""Seconds. The server holds the request until the agent has answered, up to 120 s."""


class Threads(Resource[D]):
    """`client.threads`. Reading needs the scope `threads:read`; `delete` needs `threads:write`.

    Sending a message needs `threads:write` and `agents:execute`. To look for an answer that was
    lost or is still to come, `send_message_stream` needs `threads:read`, too.
    """

    @endpoint
    def get(self, thread_id: str) -> Call[Reply[Thread]]:
        """Get one thread. Raises `NotFoundError` if there is none."""
        where = path("/threads/{thread_id}", thread_id=thread_id)
        return Call("GET", where, shape=shapes.resource(Thread))

    @endpoint
    def delete(self, thread_id: str) -> Call[Reply[DeletedResource]]:
        """Delete a thread. Raises `NotFoundError` if there is none.

        But after an attempt that may have deleted it, because its reply was lost or a server error,
        a 404 counts as success.
        """
        return Call(
            "DELETE",
            path("/threads/{thread_id}", thread_id=thread_id),
            shape=partial(shapes.deleted, thread_id),
            confirmation=Confirmation(404),
        )

    @endpoint
    def list_messages(
        self, thread_id: str, *, page: Optional[int] = None, per_page: Optional[int] = None
    ) -> Call[Page[ThreadMessage]]:
        """List the messages of a thread, one page at a time.

        The deployed server ignores `page` and `per_page`: it returns all messages at once.

        Args:
            page: which page, from 1.
            per_page: how many on a page, 1 to 100; the server's default is 20.

        """
        return list_call(_messages(thread_id), page, per_page, shapes.thread_messages)

    @iterating_endpoint
    def iterate_messages(
        self, thread_id: str, *, per_page: Optional[int] = None
    ) -> Pages[ThreadMessage]:
        """Iterate over all messages of a thread, page after page.

        Args:
            per_page: how many the SDK requests at a time, 1 to 100; the server's default is 20.

        """
        return iterate_pages(partial(Threads.list_messages, thread_id), per_page)

    @endpoint
    def send_message(
        self,
        thread_id: str,
        content: str,
        *,
        stream: bool = False,
        idempotency_key: Optional[str] = None,
    ) -> Call[Reply[SendMessageResponse]]:
        """Send a message and get the agent's answer; `data["content"]` is its text.

        The text is `None` if there is no answer, or none yet: see `data["status"]`.

        The server holds the request until the agent has answered, up to 120 s, so that this
        call's time limit is at least 130 s, unless one was set with `with_options(timeout=)`.
        A message that the server may have accepted is not sent again.

        Args:
            content: the message.
            stream: ask the server to stream the answer. A stream, or the refusal of a server that
                does not stream, raises `ServerError` here: use `send_message_stream`.
            idempotency_key: sent as `Idempotency-Key` on every attempt; random when left out.

        Raises:
            TimeoutError: the agent takes longer, and may still answer; or the message could not be
                sent in time.

        """
        return Call(
            "POST",
            _messages(thread_id),
            json_body(content=text("content", content), stream=flag("stream", stream)),
            repeatable=False,
            shape=shapes.sent_message,
            minimum_timeout=ANSWER_TIMEOUT,
            idempotency_key=idempotency_key,
        )

    @iterating_endpoint
    def send_message_stream(
        self, thread_id: str, content: str, *, idempotency_key: Optional[str] = None
    ) -> MessageStream:
        """Send a message and follow the agent's answer as it is written.

        Iterate over `message:started`, `message:token` (its `token` is a piece of the text) and
        `message:completed` or `message:failed`, which is the last; or over `text()`, for nothing
        but the text. After the loop, `message` is the `message:completed` event, or `None` if there
        was none. From a server that does not stream, the whole answer comes as one token. A message
        that the server may have accepted is not sent again.

        Args:
            content: the message.
            idempotency_key: sent as `Idempotency-Key` on every attempt; random when left out.

        Raises:
            StreamError: the answer was lost on the way, and the thread's messages do not have
                it either; or (code `message_failed`, from `text()`) the agent could not answer.
            TimeoutError: no response or no event of the answer came for 130 s, or for the client's
                `timeout` if that is longer. A timeout of `with_options(timeout=)` replaces both.
                The server may have accepted the message, and the agent may still answer.

        """
        send = partial(Threads.send_message, thread_id, content, idempotency_key=idempotency_key)
        return MessageStream(
            streaming=send(stream=True),
            whole=send(),
            messages=lambda page: Threads.list_messages(
                thread_id, page=page, per_page=MAX_PER_PAGE
            ),
        )

    @iterating_endpoint
    def stream(self, thread_id: str) -> Events[ThreadEvent]:
        """Iterate over the events of a thread as they come, until you leave the loop.

        A thread has no end: the SDK reconnects a stream that the server ends, and then yields an
        event of type `stream:reconnected`.

        Raises while iterating:
            NotFoundError: there is no such thread, or the server lacks this route, as the
                deployed server does.
            StreamError: the stream was lost and could not be resumed.

        """
        where = path("/threads/{thread_id}/events", thread_id=thread_id)
        return Events(Call("GET", where, enveloped=False))


def _messages(thread_id: str) -> str:
    return path("/threads/{thread_id}/messages", thread_id=thread_id)
