"""FlowMaestro for Python: run workflows and talk to agents.

```python
from flowmaestro import FlowMaestroClient

with FlowMaestroClient(api_key="fm_live_...") as client:
    response = client.workflows.execute("wf_123", inputs={"name": "John"})
    result = client.executions.wait_for_completion(response["data"]["execution_id"])
    print(f"Result: {result['outputs']}")
```

`AsyncFlowMaestroClient` is the same with `await`. Types are in `flowmaestro.types`, webhook
verification in `flowmaestro.webhooks`, and a fake FlowMaestro for tests in `flowmaestro.testing`.
"""

from importlib import import_module

TYPE_CHECKING = False  # as type checkers know it; `typing` takes longer than all of this
if TYPE_CHECKING:
    from flowmaestro.client import AsyncFlowMaestroClient, FlowMaestroClient
    from flowmaestro.errors import (
        AuthenticationError,
        AuthorizationError,
        CheckpointConflict,
        CheckpointError,
        ClientClosedError,
        ConflictError,
        ConnectionError,
        ExecutionError,
        FlowMaestroError,
        InsufficientCreditsError,
        JournalError,
        NotFoundError,
        RateLimitError,
        ServerError,
        StartUnknownError,
        StreamError,
        TimeoutError,
        ValidationError,
        WebhookVerificationError,
    )
    from flowmaestro_core import __version__
    from flowmaestro_core.checkpoint import Checkpoint
    from flowmaestro_core.policy.stream_times import StreamTimes
    from flowmaestro_core.store import AsyncStore, Store
    from flowmaestro_core.timeouts import Timeout
    from flowmaestro_transports.observing.hooks import Hooks, RequestInfo, ResponseInfo, RetryInfo

__all__ = [
    "AsyncFlowMaestroClient",
    "AsyncStore",
    "AuthenticationError",
    "AuthorizationError",
    "Checkpoint",
    "CheckpointConflict",
    "CheckpointError",
    "ClientClosedError",
    "ConflictError",
    "ConnectionError",
    "ExecutionError",
    "FlowMaestroClient",
    "FlowMaestroError",
    "Hooks",
    "InsufficientCreditsError",
    "JournalError",
    "NotFoundError",
    "RateLimitError",
    "RequestInfo",
    "ResponseInfo",
    "RetryInfo",
    "ServerError",
    "StartUnknownError",
    "Store",
    "StreamError",
    "StreamTimes",
    "Timeout",
    "TimeoutError",
    "ValidationError",
    "WebhookVerificationError",
    "__version__",
]

_HOMES = {
    "AsyncFlowMaestroClient": "flowmaestro.client",
    "AsyncStore": "flowmaestro_core.store",
    "Checkpoint": "flowmaestro_core.checkpoint",
    "FlowMaestroClient": "flowmaestro.client",
    "Hooks": "flowmaestro_transports.observing.hooks",
    "RequestInfo": "flowmaestro_transports.observing.hooks",
    "ResponseInfo": "flowmaestro_transports.observing.hooks",
    "RetryInfo": "flowmaestro_transports.observing.hooks",
    "Store": "flowmaestro_core.store",
    "StreamTimes": "flowmaestro_core.policy.stream_times",
    "Timeout": "flowmaestro_core.timeouts",
    "__version__": "flowmaestro_core",
}
"""The module of each public name that is not in `flowmaestro.errors`."""
_MODULES = frozenset({"client", "errors", "resources", "testing", "types", "webhooks"})

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Return the public object or module `name`. It is imported when it is first read.

        The import of this package must be quick: pytest imports it in each run, only for the
        plugin. Raises `AttributeError` for any other name.
        """
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name in __all__:
            home = import_module(_HOMES.get(name, "flowmaestro.errors"))
            found = globals()[name] = getattr(home, name)
            return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__, *_MODULES})
