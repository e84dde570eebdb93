"""Assertions about the requests, executions and webhook deliveries of a fake.

A failed assertion lists the latest requests, or the latest deliveries.
"""

from __future__ import annotations

import difflib
import json
from itertools import groupby
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, get_args

from flowmaestro.testing.arguments import one_of
from flowmaestro.testing.fake.model.endpoints import ROUTES
from flowmaestro.testing.fake.model.requests import RecordedRequest, pattern
from flowmaestro.testing.fake.model.world import World
from flowmaestro.testing.redaction import redacted_text
from flowmaestro_core.arguments import check_count, mapping, text
from flowmaestro_core.records import digest_of
from flowmaestro_core.types import WebhookEventType

_PLURALS = {"delivery": "deliveries", "execution": "executions", "request": "requests"}
SHOWN = 20
"""How many lines of a list a failed assertion shows, the latest ones: about one screen. Equal
lines in a row are one."""


class Assertions(World):
    """The assertions of a fake. Each raises `AssertionError` if it does not hold."""

    def assert_called(
        self,
        method: Optional[str] = None,
        path: Optional[str] = None,
        *,
        params: Optional[Mapping[str, Any]] = None,
        json: Any = None,
        times: Optional[int] = None,
    ) -> None:
        """Raise `AssertionError` unless a fitting request was made.

        It must have been made at least once, or exactly `times` times.

        A request fits if it agrees with every argument that is given. `path` is below the API root,
        such as `/workflows/wf_123/execute`; `*` stands for any one segment. `params` and `json` are
        the whole query and the whole body; `True` and 1 are different. Raises `ValueError` for an
        unknown method or a malformed path; with `times=0`, also if no endpoint has this method and
        path.
        """
        __tracebackhide__ = True
        wanted: Dict[str, Any] = {}
        query = mapping("params", params)
        if query is not None:
            wanted["params"] = {name: str(value) for name, value in query.items()}
        if json is not None:
            wanted["json"] = json
        meant = pattern(method, path)
        if times == 0 and not any(meant.fits_route(it.method, it.template) for it in ROUTES):
            raise ValueError(f"{meant} is not a call of the API, so it can never be called")
        _check(
            str(meant),
            wanted,
            [
                {name: getattr(request, name) for name in wanted}
                for request in self.requests
                if meant.fits(request.method, request.path)
            ],
            times,
            self._shown,
        )

    def assert_not_called(self, method: Optional[str] = None, path: Optional[str] = None) -> None:
        """Raise `AssertionError` if a request fits `method` and `path`.

        Without arguments, raise it if there was any request at all. `path` is below the API root;
        `*` stands for any one segment. Raises `ValueError` if no endpoint has this method and path.
        """
        __tracebackhide__ = True
        self.assert_called(method, path, times=0)

    def assert_executed(
        self,
        workflow_id: str,
        inputs: Optional[Mapping[str, Any]] = None,
        *,
        times: Optional[int] = None,
    ) -> None:
        """Check that the workflow was started: at least once, or exactly `times` times.

        `inputs` are all inputs of the execution, and `True` differs from 1. Without `inputs`, the
        inputs of an execution do not matter.
        """
        __tracebackhide__ = True
        text("workflow_id", workflow_id)
        given = mapping("inputs", inputs)
        wanted = {} if given is None else {"inputs": given}
        executions = self.executions
        ids = dict.fromkeys(execution.workflow.id for execution in executions)
        others = [] if workflow_id in ids or not ids else ["Executed:", *_listed(list(ids))]
        _check(
            f"execution of {workflow_id}",
            wanted,
            [
                {name: getattr(execution, name) for name in wanted}
                for execution in executions
                if execution.workflow.id == workflow_id
            ],
            times,
            lambda: [*others, *self._shown()],
        )

    def assert_delivered(self, event: str, *, times: Optional[int] = None) -> None:
        """Check that `event` was delivered to a webhook: at least once, or exactly `times` times.

        Of a delivery that is sent again, only the last attempt counts. Raises `ValueError` for an
        unknown event.
        """
        __tracebackhide__ = True
        one_of("event", event, get_args(WebhookEventType))
        found: List[Dict[str, Any]] = [
            {}
            for delivery in self.deliveries
            if delivery.event == event and delivery.state == "delivered"
        ]
        _check(f"delivery of {event}", {}, found, times, self._shown_deliveries)

    def report(self) -> str:
        """Return a text that lists what a test may have stumbled over.

        These are the latest requests, the latest executions that did not complete, with the reason
        or the present node, and requested ids that did not exist.
        """
        return "\n".join([*self._shown(), *self._shown_incomplete(), *self._shown_missed()])

    def _shown(self) -> List[str]:
        return ["Called:", *_listed([_line(request) for request in self.requests])]

    def _shown_incomplete(self) -> List[str]:
        lines = [
            f"{it.workflow.id} {it.status}"
            + (f" at {it.current_node.id}" if it.current_node and not it.ended else "")
            + (f": {redacted_text(it.error)}" if it.error else "")
            for it in self.executions
            if it.status != "completed"
        ]
        return ["Did not complete:", *_listed(lines)] if lines else []

    def _shown_missed(self) -> List[str]:
        lines = [
            f"{kind} {id}; " + (f"the latest are {', '.join(ids)}" if ids else "there is none")
            for (kind, id), ids in list(self._service.missed.items())
        ]
        title = "Not there (an id may have any form in the fake):"
        return [title, *_listed(lines)] if lines else []

    def _shown_deliveries(self) -> List[str]:
        lines = [
            f"{it.event} {it.state} after {it.attempts} attempt{'s' if it.attempts > 1 else ''}"
            for it in self.deliveries
        ]
        return ["Delivered:", *_listed(lines)]


def _check(
    what: str,
    wanted: Mapping[str, Any],
    found: Sequence[Mapping[str, Any]],
    times: Optional[int],
    shown: Callable[[], List[str]],
) -> None:
    """Raise `AssertionError` unless exactly `times` of `found` equal `wanted`.

    With `times=None`, at least one must. `what` names one of `found` in the message, which ends
    with the lines that `shown` returns.
    """
    __tracebackhide__ = True
    if times is not None:
        check_count("times", times, 0)
    count = sum(_same(it, wanted) for it in found)
    if count > 0 if times is None else count == times:
        return
    these = " and ".join(wanted)
    with_these = f" with the given {these}" if wanted else ""
    lines = [f"expected {_number(times, what)}{with_these}; there {_counted(count)}"]
    if wanted and found and not count:
        lines[0] += f", but {len(found)} with something else"
        lines += _difference(wanted, found)
    raise AssertionError("\n".join([*lines, *shown()]))


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are the same in JSON, where `true` differs from 1."""
    first, second = (digest_of(json.dumps(value, default=repr)) for value in (one, other))
    return first == second


def _number(times: Optional[int], what: str) -> str:
    if times is None:
        return f"at least one {what}"
    if times == 0:
        return f"no {what}"
    thing, space, rest = what.partition(" ")
    return f"exactly {times} {thing if times == 1 else _PLURALS.get(thing, thing)}{space}{rest}"


def _counted(count: int) -> str:
    return "was one" if count == 1 else f"were {count or 'none'}"


def _difference(wanted: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> List[str]:
    """Return a diff between `wanted` and the most similar of `found`, as lines."""
    expected = _text(wanted)
    texts = [_text(it) for it in found]
    closest = max(texts, key=lambda text: difflib.SequenceMatcher(None, expected, text).ratio())
    changes = [line for line in difflib.ndiff(expected, closest) if not line.startswith("?")]
    return ["- expected", "+ the most similar call", *changes]


def _text(value: Any) -> List[str]:
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=repr)
    return redacted_text(text).splitlines()


def _line(request: RecordedRequest) -> str:
    request = request.shown()
    query = "".join(
        f"{'&' if index else '?'}{name}={value}"
        for index, (name, value) in enumerate(request.params.items())
    )
    body = "" if request.json is None else f" {json.dumps(request.json, ensure_ascii=False)}"
    status = "no response" if request.status is None else request.status
    return f"{request.method} {request.path}{query}{body} -> {status}"


def _listed(lines: Sequence[str]) -> List[str]:
    if not lines:
        return ["  nothing"]
    runs = [(line, len(list(same))) for line, same in groupby(lines)]
    left_out = sum(times for _, times in runs[:-SHOWN])
    first = [f"  ({left_out} before)"] if left_out else []
    shown = (f"{line} ({times} times)" if times > 1 else line for line, times in runs[-SHOWN:])
    return [*first, *(f"  {line}" for line in shown)]
