"""What the machines of one client have in common."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from flowmaestro_core.options import ClientOptions
from flowmaestro_core.retry import RetryBudget, RetryPolicy
from flowmaestro_core.stream_times import StreamTimes


@dataclass(frozen=True)
class Context:
    """The options of a client, and what all its calls share: the retry budget."""

    options: ClientOptions
    budget: RetryBudget = field(default_factory=RetryBudget)
    stream_times: StreamTimes = field(default_factory=StreamTimes)

    @property
    def retry_policy(self) -> RetryPolicy:
        """The policy for calls that are not told another."""
        return RetryPolicy(max_retries=self.options.max_retries)

    def with_options(self, options: ClientOptions) -> Context:
        """The same, under other options; the budget stays shared."""
        return replace(self, options=options)
