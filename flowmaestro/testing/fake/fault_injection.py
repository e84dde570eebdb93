"""Faults that a test injects: error responses, lost connections, rate limits, delays."""

from __future__ import annotations

from typing import Optional

from flowmaestro.testing.arguments import check_seconds, whole
from flowmaestro.testing.fake.model.dialects import filled
from flowmaestro.testing.fake.model.endpoints import ROUTES
from flowmaestro.testing.fake.model.faults import Fault
from flowmaestro.testing.fake.model.requests import pattern
from flowmaestro.testing.fake.model.world import World
from flowmaestro_core.arguments import check_count


class FaultInjection(World):
    """The methods that set the faults and limits of a fake.

    A method that returns a fault raises `ValueError` if no endpoint has the `path`.
    """

    def fail_next(
        self,
        times: int = 1,
        status: int = 503,
        *,
        method: Optional[str] = None,
        path: Optional[str] = None,
        retry_after: Optional[float] = None,
    ) -> Fault:
        """Answer the next `times` requests with an error, without carrying them out.

        Return the fault, which `disarm` can remove.

        Args:
            times: how many requests fail.
            status: the HTTP status, from 400 to 599. A 403 for an endpoint, a 404 for a path with
                an id, and a 429 with `retry_after` have details in their body as those of the
                service do.
            method: only requests of this method.
            path: only requests to this path, below the API root; `*` stands for any one segment.
            retry_after: the value of `Retry-After` in the response, in seconds.

        """
        if not whole(status) or not 400 <= status <= 599:
            raise ValueError(f"status must be that of an error, from 400 to 599, not {status!r}")
        if retry_after is not None:
            check_seconds("retry_after", retry_after)
        check_count("times", times)
        return self._expect(Fault(pattern(method, path), times, status, retry_after))

    def drop_connection(
        self,
        after_events: Optional[int] = None,
        *,
        times: int = 1,
        method: Optional[str] = None,
        path: Optional[str] = None,
    ) -> Fault:
        """Lose the connection of the next `times` requests. Return the fault.

        By default, the request is carried out, and the connection is lost before the response.
        With `after_events`, only requests that are answered with an event stream are affected:
        their connection is lost after that many events, counting `connected`. `method` and `path`
        select the requests: `path` is below the API root, and `*` in it stands for any one segment.
        """
        if after_events is not None:
            check_count("after_events", after_events, 0)
        check_count("times", times)
        meant = pattern(method, path)
        return self._expect(Fault(meant, times, after_events=after_events))

    def delay_next(
        self,
        seconds: float,
        times: int = 1,
        *,
        method: Optional[str] = None,
        path: Optional[str] = None,
    ) -> Fault:
        """Delay the responses to the next `times` requests by `seconds`. Return the fault.

        The requests are carried out at once. `method` and `path` select the requests: `path` is
        below the API root, and `*` in it stands for any one segment.
        """
        check_seconds("seconds", seconds)
        if not seconds:
            raise ValueError("seconds must be above 0")
        check_count("times", times)
        return self._expect(Fault(pattern(method, path), times, delay=seconds))

    def rate_limit(
        self, *, per_minute: Optional[int] = None, per_day: Optional[int] = None
    ) -> None:
        """Set how many requests of each key the fake accepts in a minute and in a day.

        Both windows are fixed: each opens with the first request in it. A window that is
        already open includes the requests from before this call. A limit that is left out stays as
        it is; at least one of the two must be given.
        """
        limits = filled(minute=per_minute, day=per_day)
        if not limits:
            raise ValueError("pass per_minute, per_day or both")
        for window, limit in limits.items():
            check_count(f"per_{window}", limit)
        with self.lock:
            self._keys.limits.update(limits)

    def set_credits(self, executions: Optional[int]) -> None:
        """Set how many more executions the account can pay for; `None` for no limit.

        The start of any further execution is accepted, but the execution fails when it begins. A
        fake with `shapes="documented"` refuses the start with 402 instead.
        """
        if executions is not None:
            check_count("executions", executions, 0)
        with self.lock:
            self._service.credits = executions

    def latency(self, seconds: float) -> None:
        """Delay every response by `seconds`. Its request is carried out at once."""
        check_seconds("seconds", seconds)
        with self.lock:
            self._faults.latency = seconds

    def _expect(self, fault: Fault) -> Fault:
        anyhow = fault.pattern._replace(method=None)
        if not any(anyhow.fits_route(route.method, route.template) for route in ROUTES):
            raise ValueError(f"path must be a path of the API, not {anyhow.path!r}")
        with self.lock:
            self._faults.add(fault)
        return fault
