"""The two clients: what a user makes, and nothing but shells around a performer."""

from __future__ import annotations

import copy
import os
from typing import Any, Mapping, Optional, TypeVar, Union

from flowmaestro.resources import (
    AsyncAgents,
    AsyncExecutions,
    AsyncKnowledgeBases,
    AsyncThreads,
    AsyncTriggers,
    AsyncWebhooks,
    AsyncWorkflows,
    SyncAgents,
    SyncExecutions,
    SyncKnowledgeBases,
    SyncThreads,
    SyncTriggers,
    SyncWebhooks,
    SyncWorkflows,
)
from flowmaestro_core.context import Context
from flowmaestro_core.options import (
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT,
    ClientOptions,
    check_token,
)
from flowmaestro_core.raw import raw_call
from flowmaestro_core.reply import Reply
from flowmaestro_core.stream_times import StreamTimes
from flowmaestro_core.urls import DEFAULT_BASE_URL, api_root
from flowmaestro_transports.contract import AsyncTransport, Transport
from flowmaestro_transports.default_transport import DefaultAsyncTransport, DefaultTransport
from flowmaestro_transports.function_transport import (
    AsyncFunction,
    SyncFunction,
    as_async_transport,
    as_transport,
)
from flowmaestro_transports.performers import AwaitingPerformer, BlockingPerformer

C = TypeVar("C", bound="FlowMaestroClient")
A = TypeVar("A", bound="AsyncFlowMaestroClient")


def _options(
    api_key: Optional[str],
    base_url: Optional[str],
    timeout: Optional[float],
    max_retries: Optional[int],
    headers: Optional[Mapping[str, str]],
) -> ClientOptions:
    """Options with the gaps filled from the environment and the defaults."""
    return ClientOptions(
        _key_from_environment() if api_key is None else api_key,
        base_url=_base_url_from_environment() if base_url is None else base_url,
        timeout=DEFAULT_TIMEOUT if timeout is None else timeout,
        max_retries=DEFAULT_MAX_RETRIES if max_retries is None else max_retries,
        headers={} if headers is None else headers,
    )


def _key_from_environment() -> str:
    key = os.environ.get("FLOWMAESTRO_API_KEY")
    if key is None:
        raise ValueError("no API key: pass api_key= or set FLOWMAESTRO_API_KEY")
    check_token("api_key, from FLOWMAESTRO_API_KEY,", key)
    return key


def _base_url_from_environment() -> str:
    url = os.environ.get("FLOWMAESTRO_BASE_URL")
    if not url:
        return DEFAULT_BASE_URL
    try:
        api_root(url)
    except ValueError as error:
        raise ValueError(f"FLOWMAESTRO_BASE_URL: {error}") from None
    return url


class FlowMaestroClient:
    """The blocking client. Safe to use from several threads.

    ```python
    with FlowMaestroClient(api_key="fm_live_...") as client:
        run = client.workflows.run("wf_123", inputs={"name": "John"})
        print(run["outputs"])
    ```

    Called inside a running event loop it works, and blocks that loop, as asked.
    """

    def __init__(
        self,
        api_key: Optional[str] = None,
        *,
        base_url: Optional[str] = None,
        timeout: Optional[float] = DEFAULT_TIMEOUT,
        max_retries: Optional[int] = DEFAULT_MAX_RETRIES,
        headers: Optional[Mapping[str, str]] = None,
        transport: Union[Transport, SyncFunction, None] = None,
        stream_times: Optional[StreamTimes] = None,
    ) -> None:
        """Make a client. Nothing is sent, and no HTTP library loaded, before the first call.

        Args:
            api_key: your key; `FLOWMAESTRO_API_KEY` when left out.
            base_url: where the API lives; `FLOWMAESTRO_BASE_URL` when left out, and then
                `https://api.flowmaestro.io`.
            timeout: seconds that one attempt of a call may take.
            max_retries: how often a call may be tried again after its first attempt.
            headers: header fields to send with every request.
            transport: a `Transport`, or a function from `Request` to `Response`; requests when
                left out.
            stream_times: when a quiet event stream is doubted, and how soon a lost one is made
                anew; the defaults of `StreamTimes` when left out.

        Raises:
            ValueError, TypeError: an argument is missing or makes no sense; the text names it.

        """
        options = _options(api_key, base_url, timeout, max_retries, headers)
        context = Context(options, stream_times=stream_times or StreamTimes())
        chosen = DefaultTransport() if transport is None else as_transport(transport)
        self._bind(BlockingPerformer(chosen, context))

    def _bind(self, performer: BlockingPerformer) -> None:
        """Have `performer` perform what the resources build."""
        self._performer = performer
        self.workflows = SyncWorkflows(performer)
        self.executions = SyncExecutions(performer)
        self.agents = SyncAgents(performer)
        self.threads = SyncThreads(performer)
        self.triggers = SyncTriggers(performer)
        self.knowledge_bases = SyncKnowledgeBases(performer)
        self.webhooks = SyncWebhooks(performer)

    def with_options(
        self: C,
        *,
        timeout: Optional[float] = None,
        max_retries: Optional[int] = None,
        headers: Optional[Mapping[str, str]] = None,
    ) -> C:
        """A client with other options that shares this one's connections.

        Args:
            timeout: seconds that one attempt may take. It counts as set for the call: it also
                replaces the longer limit of `threads.send_message`.
            max_retries: how often a call may be tried again.
            headers: header fields to send beside this client's.

        Closing it leaves this client open; closing this client closes it too.

        """
        derived = copy.copy(self)
        derived._bind(self._performer.derive(timeout, max_retries, headers))
        return derived

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Optional[Mapping[str, Any]] = None,
        json: Any = None,
    ) -> Reply[Any]:
        """Call an endpoint that this SDK does not know yet.

        Args:
            method: the HTTP method. GET, HEAD, PUT, DELETE and OPTIONS are tried again after a
                failure, the others only while it is certain that nothing was done.
            path: below the API root, percent-encoded, such as `/workflows`.
            params: query parameters; `None` values are left out.
            json: the request's body.

        Raises `FlowMaestroError` like every call.

        """
        return self._performer.perform(raw_call(method, path, params, json))

    def close(self) -> None:
        """Close all connections. Closing twice is harmless; a later call says that it is closed."""
        self._performer.close()

    def __enter__(self: C) -> C:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FlowMaestroClient of {self._performer.context.options.base_url}>"


class AsyncFlowMaestroClient:
    """The awaiting client, on asyncio and trio.

    ```python
    async with AsyncFlowMaestroClient(api_key="fm_live_...") as client:
        run = await client.workflows.run("wf_123", inputs={"name": "John"})
        print(run["outputs"])
    ```
    """

    def __init__(
        self,
        api_key: Optional[str] = None,
        *,
        base_url: Optional[str] = None,
        timeout: Optional[float] = DEFAULT_TIMEOUT,
        max_retries: Optional[int] = DEFAULT_MAX_RETRIES,
        headers: Optional[Mapping[str, str]] = None,
        transport: Union[AsyncTransport, AsyncFunction, None] = None,
        stream_times: Optional[StreamTimes] = None,
    ) -> None:
        """Make a client. Arguments and errors are those of `FlowMaestroClient`.

        `transport` is an `AsyncTransport`, or a function (coroutine or plain) from `Request` to
        `Response`; when left out, aiohttp under asyncio and anyio under trio, found out when
        the first call is made.
        """
        options = _options(api_key, base_url, timeout, max_retries, headers)
        context = Context(options, stream_times=stream_times or StreamTimes())
        chosen = DefaultAsyncTransport() if transport is None else as_async_transport(transport)
        self._bind(AwaitingPerformer(chosen, context))

    def _bind(self, performer: AwaitingPerformer) -> None:
        """Have `performer` perform what the resources build."""
        self._performer = performer
        self.workflows = AsyncWorkflows(performer)
        self.executions = AsyncExecutions(performer)
        self.agents = AsyncAgents(performer)
        self.threads = AsyncThreads(performer)
        self.triggers = AsyncTriggers(performer)
        self.knowledge_bases = AsyncKnowledgeBases(performer)
        self.webhooks = AsyncWebhooks(performer)

    def with_options(
        self: A,
        *,
        timeout: Optional[float] = None,
        max_retries: Optional[int] = None,
        headers: Optional[Mapping[str, str]] = None,
    ) -> A:
        """As `FlowMaestroClient.with_options`."""
        derived = copy.copy(self)
        derived._bind(self._performer.derive(timeout, max_retries, headers))
        return derived

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Optional[Mapping[str, Any]] = None,
        json: Any = None,
    ) -> Reply[Any]:
        """As `FlowMaestroClient.request`."""
        reply: Reply[Any] = await self._performer.perform(raw_call(method, path, params, json))
        return reply

    async def close(self) -> None:
        """As `FlowMaestroClient.close`."""
        await self._performer.close()

    async def __aenter__(self: A) -> A:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncFlowMaestroClient of {self._performer.context.options.base_url}>"
