"""Transports: the contract, the two drivers, and a folder for each HTTP stack.

Each HTTP stack is imported when its transport is first asked for, never before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, List

from flowmaestro_core.http.messages import (
    Headers,
    Phase,
    Request,
    Response,
    ResponseHead,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_core.timeouts import Timeout
from flowmaestro_transports.contract import (
    AsyncOpenResponse,
    AsyncTransport,
    Interruptible,
    InterruptibleTransport,
    OpenResponse,
    RandomSource,
    Releasable,
    Transport,
)

if TYPE_CHECKING:
    from flowmaestro_transports.aiohttp.transport import AiohttpTransport
    from flowmaestro_transports.anyio.transport import AnyioTransport
    from flowmaestro_transports.requests.transport import RequestsTransport
    from flowmaestro_transports.sockets.transport import SocketTransport

__all__ = [
    "AiohttpTransport",
    "AnyioTransport",
    "AsyncOpenResponse",
    "AsyncTransport",
    "Headers",
    "Interruptible",
    "InterruptibleTransport",
    "OpenResponse",
    "Phase",
    "RandomSource",
    "Releasable",
    "Request",
    "RequestsTransport",
    "Response",
    "ResponseHead",
    "SocketTransport",
    "Timeout",
    "Transport",
    "TransportClosedError",
    "TransportFailure",
]

_STACKS = {
    "AiohttpTransport": "aiohttp",
    "AnyioTransport": "anyio",
    "RequestsTransport": "requests",
    "SocketTransport": "sockets",
}


def __getattr__(name: str) -> Any:
    if name not in _STACKS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    stack = _STACKS[name]
    try:
        return getattr(import_module(f"{__name__}.{stack}.transport"), name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{name} needs {error.name}: pip install 'flowmaestro[{stack}]'", name=error.name
        ) from error


def __dir__() -> List[str]:
    return __all__
