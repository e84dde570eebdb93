"""What a request may do, and how often: API keys, scopes and fixed-window rate limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Callable, Dict, FrozenSet, Iterable, List, Literal, Optional, Tuple

from flowmaestro.testing.model.refusals import Refusal, lacking_scopes, rate_limited
from flowmaestro_core.http.messages import Headers

KeyState = Literal["active", "expired", "revoked"]

READ_SCOPES = frozenset(
    f"{resource}:read"
    for resource in (
        *("workflows", "executions", "agents", "threads", "triggers"),
        *("knowledge-bases", "webhooks"),
    )
)
ALL_SCOPES = READ_SCOPES | {
    *("workflows:execute", "executions:cancel", "agents:execute", "threads:write"),
    *("triggers:execute", "knowledge-bases:query", "webhooks:write"),
}


class Window:
    """A fixed window: it opens with the first request in it and admits `limit` of them."""

    def __init__(self, name: str, seconds: float, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.used = 0
        self.ends = -math.inf
        self._seconds = seconds

    def roll(self, now: float) -> None:
        """Open a new window if the last one has ended."""
        if now >= self.ends:
            self.used = 0
            self.ends = now + self._seconds

    @property
    def remaining(self) -> int:
        """Requests that are still admitted."""
        return max(0, self.limit - self.used)


@dataclass
class ApiKey:
    """One key, what it is good for, and what it has used up."""

    secret: str = field(repr=False)
    scopes: FrozenSet[str]
    state: KeyState
    minute: Window
    day: Window

    def admit(self, now: float) -> None:
        """Count one request at `now`; raises a 429 refusal when a window is full."""
        windows = (self.day, self.minute)
        for window in windows:
            window.roll(now)
        for window in windows:
            if window.remaining <= 0:
                retry_after = max(1, math.ceil(window.ends - now))
                raise rate_limited(window.limit, window.name, retry_after)
        for window in windows:
            window.used += 1

    def require(self, scopes: Iterable[str]) -> None:
        """Raises a 403 refusal unless the key holds every one of `scopes`."""
        needed = frozenset(scopes)
        if not needed <= self.scopes:
            raise lacking_scopes(needed, self.scopes)

    def limit_headers(self, resets_at: float) -> List[Tuple[str, str]]:
        """The rate limit headers of every authenticated reply; `resets_at` in Unix seconds."""
        return [
            ("X-RateLimit-Limit", str(self.minute.limit)),
            ("X-RateLimit-Remaining", str(self.minute.remaining)),
            ("X-RateLimit-Reset", str(math.ceil(resets_at))),
            ("X-RateLimit-Limit-Day", str(self.day.limit)),
            ("X-RateLimit-Remaining-Day", str(self.day.remaining)),
        ]


class KeyRing:
    """Every key that the service knows; `per_minute` and `per_day` are each key's limits."""

    def __init__(self, per_minute: int, per_day: int, *, accepts_test_keys: bool) -> None:
        self._limits = (per_minute, per_day)
        self._accepts_test_keys = accepts_test_keys
        self._keys: Dict[str, ApiKey] = {}
        self._adopts = False

    def add(
        self, secret: str, scopes: Iterable[str] = ALL_SCOPES, state: KeyState = "active"
    ) -> None:
        """Make `secret` a key."""
        per_minute, per_day = self._limits
        minute = Window("minute", 60.0, per_minute)
        day = Window("day", 86_400.0, per_day)
        self._keys[secret] = ApiKey(secret, frozenset(scopes), state, minute, day)

    def limit(self, per_minute: Optional[int], per_day: Optional[int]) -> None:
        """Change each key's limits, those of keys to come included; `None` leaves one alone."""
        minute, day = self._limits
        self._limits = (
            minute if per_minute is None else per_minute,
            day if per_day is None else per_day,
        )
        for key in self._keys.values():
            key.minute.limit, key.day.limit = self._limits

    def undo(self) -> Callable[[], None]:
        """What brings back the keys and the limits of now, and only those."""
        keys, limits = dict(self._keys), self._limits

        def restore() -> None:
            self._keys = keys
            self.limit(*limits)

        return restore

    def adopt_strangers(self) -> None:
        """From now on, take a key that is not known for one that may do everything."""
        self._adopts = True

    def identify(self, headers: Headers) -> ApiKey:
        """The key that a request bears; raises a 401 refusal when it bears no good one."""
        secret = _presented(headers)
        if secret is None:
            raise Refusal(401, "invalid_api_key", "API key is required")
        if self._adopts and secret not in self._keys:
            self.add(secret)
        key = self._keys.get(secret)
        takes_tests = self._accepts_test_keys or self._adopts
        if key is None or (secret.startswith("fm_test_") and not takes_tests):
            raise Refusal(401, "invalid_api_key", "Invalid API key")
        if key.state != "active":
            raise Refusal(401, f"{key.state}_api_key", f"API key has been {key.state}")
        return key


def _presented(headers: Headers) -> Optional[str]:
    """`X-API-Key`, or a bearer token, which counts only when there is no `X-API-Key`."""
    if "x-api-key" in headers:
        return headers["x-api-key"].strip()
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
