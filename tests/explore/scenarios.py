"""The scenarios of the explorer, and how many faults each is tried with."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from tests.explore.scenario import Rows, Scenario

EQUAL: Rows = ({"n": 1}, {"n": 1})
TWO: Rows = ({"n": 1}, {"n": 2})
THREE: Rows = ({"n": 1}, {"n": 2}, {"n": 1})
MORE: Rows = (*TWO, {"n": 3})
CHANGED: Rows = ({"n": 9},)
START: Tuple[Tuple[str, Any], ...] = (("on_unknown", "start"),)
RERUN: Tuple[Tuple[str, Any], ...] = (("rerun", ("failed",)),)
REDO: Tuple[Tuple[str, Any], ...] = (("redo", (0,)),)
ORDERED: Tuple[Tuple[str, Any], ...] = (("ordered", True), ("concurrency", 2))
FAILING = ("failed", "completed")


def _of_both(name: str, **more: Any) -> Tuple[Scenario, ...]:
    """Return a scenario of a batch of one row, and the same one of a checkpoint."""
    names = [f"{kind}-{name}" if name else kind for kind in ("batch", "checkpoint")]
    return tuple(Scenario(it, kind=it.partition("-")[0], **more) for it in names)


KEPT = (
    *_of_both("", faults=3),
    *_of_both("new", faults=3, is_new=True),
    Scenario("batch-2rows", rows=TWO),
    Scenario("batch-2equal", rows=EQUAL),
    Scenario("batch-3ordered", rows=THREE, settings=ORDERED),
    *_of_both("rerun", settings=RERUN, statuses=FAILING, again=1),
    Scenario("batch-rerun-recovers", settings=RERUN, statuses=FAILING, again=1, recovers=True),
    Scenario(
        "checkpoint-rerun-2processes",
        kind="checkpoint",
        settings=RERUN,
        statuses=("running", "failed"),
        again=1,
        processes=2,
    ),
    Scenario("batch-changed", changed=CHANGED, again=1),
    Scenario("batch-redo", changed=CHANGED, settings=REDO, again=1),
    Scenario("batch-rerun-redo", changed=CHANGED, settings=RERUN + REDO, statuses=FAILING, again=2),
    *_of_both("start-clear", settings=START, is_clear=True),
    *_of_both("other-key", keys=True),
    *_of_both("new-other-key", keys=True, is_new=True),
    *_of_both("new-throttled-key", stranger=True, is_new=True, processes=2),
    *_of_both("2processes", processes=2),
    Scenario("batch-2processes-lock", processes=2, compares=False, is_locked=True),
    *_of_both("3processes", processes=3),
    Scenario("batch-3rows-3processes", rows=THREE, processes=3, faults=1),
    *_of_both("others", others=True),
    *_of_both("nameless", nameless_baseline=True),
    *_of_both("no-inputs", has_inputs=False),
    *_of_both("busy", is_new=True, is_busy=True),
    Scenario("checkpoint-engine", kind="checkpoint", by_engine=True),
    Scenario("run", kind="run"),
    Scenario("run-new", kind="run", is_new=True),
    Scenario("run-rerun", kind="run", settings=RERUN, statuses=FAILING, again=1),
    Scenario("run-2processes", kind="run", processes=2),
)
"""All assumptions of the docs are kept: no row is started twice."""


def _broken(name: str, what: str, **more: Any) -> Tuple[Scenario, ...]:
    return _of_both(name, broken=frozenset((what,)), **more)


BROKEN = (
    *_broken("lost-save", "no save is lost"),
    *_broken("late-list", "the list is not late"),
    *_broken("stall", "no stall before a request"),
    *_broken("timeout", "the transport keeps the timeout", processes=2),
    *_broken("empty-list", "the list is not empty", is_new=True),
    *_broken("equal-500", "an equal 500 starts nothing", recovers=True),
    *_broken("no-compare", "the store compares", processes=2, compares=False),
    *_broken("settle-after", "settle_after is the same", processes=2, settles=(600.0, 20.0)),
    *_broken("clocks", "the clocks agree", nameless_baseline=True, rest=7200.0),
    *_broken("equal-others", "nobody else starts the same"),
    *_broken("foreign-key", "the key is that of the workspace", keys=True, old='{"n": 1}'),
    *_broken("start-unknown", "on_unknown is error", settings=START),
)
"""Exactly one assumption is broken: a row is started twice."""
DEFENDED = (
    Scenario(
        "batch-never-listed", most_calls=1, broken=frozenset(("an accepted start is listed",))
    ),
    Scenario(
        "batch-rerun-empty-list",
        is_new=True,
        settings=RERUN,
        statuses=FAILING,
        again=1,
        broken=frozenset(("the list is not empty later",)),
    ),
    Scenario(
        "batch-torn-save", rows=TWO, changed=MORE, broken=frozenset(("a save is kept whole",))
    ),
)
"""An assumption is broken, and no row is started twice all the same: a defence beyond the promise,
within one call or these bounds. Calibration needs them."""
SCENARIOS: Dict[str, Scenario] = {it.name: it for it in (*KEPT, *BROKEN, *DEFENDED)}
