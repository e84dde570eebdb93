"""The assembly of a client. Missing arguments come from the environment or the defaults.

This is a separate module, so that importing a client imports only what annotations need.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Mapping, Optional, Tuple, Union

from flowmaestro_core.arguments import check_token
from flowmaestro_core.context import Context
from flowmaestro_core.defaults import (
    DEFAULT_BASE_URL,
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT,
    MAX_REPLY_SIZE,
)
from flowmaestro_core.http.urls import api_root
from flowmaestro_core.options import ClientOptions
from flowmaestro_transports.contract import (
    AsyncFunction,
    AsyncTransport,
    SyncFunction,
    Transport,
)
from flowmaestro_transports.defaults import default_async_transport, default_transport
from flowmaestro_transports.driving.executors import AsyncExecutor, ClientTransport, SyncExecutor
from flowmaestro_transports.override import current_override
from flowmaestro_transports.primitives.checks import refuse_coroutine_functions

if TYPE_CHECKING:
    from flowmaestro_core.policy.stream_times import StreamTimes
    from flowmaestro_transports.observing.hooks import Hooks


def sync_executor(
    options: ClientOptions,
    transport: Union[Transport, SyncFunction, None],
    stream_times: Optional[StreamTimes],
    hooks: Optional[Hooks],
    max_reply_size: Optional[int],
    owns_transport: bool,
) -> SyncExecutor:
    """Return the executor of a new `FlowMaestroClient`."""
    _check_ownership(transport, owns_transport)
    if transport is None:
        chosen = default_transport()
    else:
        from flowmaestro_transports.functions import as_transport

        chosen = ClientTransport(as_transport(transport), owned=owns_transport)
    context = _context(options, chosen, stream_times, max_reply_size)
    executor = SyncExecutor(chosen, context, hooks=hooks)
    if hooks is not None:
        given = hooks.functions()
        refuse_coroutine_functions({f"hooks.{name}": hook for name, hook in given.items()})
    return executor


def async_executor(
    options: ClientOptions,
    transport: Union[AsyncTransport, AsyncFunction, None],
    stream_times: Optional[StreamTimes],
    hooks: Optional[Hooks],
    max_reply_size: Optional[int],
    owns_transport: bool,
) -> AsyncExecutor:
    """Return the executor of a new `AsyncFlowMaestroClient`."""
    _check_ownership(transport, owns_transport)
    if transport is None:
        chosen = default_async_transport()
    else:
        from flowmaestro_transports.functions import as_async_transport

        chosen = ClientTransport(as_async_transport(transport), owned=owns_transport)
    context = _context(options, chosen, stream_times, max_reply_size)
    return AsyncExecutor(chosen, context, hooks=hooks)


def _check_ownership(transport: object, owns_transport: bool) -> None:
    """Raise `ValueError` if nobody would close the transport that a client makes itself."""
    if transport is None and not owns_transport:
        raise ValueError("owns_transport=False needs a transport=, which its owner closes")


def _context(
    options: ClientOptions,
    transport: ClientTransport[Any],
    stream_times: Optional[StreamTimes],
    max_reply_size: Optional[int],
) -> Context:
    return Context(
        options,
        stream_times=Context.stream_times if stream_times is None else stream_times,
        max_reply_size=MAX_REPLY_SIZE if max_reply_size is None else max_reply_size,
        secrets=transport.secrets,
    )


def options_of(
    api_key: Optional[str],
    base_url: Optional[str],
    timeout: Optional[float],
    max_retries: Optional[int],
    headers: Optional[Mapping[str, str]],
    transport: object,
    call_timeout: Optional[float] = None,
) -> ClientOptions:
    """Return the options, with missing ones taken from the environment and the defaults.

    Without an API key in arguments and environment, that of an installed fake or cassette is used,
    if there is no `transport`. Raises `ValueError` if there is no key, or if a variable that is
    used is malformed, and the errors of `ClientOptions`.
    """
    key, source = _key(api_key, transport)
    return ClientOptions(
        key,
        base_url=_base_url_from_environment() if base_url is None else base_url,
        timeout=DEFAULT_TIMEOUT if timeout is None else timeout,
        max_retries=DEFAULT_MAX_RETRIES if max_retries is None else max_retries,
        headers={} if headers is None else headers,
        call_timeout=call_timeout,
        key_source=source,
    )


def _key(given: Optional[str], transport: object) -> Tuple[str, str]:
    """Return the key that was given, that of the environment, or that of an installed override.

    The second value names this source, for people. A fake or a cassette is such an override. It is
    used only without a `transport`. Raises `ValueError` if there is no key, or if that of the
    environment is malformed.
    """
    if given is not None:
        return given, "the argument api_key"
    key = os.environ.get("FLOWMAESTRO_API_KEY")
    if not key:
        override = current_override() if transport is None else None
        if override is not None:
            return override.api_key, "the installed fake or cassette"
    if key is None:
        raise ValueError("no API key: pass api_key= or set FLOWMAESTRO_API_KEY")
    check_token("api_key, from FLOWMAESTRO_API_KEY,", key)
    return key, "the environment variable FLOWMAESTRO_API_KEY"


def _base_url_from_environment() -> str:
    url = os.environ.get("FLOWMAESTRO_BASE_URL")
    if not url:
        return DEFAULT_BASE_URL
    try:
        api_root(url)
    except ValueError as error:
        raise ValueError(f"FLOWMAESTRO_BASE_URL: {error}") from None
    return url


def set_up_log() -> None:
    """Log to standard error, if `FLOWMAESTRO_LOG` is set and not empty."""
    level = os.environ.get("FLOWMAESTRO_LOG")
    if level:
        from flowmaestro.log_to_stderr import log_to_stderr

        log_to_stderr(level)
