"""The timeline of a run as an SVG, readable in light and dark, alone or in an `<img>`."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from typing import Any, Mapping, Union, cast

from flowmaestro_core.errors import TimeoutError
from flowmaestro_core.executions.outcome import EndedExecution
from flowmaestro_core.handles import AsyncEventStream, EventStream
from flowmaestro_core.payloads.reply import Reply
from flowmaestro_core.showing.timeline import WIDTH, timeline_svg
from flowmaestro_core.types import Execution

__all__ = ["timeline_of", "timeline_svg"]


def timeline_of(
    run: Union[
        Execution,
        EndedExecution[Any],
        Reply[Execution],
        EventStream[Any],
        AsyncEventStream[Any],
        TimeoutError,
    ],
    *,
    width: int = WIDTH,
    transparent: bool = False,
) -> str:
    """Draw the timeline of a run, and return the text of an SVG document.

    The picture shows at most the last 1,000 of the run's events that a timeline needs.

    Args:
        run: an execution, for example from `workflows.run`, a reply whose `data` is one, the
            handle of an execution's stream, which need not have ended, or the `TimeoutError` of
            `workflows.run`.
        width: the width of the picture in pixels, at least 320.
        transparent: draw no background, in colours that are readable on white and on black.

    Raises `TypeError` if `run` is none of these, and `ValueError` for a `width` below 320.

    """
    given: Any = run
    if not isinstance(given, AnyMapping):
        if getattr(given, "seen_events", None) is None:
            raise TypeError(f"run must be an execution or its stream, not {type(run).__name__}")
        about = given.last_execution if isinstance(given, TimeoutError) else given.last_seen
        return timeline_svg(
            given.seen_events, execution=about, width=width, transparent=transparent
        )
    execution = cast("Mapping[str, Any]", given)
    if "status" not in execution and isinstance(execution.get("data"), AnyMapping):
        execution = execution["data"]
    if "status" not in execution:
        raise TypeError("run must be an execution or its stream, not a mapping without a status")
    events = getattr(execution, "seen_events", None)
    return timeline_svg(events, execution=execution, width=width, transparent=transparent)
