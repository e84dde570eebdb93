"""API keys, their scopes and fixed-window rate limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Dict, FrozenSet, Iterable, List, Literal, Mapping, Optional, Tuple

from flowmaestro.testing.fake.model.endpoints import ROUTES
from flowmaestro.testing.fake.model.refusals import Refusal, lacking_scopes, rate_limited
from flowmaestro_core.http.messages import Headers

KeyState = Literal["active", "expired", "revoked"]

ALL_SCOPES = frozenset(scope for route in ROUTES for scope in route.scopes)
READ_SCOPES = frozenset(scope for scope in ALL_SCOPES if scope.endswith(":read"))

MISSING_KEY = "Missing API key. Provide it via the X-API-Key header or as a bearer token."
"""The known beginning of the deployed server's message; the rest of it is not known."""


@dataclass
class Window:
    """A fixed window of a rate limit. It opens with the first request in it."""

    name: str
    seconds: float
    used: int = 0
    ends: float = -math.inf

    def roll(self, now: float) -> None:
        """Open a new window if the last one has ended."""
        if now >= self.ends:
            self.used = 0
            self.ends = now + self.seconds


@dataclass
class ApiKey:
    """An API key: secret, scopes, state, and its use of the rate limits of a minute and a day."""

    secret: str = field(repr=False)
    scopes: FrozenSet[str]
    state: KeyState
    minute: Window = field(default_factory=lambda: Window("minute", 60.0))
    day: Window = field(default_factory=lambda: Window("day", 86_400.0))

    def admit(self, now: float, limits: Mapping[str, int]) -> None:
        """Count one request at `now`. If a window is full, raise a 429 refusal instead."""
        windows = (self.day, self.minute)
        for window in windows:
            window.roll(now)
        for window in windows:
            if window.used >= limits[window.name]:
                retry_after = max(1, math.ceil(window.ends - now))
                raise rate_limited(limits[window.name], window.name, retry_after)
        for window in windows:
            window.used += 1

    def require(self, scopes: Iterable[str]) -> None:
        """Raise a 403 refusal unless the key has all of `scopes`."""
        needed = frozenset(scopes)
        if not needed <= self.scopes:
            raise lacking_scopes(needed, self.scopes)

    def limit_headers(self, resets_at: float, limits: Mapping[str, int]) -> List[Tuple[str, str]]:
        """Return the header fields that report the rate limits and how many requests are left.

        `limits` has how many requests are allowed in a `"minute"` and in a `"day"`. `resets_at` is
        when the window of the minute ends, in Unix seconds. The end of the day's window is not
        reported.
        """
        minute, day = limits["minute"], limits["day"]
        return [
            ("X-RateLimit-Limit", str(minute)),
            ("X-RateLimit-Remaining", str(max(0, minute - self.minute.used))),
            ("X-RateLimit-Reset", str(math.ceil(resets_at))),
            ("X-RateLimit-Limit-Day", str(day)),
            ("X-RateLimit-Remaining-Day", str(max(0, day - self.day.used))),
        ]


class KeyRing:
    """All known keys. `limits` are the limits that apply to each key, by the name of the window."""

    STATE = ("limits", "_keys")

    def __init__(self, *, accepts_test_keys: bool) -> None:
        # Twenty times those of a pro key: a test meets a limit only if it sets one.
        self.limits: Dict[str, int] = {"minute": 6_000, "day": 1_000_000}
        self._accepts_test_keys = accepts_test_keys
        self._keys: Dict[str, ApiKey] = {}
        self._accepts_unknown = False

    def add(
        self, secret: str, scopes: Iterable[str] = ALL_SCOPES, state: KeyState = "active"
    ) -> None:
        """Add `secret` as a key. It replaces a key with the same secret."""
        self._keys[secret] = ApiKey(secret, frozenset(scopes), state)

    def revoke_all(self) -> None:
        """Revoke every key that is valid now."""
        self._keys = {
            secret: replace(key, state="revoked") if key.state == "active" else key
            for secret, key in self._keys.items()
        }

    def accept_unknown_keys(self) -> None:
        """Accept unknown keys from now on, with every scope.

        Also accept known test keys (`fm_test_`), which the deployed server refuses. Each keeps its
        own scopes.
        """
        self._accepts_unknown = True

    def identify(self, headers: Headers) -> ApiKey:
        """Return the API key of a request. Raise a 401 refusal if the request has no valid one."""
        secret = _presented(headers)
        if secret is None:
            raise Refusal(401, "invalid_api_key", MISSING_KEY)
        if self._accepts_unknown and secret not in self._keys:
            self.add(secret)
        key = self._keys.get(secret)
        takes_tests = self._accepts_test_keys or self._accepts_unknown
        if key is None or (secret.startswith("fm_test_") and not takes_tests):
            known_form = secret.startswith(("fm_live_", "fm_test_"))
            message = "API key not found." if known_form else "Invalid API key format."
            raise Refusal(401, "invalid_api_key", message)
        if key.state != "active":
            raise Refusal(401, f"{key.state}_api_key", f"API key has been {key.state}")
        return key


def _presented(headers: Headers) -> Optional[str]:
    """Return the key that a request presents: `X-API-Key`, or else a bearer token, or `None`."""
    if "x-api-key" in headers:
        return headers["x-api-key"].strip()
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
