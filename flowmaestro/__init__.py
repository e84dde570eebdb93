"""FlowMaestro for Python: run workflows and talk to agents.

```python
from flowmaestro import FlowMaestroClient

with FlowMaestroClient(api_key="fm_live_...") as client:
    response = client.workflows.execute("wf_123", inputs={"name": "John"})
    result = client.executions.wait_for_completion(response["data"]["execution_id"])
    print(f"Result: {result['outputs']}")
```

`AsyncFlowMaestroClient` is the same with `await`. Types are in `flowmaestro.types`, webhook
verification in `flowmaestro.webhooks`, and a FlowMaestro for tests in `flowmaestro.testing`.
"""

from flowmaestro.client import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.errors import (
    AuthenticationError,
    AuthorizationError,
    ClientClosedError,
    ConflictError,
    ConnectionError,
    FlowMaestroError,
    InsufficientCreditsError,
    NotFoundError,
    RateLimitError,
    ServerError,
    StreamError,
    TimeoutError,
    ValidationError,
    WebhookVerificationError,
)
from flowmaestro_core import __version__
from flowmaestro_core.stream_times import StreamTimes

__all__ = [
    "AsyncFlowMaestroClient",
    "AuthenticationError",
    "AuthorizationError",
    "ClientClosedError",
    "ConflictError",
    "ConnectionError",
    "FlowMaestroClient",
    "FlowMaestroError",
    "InsufficientCreditsError",
    "NotFoundError",
    "RateLimitError",
    "ServerError",
    "StreamError",
    "StreamTimes",
    "TimeoutError",
    "ValidationError",
    "WebhookVerificationError",
    "__version__",
]
