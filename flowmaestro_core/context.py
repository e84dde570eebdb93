"""The state that all machines of one client share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Callable, Iterable, Tuple

from flowmaestro_core.arguments import check_count
from flowmaestro_core.defaults import MAX_REPLY_SIZE
from flowmaestro_core.http.scrub import SecretScrubber, no_secrets
from flowmaestro_core.options import ClientOptions
from flowmaestro_core.policy.pace import Pace
from flowmaestro_core.policy.retry import RetryBudget
from flowmaestro_core.policy.stream_times import StreamTimes

_DEFAULT_TIMES = StreamTimes()


class ServerSeen:
    """Facts that the calls of one client have learned about its server.

    Attributes:
        has_answered: whether any call got a response, whatever its status. If so, the base URL
            leads to a server, so a start that could not be sent is worth repeating.
        client_closed: whether the client itself was closed. If not, somebody else has closed its
            transport.

    """

    __slots__ = ("client_closed", "has_answered")

    def __init__(self) -> None:
        self.has_answered: bool = False
        self.client_closed: bool = False


@dataclass(frozen=True)
class Context:
    """The options of a client, and the state that all its calls share.

    `max_reply_size` is the most bytes of a response that are decoded as JSON. The decoded value may
    take many times that memory. `secrets` returns the secrets that the transport sends beside the
    requests, such as a proxy's password. `former_keys` are the API keys that `with_options` has
    replaced by another one, in this context and in those that it was derived from.
    """

    options: ClientOptions
    budget: RetryBudget = field(default_factory=RetryBudget)
    pace: Pace = field(default_factory=Pace, repr=False)
    stream_times: StreamTimes = _DEFAULT_TIMES
    max_reply_size: int = MAX_REPLY_SIZE
    server: ServerSeen = field(default_factory=ServerSeen, repr=False)
    secrets: Callable[[], Iterable[str]] = field(default=no_secrets, repr=False)
    former_keys: Tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        check_count("max_reply_size", self.max_reply_size)
        if not isinstance(self.stream_times, StreamTimes):
            raise TypeError(
                f"stream_times must be a StreamTimes, not {type(self.stream_times).__name__}"
            )

    @cached_property
    def scrubber(self) -> SecretScrubber:
        """The scrubber that redacts the secrets of this client in error messages."""
        return SecretScrubber(
            self.options.request_headers().pairs, lambda: (*self.secrets(), *self.former_keys)
        )

    def with_options(self, options: ClientOptions) -> Context:
        """Return a copy with other options, which shares the retry budget, the pace and `server`.

        With another key, it has a pace of its own: rate limits are those of a key.
        The options must have the same base URL, as those of `ClientOptions.with_changes` have.

        With another key, errors of the copy redact the former key, too: requests that were sent
        with it may still be in flight on the connections that both share.
        """
        keys = self.former_keys
        former = self.options.api_key
        if options.api_key != former and former not in keys:
            keys = (*keys, former)
        pace = self.pace if options.api_key == former else Pace()
        return replace(self, options=options, pace=pace, former_keys=keys)
