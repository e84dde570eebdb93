"""The two clients. Each is a thin shell around an executor."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Mapping, Optional, TypeVar, Union

from flowmaestro import option_types, resources
from flowmaestro_core.defaults import DEFAULT_MAX_RETRIES, DEFAULT_TIMEOUT, MAX_REPLY_SIZE
from flowmaestro_core.habits import OF_CLIENT, unknown_attribute, with_hints
from flowmaestro_core.payloads.reply import Reply
from flowmaestro_transports.contract import (
    AsyncFunction,
    AsyncTransport,
    SyncFunction,
    Transport,
)
from flowmaestro_transports.primitives.fork_guard import NotPicklable

if TYPE_CHECKING:
    from flowmaestro_transports.driving.executors import AsyncExecutor, SyncExecutor

C = TypeVar("C", bound="_Client")


class _Client(NotPicklable):
    """Base class of both clients."""

    _executor: Any

    @with_hints(OF_CLIENT)
    def with_options(
        self: C,
        *,
        timeout: Optional[float] = None,
        call_timeout: Optional[float] = None,
        max_retries: Optional[int] = None,
        headers: Optional[Mapping[str, str]] = None,
        api_key: Optional[str] = None,
    ) -> C:
        """Return a client with other options that shares this one's connections.

        An option that is `None` stays as it is.

        Args:
            timeout: seconds that one attempt of a call may take, or a `Timeout`. This also replaces
                the longer default limit of messages to agents.
            call_timeout: seconds that one call may take with its retries, as for a new client.
            max_retries: how many times a call may be retried, as for a new client.
            headers: header fields to send in addition to this client's. They replace those with the
                same name.
            api_key: another key. Errors of the new client redact both keys.

        Closing the new client leaves this client open. Closing this client closes the new one, too.

        Raises `TypeError` or `ValueError`, naming the option, for a wrong one.

        """
        derived = object.__new__(type(self))
        # A copy, because another thread may add a resource while this loop runs.
        for name, value in vars(self).copy().items():
            # Resources are not copied: each belongs to the executor of its client.
            if not isinstance(getattr(type(self), name, None), cached_property):
                derived.__dict__[name] = value
        derived._executor = self._executor.derive(
            timeout, max_retries, headers, api_key, call_timeout
        )
        return derived

    if not TYPE_CHECKING:  # A type checker would accept every attribute.

        def __getattr__(self, name: str) -> Any:
            raise unknown_attribute(self, "client", name)

    def __copy__(self: C) -> C:
        """Return `with_options()`: a client that shares this one's connections."""
        return self.with_options()

    def __deepcopy__(self: C, _memo: object) -> C:
        """Return `with_options()`: a client that shares this one's connections.

        Connections cannot be copied.
        """
        return self.with_options()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._executor.context.options.base_url}>"


class FlowMaestroClient(_Client):
    """The sync client. Safe to use from several threads.

    ```python
    with FlowMaestroClient(api_key="fm_live_...") as client:
        run = client.workflows.run("wf_123", inputs={"name": "John"})
        print(run["outputs"])
    ```

    A call inside a running event loop blocks that loop.

    The client logs under the name `flowmaestro`: retries and reconnections as INFO, each request as
    DEBUG. `FLOWMAESTRO_LOG=info` (or debug) writes the log to standard error.
    """

    @with_hints(OF_CLIENT)
    def __init__(
        self,
        api_key: Optional[str] = None,
        *,
        base_url: Optional[str] = None,
        timeout: Optional[float] = DEFAULT_TIMEOUT,
        call_timeout: Optional[float] = None,
        max_retries: Optional[int] = DEFAULT_MAX_RETRIES,
        headers: Optional[Mapping[str, str]] = None,
        transport: Union[Transport, SyncFunction, None] = None,
        stream_times: Optional[option_types.StreamTimes] = None,
        hooks: Optional[option_types.Hooks] = None,
        max_reply_size: Optional[int] = MAX_REPLY_SIZE,
        owns_transport: bool = True,
    ) -> None:
        """Create a client. It sends nothing and loads no HTTP library before the first call.

        Args:
            api_key: your key; the environment variable `FLOWMAESTRO_API_KEY` by default.
            base_url: the URL of the server; by default `FLOWMAESTRO_BASE_URL`, or else
                `https://api.flowmaestro.io`.
            timeout: seconds that one attempt of a call may take, or a `Timeout`. An attempt to
                send a message to an agent gets at least 130 s.
            call_timeout: seconds that one call may take with its retries: hooks, attempts, pauses
                and redirects together; by default, only the attempts are limited. The shortest of
                all limits counts, also in place of the 130 s. Each single request of `run`, of a
                wait, a batch or a list is a call; of a stream, each opening up to its head.
            max_retries: how many times a call may be retried after its first attempt. A start by
                `run` or `run_many` that was not sent may be retried more often.
            headers: header fields to send with every request. They replace the SDK's own fields,
                but not a field that an argument of a call sets, such as `idempotency_key`.
            transport: a `Transport`, or a function from `Request` to `Response`; by default a
                `SocketTransport`.
            stream_times: when the SDK polls the execution of a quiet event stream, and when it
                reconnects a lost one; the defaults of `StreamTimes` when left out.
            hooks: functions to call before each request, after it, and before each retry.
            max_reply_size: maximum size of a response body after decompression, in bytes; a
                larger one raises `ServerError` (code `reply_too_large`), and takes at most twice
                this size and 1 MiB of memory. Events of a stream have their own limits.
            owns_transport: whether closing the client closes the `transport` that was passed to
                it. With False, its owner closes it, and several clients may share it.

        Raises:
            ValueError, TypeError: an argument is missing or wrong; the message names it.

        """
        from flowmaestro.assembly import options_of, set_up_log, sync_executor

        set_up_log()
        options = options_of(
            api_key, base_url, timeout, max_retries, headers, transport, call_timeout
        )
        self._executor: SyncExecutor = sync_executor(
            options, transport, stream_times, hooks, max_reply_size, owns_transport
        )

    @cached_property
    def workflows(self) -> resources.SyncWorkflows:
        """List, get and run workflows."""
        return resources.SyncWorkflows(self._executor)

    @cached_property
    def executions(self) -> resources.SyncExecutions:
        """Executions of workflows: their state, their events, their results."""
        return resources.SyncExecutions(self._executor)

    @cached_property
    def agents(self) -> resources.SyncAgents:
        """Agents, their memory, and new threads with them."""
        return resources.SyncAgents(self._executor)

    @cached_property
    def threads(self) -> resources.SyncThreads:
        """Conversations with agents."""
        return resources.SyncThreads(self._executor)

    @cached_property
    def triggers(self) -> resources.SyncTriggers:
        """Triggers, which start workflows."""
        return resources.SyncTriggers(self._executor)

    @cached_property
    def knowledge_bases(self) -> resources.SyncKnowledgeBases:
        """List, get and search knowledge bases."""
        return resources.SyncKnowledgeBases(self._executor)

    @cached_property
    def webhooks(self) -> resources.SyncWebhooks:
        """Webhooks and their deliveries."""
        return resources.SyncWebhooks(self._executor)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Optional[Mapping[str, Any]] = None,
        json: Any = None,
    ) -> Reply[Any]:
        """Call an endpoint that this SDK does not support yet.

        Args:
            method: the HTTP method. GET, HEAD, PUT, DELETE and OPTIONS are retried after a
                transient failure; other methods only if the request certainly had no effect.
            path: below the API root, percent-encoded, such as `/workflows`.
            params: query parameters; `None` values are left out.
            json: the request's body, a value that JSON can express; `None` for no body.

        Returns the decoded body if it is a JSON object; else a dict with the decoded body as
        `data`, which is `None` if the body is empty. Raises `FlowMaestroError` like every call, and
        `TypeError` or `ValueError` for a wrong argument.

        """
        from flowmaestro_core.calls.raw import raw_call

        return self._executor.perform(raw_call(method, path, params, json))

    def close(self) -> None:
        """Close all connections, and the transport. Later calls raise `ClientClosedError`.

        A transport that was passed to the client is closed, too, unless `owns_transport` is False.
        Then its owner closes it, and open streams stay open until they are closed. A client made
        with `with_options` uses the connections of the original client. Closing the new client
        leaves them open.
        """
        self._executor.close()

    def __enter__(self: C) -> C:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class AsyncFlowMaestroClient(_Client):
    """The async client, on asyncio and trio.

    ```python
    async with AsyncFlowMaestroClient(api_key="fm_live_...") as client:
        run = await client.workflows.run("wf_123", inputs={"name": "John"})
        print(run["outputs"])
    ```
    """

    @with_hints(OF_CLIENT)
    def __init__(
        self,
        api_key: Optional[str] = None,
        *,
        base_url: Optional[str] = None,
        timeout: Optional[float] = DEFAULT_TIMEOUT,
        call_timeout: Optional[float] = None,
        max_retries: Optional[int] = DEFAULT_MAX_RETRIES,
        headers: Optional[Mapping[str, str]] = None,
        transport: Union[AsyncTransport, AsyncFunction, None] = None,
        stream_times: Optional[option_types.StreamTimes] = None,
        hooks: Optional[option_types.Hooks] = None,
        max_reply_size: Optional[int] = MAX_REPLY_SIZE,
        owns_transport: bool = True,
    ) -> None:
        """Create a client. Arguments and errors are those of `FlowMaestroClient`.

        `transport` is an `AsyncTransport`, or a function (coroutine or plain) from `Request` to
        `Response`; by default, an `AnyioTransport`, made at the first call. Hooks may be coroutine
        functions.
        """
        from flowmaestro.assembly import async_executor, options_of, set_up_log

        set_up_log()
        options = options_of(
            api_key, base_url, timeout, max_retries, headers, transport, call_timeout
        )
        self._executor: AsyncExecutor = async_executor(
            options, transport, stream_times, hooks, max_reply_size, owns_transport
        )

    @cached_property
    def workflows(self) -> resources.AsyncWorkflows:
        """List, get and run workflows."""
        return resources.AsyncWorkflows(self._executor)

    @cached_property
    def executions(self) -> resources.AsyncExecutions:
        """Executions of workflows: their state, their events, their results."""
        return resources.AsyncExecutions(self._executor)

    @cached_property
    def agents(self) -> resources.AsyncAgents:
        """Agents, their memory, and new threads with them."""
        return resources.AsyncAgents(self._executor)

    @cached_property
    def threads(self) -> resources.AsyncThreads:
        """Conversations with agents."""
        return resources.AsyncThreads(self._executor)

    @cached_property
    def triggers(self) -> resources.AsyncTriggers:
        """Triggers, which start workflows."""
        return resources.AsyncTriggers(self._executor)

    @cached_property
    def knowledge_bases(self) -> resources.AsyncKnowledgeBases:
        """List, get and search knowledge bases."""
        return resources.AsyncKnowledgeBases(self._executor)

    @cached_property
    def webhooks(self) -> resources.AsyncWebhooks:
        """Webhooks and their deliveries."""
        return resources.AsyncWebhooks(self._executor)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Optional[Mapping[str, Any]] = None,
        json: Any = None,
    ) -> Reply[Any]:
        """Call an endpoint that this SDK does not support yet.

        Args:
            method: the HTTP method. GET, HEAD, PUT, DELETE and OPTIONS are retried after a
                transient failure; other methods only if the request certainly had no effect.
            path: below the API root, percent-encoded, such as `/workflows`.
            params: query parameters; `None` values are left out.
            json: the request's body, a value that JSON can express; `None` for no body.

        Returns the decoded body if it is a JSON object; else a dict with the decoded body as
        `data`, which is `None` if the body is empty. Raises `FlowMaestroError` like every call, and
        `TypeError` or `ValueError` for a wrong argument.

        """
        # Unlike the sync form: mypy needs to be told the type of what is awaited.
        from flowmaestro_core.calls.raw import raw_call

        reply: Reply[Any] = await self._executor.perform(raw_call(method, path, params, json))
        return reply

    async def close(self) -> None:
        """Close all connections, and the transport. Later calls raise `ClientClosedError`.

        A transport that was passed to the client is closed, too, unless `owns_transport` is False.
        Then its owner closes it, and open streams stay open until they are closed. A client made
        with `with_options` uses the connections of the original client. Closing the new client
        leaves them open.
        """
        await self._executor.close()

    async def aclose(self) -> None:
        """Close all connections, as `close`. `contextlib.aclosing` calls this name."""
        # Unlike the sync form: contextlib.aclosing calls this name.
        await self.close()

    async def __aenter__(self: C) -> C:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    if not TYPE_CHECKING:  # A type checker knows that it cannot be used so.
        # Unlike the sync form: only this one may be entered with a plain `with` by mistake.
        def __enter__(self) -> None:
            raise TypeError("AsyncFlowMaestroClient is async: write `async with`")

        def __exit__(self, *exc: object) -> None: ...
