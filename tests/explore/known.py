"""A small, true world in which each known double start can happen: for calibration.

One store that compares and swaps, one server that knows what was started, and calls of the real
machines. A call may die, or be overtaken by the next call, at each of its actions. `explore`
(`flowmaestro.testing.search`) tries all of that. What a scenario holds besides is in `Scenario`.

python -m tests.explore.known all 1          # every scenario with at most one fault
python -m tests.explore.known batch 2        # one, with two

The exit status is 1 for a counterexample, which is printed as a story.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

from flowmaestro.testing.search import Choices, explore
from flowmaestro_core.actions import Action, Done, Emit, Fail, Load, Save, Send, Wait
from flowmaestro_core.checkpoint import Checkpoint
from flowmaestro_core.errors import CheckpointConflict, CheckpointError, JournalError
from flowmaestro_core.http.dates import http_date
from flowmaestro_core.http.messages import Headers, Phase, Request, Response
from flowmaestro_core.machine import Machine
from flowmaestro_core.machines import machine_for
from flowmaestro_core.resources.workflows import Workflows
from flowmaestro_core.store import HEADER_KEY, Loaded
from tests.harness.core.stepping import a_context, a_failure, an_envelope, an_error

SETTLE_AFTER = 60.0
LATE = SETTLE_AFTER / 2 - 1
"""Seconds: as late as a request may arrive, or its execution be listed, while the docs promise that
nothing is started twice."""
CLOCKS = {"its clock is ahead": 3600.0, "its clock is behind": -3600.0}
MOST_EVENTS = 400
"""Of one call. The longest path has about 60."""


@dataclass(frozen=True)
class Scenario:
    """What the caller does, and how the world is before anything goes wrong.

    Attributes:
        rows: the rows of a batch; `None` for a run with a checkpoint.
        changed: the rows of all calls but the first.
        is_new: the workflow has no execution yet.
        calls: how many calls there are before the last one, to which nothing happens. Without
            `is_repeated`, there is no last one.
        statuses: of an execution that is asked for by its id, the usual one first.
        nameless_baseline: the newest execution has no usable id.
        never_listed: executions whose reply had no usable id are not listed: this breaks what the
            docs assume, and is for a single call.
        empties: a list may be empty, after the first call, although the workflow has executions:
            this breaks it, too.
        clear: whether each lookup can tell what was started, so that `on_unknown="start"` must not
            start anything again.
        recovers: whether a server that fails on some inputs may start them later.
        stranger: the first call has the key of another workspace, and too many requests.
        is_busy: a hundred others start executions at a time.
        engine: a task engine announces the starts.

    """

    rows: Optional[Tuple[Dict[str, int], ...]] = None
    changed: Optional[Tuple[Dict[str, int], ...]] = None
    is_new: bool = False
    calls: int = 2
    is_repeated: bool = True
    on_unknown: Any = "error"
    rerun: Tuple[Any, ...] = ()
    redo: Tuple[int, ...] = ()
    statuses: Tuple[str, ...] = ("completed", "failed")
    nameless_baseline: bool = False
    never_listed: bool = False
    empties: bool = False
    clear: bool = False
    recovers: bool = False
    stranger: bool = False
    is_busy: bool = False
    engine: bool = False


ROW = ({"n": 0},)
FAILING = ("failed", "completed")
SCENARIOS = {
    "checkpoint": Scenario(),
    "checkpoint, new workflow": Scenario(is_new=True),
    "checkpoint, no baseline": Scenario(nameless_baseline=True),
    "checkpoint, on_unknown": Scenario(on_unknown="start", clear=True),
    "checkpoint, rerun": Scenario(rerun=("failed",), statuses=("running", "failed")),
    "checkpoint, stranger": Scenario(is_new=True, stranger=True),
    "checkpoint, busy": Scenario(is_new=True, is_busy=True),
    "checkpoint, engine": Scenario(engine=True),
    "one row": Scenario(rows=ROW),
    "one row, new workflow": Scenario(rows=ROW, is_new=True),
    "one row, on_unknown": Scenario(rows=ROW, on_unknown="start", clear=True),
    "one row, rerun": Scenario(rows=ROW, rerun=("failed",), statuses=FAILING),
    "one row, rerun, recovers": Scenario(
        rows=ROW, rerun=("failed",), statuses=FAILING, recovers=True
    ),
    "one row, changed": Scenario(rows=ROW, changed=({"n": 9},), redo=(0,)),
    "one row, never listed": Scenario(rows=ROW, calls=1, is_repeated=False, never_listed=True),
    "one row, rerun, empty list": Scenario(
        rows=ROW, is_new=True, rerun=("failed",), statuses=FAILING, empties=True
    ),
    "two rows": Scenario(rows=({"n": 0}, {"n": 1})),
    "two equal rows": Scenario(rows=({"n": 0}, {"n": 0})),
}


class Dies(Exception):
    """The process of a call has died."""


@dataclass
class Execution:
    id: str
    inputs: Any
    created_at: float
    listed_at: float
    by: str = ""
    """The call that has sent the request; empty for somebody else's."""
    has_id: bool = True
    status: str = "running"

    def shown(self) -> Dict[str, Any]:
        created_at = datetime.fromtimestamp(self.created_at, timezone.utc).isoformat()
        ended_at = None if self.status == "running" else created_at
        return {
            "id": self.id if self.has_id else 17,
            "status": self.status,
            "inputs": self.inputs,
            "created_at": created_at,
            "completed_at": ended_at,
            "outputs": None,
            "error": None,
        }


class World:
    """The store and the server of one path, and its calls."""

    def __init__(self, choices: Choices, scenario: Scenario) -> None:
        self._choices = choices
        self._scenario = scenario
        self.now = 100_000.0
        self.story: List[str] = []
        self._states: Dict[str, str] = {}
        self._numbers: Dict[str, int] = {}
        self._executions: List[Execution] = []
        if not scenario.is_new:
            is_named = not scenario.nameless_baseline
            self._executions.append(Execution("base", {"other": 1}, 0.0, 0.0, has_id=is_named))
        self._ids = itertools.count(1)
        self._on_the_way: List[Tuple[Request, str, float]] = []
        self._failing: Set[str] = set()
        """The inputs that the server fails on before it starts them: it does so each time."""
        self._calls = 0
        self.by_engine = False
        """Whether another attempt of the engine has sent the start."""
        if scenario.engine:
            self._announce_by_engine()

    def run(self) -> None:
        """Make all calls. Raises `AssertionError` with the story if a promise is broken."""
        try:
            while self._may_call():
                self._call_or_die()
            self._pass(4 * SETTLE_AFTER)
            if self._scenario.is_repeated:
                self._call()
            self._judge()
        except AssertionError as error:
            error.args = ("\n  ".join((str(error), *self.story)),)
            raise

    def _judge(self) -> None:
        rows = [*(self._scenario.rows or ROW)]
        rows += [row for row in self._scenario.changed or () if row not in rows]
        wanted = Counter(map(json.dumps, rows))
        ours = [it for it in self._executions if it.by]
        if self._scenario.rerun:
            # Somebody else's execution with equal inputs may be taken for ours, as the docs say.
            failed = [it for it in self._executions if it.status == "failed"]
            wanted.update(json.dumps(it.inputs) for it in failed)
        for inputs, count in Counter(json.dumps(it.inputs) for it in ours).items():
            assert count <= wanted[inputs], f"{count} executions for {inputs}"
        for (by, inputs), count in Counter((it.by, json.dumps(it.inputs)) for it in ours).items():
            most = sum(json.dumps(row) == inputs for row in rows)
            assert count <= most, f"call {by} has started {count} executions for {inputs}"

    # Small things

    def _may_call(self) -> bool:
        return self._calls < self._scenario.calls

    def _choose(self, options: Sequence[str], label: str) -> str:
        return options[self._choices.choose(len(options), label)]

    def _tell(self, who: str, what: str) -> None:
        self.story.append(f"{who}  {what}")

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        for request, by, at in self._on_the_way[:]:
            if at <= self.now:
                self._on_the_way.remove((request, by, at))
                self._accept(request, by, at)

    def _accept(
        self, request: Request, by: str, at: float, listed_after: float = 0.0, *, named: bool = True
    ) -> Execution:
        inputs = json.loads(request.body)["inputs"]
        name = f"ex_{next(self._ids)}"
        made = Execution(name, inputs, at, at + listed_after, by, has_id=named)
        self._executions.append(made)
        self._executions.sort(key=lambda it: it.created_at)
        return made

    def _others_start(self, count: int, *, has_id: bool = True) -> None:
        for _ in range(count):
            name = f"other_{next(self._ids)}"
            self._executions.append(Execution(name, {"other": 2}, self.now, self.now, "", has_id))

    def _announce_by_engine(self) -> None:
        state = {"v": 1, "state": "starting", "at": self.now}
        self._states[HEADER_KEY] = json.dumps(state)

    # Calls

    def _call_or_die(self) -> None:
        try:
            self._call()
        except Dies:
            self._tell("", "it dies")

    def _call(self) -> None:
        """Make the same call once more, up to its end or its death."""
        who = "ABCDEFG"[self._calls]
        self._calls += 1
        is_last = self._calls > self._scenario.calls
        how = "as usual"
        if not is_last:
            # The key of another workspace sees an empty list, and starts nothing.
            how = self._choose((how, "with the key of another workspace", *CLOCKS), f"{who} begins")
        is_stranger = "key" in how or (self._scenario.stranger and self._calls == 1)
        if self._scenario.is_busy and self._calls == 2:
            self._others_start(100)
        self._tell(who, f"is called {how}")
        _Call(self, who, is_last=is_last, is_stranger=is_stranger, clock=CLOCKS.get(how, 0.0)).run()


class _Call:
    """One call of the world: a machine, and what happens to it."""

    def __init__(
        self, world: World, who: str, *, is_last: bool, is_stranger: bool, clock: float
    ) -> None:
        self._world = world
        self._scenario = scenario = world._scenario
        self._who = who
        self._is_last = is_last
        self._is_stranger = is_stranger
        self._clock = clock
        common: Dict[str, Any] = {
            "settle_after": SETTLE_AFTER,
            "on_unknown": scenario.on_unknown,
            "rerun": scenario.rerun,
        }
        operation: Any
        if scenario.rows is None:
            checkpoint = Checkpoint(dict, lambda state: None, **common)
            operation = Workflows.execute("wf_1", inputs=ROW[0], checkpoint=checkpoint)
        else:
            first = who == "A"
            rows = scenario.rows if first else scenario.changed or scenario.rows
            redo = () if first else scenario.redo
            more: Dict[str, Any] = {"concurrency": 2, "timeout": 100.0, "redo": redo, **common}
            operation = Workflows.run_many("wf_1", rows, journal=_Store(), **more)
        self._machine: Machine[Any] = machine_for(operation, a_context(), f"token{who}")

    def run(self) -> None:
        action = self._report("start")
        does: Dict[Any, Callable[[Any], Action]] = {
            Emit: lambda _: self._report("emitted"),
            Wait: self._wait,
            Load: self._load,
            Save: self._save,
            Send: self._send,
        }
        for _ in range(MOST_EVENTS):
            if isinstance(action, (Done, Fail)):
                error = f": {type(action.error).__name__}" if isinstance(action, Fail) else ""
                self._tell(f"ends{error}")
                return
            action = does[type(action)](action)
        raise AssertionError(f"call {self._who} does not end")

    # Small things

    def _report(self, event: str, *args: Any) -> Action:
        action: Action = getattr(self._machine, event)(*args, self._world.now, 0.5)
        return action

    def _reply(self, status: int, body: Any = None, *, raw: bytes = b"", **headers: str) -> Action:
        fields = Headers({name.replace("_", "-"): value for name, value in headers.items()})
        content = raw if body is None else json.dumps(body).encode()
        return self._report("response_received", Response(status, fields, content))

    def _tell(self, what: str) -> None:
        self._world._tell(self._who, what)

    def _choose(self, label: str, *options: str) -> str:
        """Return the first option in the last call, to which nothing happens."""
        if self._is_last:
            return options[0]
        return self._world._choose(options, f"{self._who} {label}")

    def _may(self, *options: str) -> Tuple[str, ...]:
        """Return options that make sense only if another call follows."""
        return options if self._world._may_call() or self._scenario.is_repeated else ()

    def _happens(self, how: str) -> None:
        """Die, or let another call overtake this one, if `how` says so."""
        if how.startswith("dies"):
            raise Dies
        if how.startswith("is overtaken"):
            self._tell("is overtaken")
            self._world._call_or_die()

    def _overtaken(self, *options: str) -> Tuple[str, ...]:
        return options if self._world._may_call() else ()

    # Actions

    def _wait(self, action: Wait) -> Action:
        self._world._pass(action.seconds)
        more = ("dies", *self._overtaken("is overtaken"))
        # Only while the call has done nothing yet: an engine's own save does not compare, so one
        # during the lookup would break what the docs assume.
        is_first = action.seconds == SETTLE_AFTER and not self._world.by_engine
        is_theirs = "serial" not in self._world._states.get(HEADER_KEY, "serial")
        if self._scenario.engine and is_first and is_theirs:
            more = (*more, "another attempt of the engine sends")
        how = self._choose("waits", "goes on", *self._may(*more))
        if "engine" in how:
            self._tell(how)
            self._world.by_engine = True
            self._world._announce_by_engine()
            body = json.dumps({"inputs": ROW[0]}).encode()
            request = Request("POST", "", Headers(), body)
            self._world._accept(request, "engine", self._world.now, LATE)
        self._happens(how)
        return self._report("waited")

    def _load(self, action: Load) -> Action:
        world = self._world
        states = [json.loads(world._states[key]) for key in action.keys if key in world._states]
        if not action.outcomes:
            for state in states:
                state.pop("outcome", None)
        known = {it: world._numbers[it] for it in action.execution_ids if it in world._numbers}
        if self._scenario.rows is None and not states:
            states = [None]
        loaded = Loaded(tuple(states), known, world.now + self._clock)
        self._happens(self._choose("loads", "goes on", *self._overtaken("is overtaken")))
        return self._report("loaded", loaded)

    def _save(self, action: Save) -> Action:
        name = "+".join(str(state.get("state", "header")) for state in action.states)
        options = ["kept", "not kept", "kept, and the answer is lost"]
        options += self._may("dies before it is kept", "dies after it is kept")
        options += self._overtaken("is overtaken before", "is overtaken after")
        how = self._choose(f"saves {name}", *options)
        self._tell(f"saves {name}: {how}")
        if how.endswith(("before", "before it is kept")):
            self._happens(how)
        failure: Optional[Exception] = None
        if how != "not kept":
            try:
                self._keep(action.states)
            except CheckpointConflict as conflict:
                failure = conflict
                self._tell("meets a conflict")
        if how.endswith(("after", "after it is kept")):
            self._happens(how)
        if how in ("not kept", "kept, and the answer is lost"):
            lost = CheckpointError if self._scenario.rows is None else JournalError
            failure = failure or lost("the store is broken")
        return self._report("saved") if failure is None else self._report("store_failed", failure)

    def _keep(self, states: Sequence[Dict[str, Any]]) -> None:
        world = self._world
        held = json.loads(world._states.get(HEADER_KEY, "{}")).get("serial", 0)
        if states[0]["serial"] != held + 1:
            raise CheckpointConflict
        for state in states:
            world._states[state.get("key", HEADER_KEY)] = json.dumps(state)
            if state.get("execution_id") and "number" in state:
                world._numbers[state["execution_id"]] = state["number"]

    def _send(self, action: Send) -> Action:
        if action.request.method == "POST":
            return self._start(action)
        where, _, query = action.request.url.partition("?")
        return self._list(query) if query else self._get(where.rpartition("/")[2])

    def _start(self, action: Send) -> Action:
        world, scenario, request = self._world, self._scenario, action.request
        inputs = json.loads(request.body)["inputs"]
        has_failed = json.dumps(inputs) in world._failing
        fails = has_failed and not scenario.recovers
        options = ["500, not started" if fails else "accepted"]
        if self._is_stranger:
            options = ["404"]
            if scenario.stranger:
                options = ["429, again in 40 s"] if not world._failing else options
                world._failing.add("the stranger's first request")
        elif not fails:
            options += ["accepted, the reply is lost", "lost before it arrives"]
            options += ["accepted, listed late, the reply is lost", "delayed, and accepted late"]
            options += ["202 without an id", "202 that cannot be read", "500, started"]
            options += ["500, not started", "429, again in 40 s", "402", "303, started"]
            if not scenario.clear:
                options.append("accepted, listed without an id, the reply is lost")
            if has_failed:  # An equal 500 has started nothing, until these inputs are accepted.
                options.remove("500, started")
            dead = ("dies before it arrives", "dies after it is accepted", "dies, it arrives late")
            options += self._may(*dead)
        how = self._choose("POST", *options)
        self._tell(f"POST {inputs}: {how}")
        late = 1e9 if scenario.never_listed else LATE
        if "accepted" in how:
            world._failing.discard(json.dumps(inputs))
        if how == "500, not started":
            world._failing.add(json.dumps(inputs))
        elif how in ("dies, it arrives late", "delayed, and accepted late"):
            world._on_the_way.append((request, self._who, world.now + LATE))
        elif "202" in how or "listed late" in how:
            world._accept(request, self._who, world.now, late if "202" in how else LATE)
        elif "without an id" in how:
            world._accept(request, self._who, world.now, named=False)
        elif "accepted" in how or ", started" in how:
            made = world._accept(request, self._who, world.now)
            if how == "accepted":
                return self._reply(202, an_envelope({"execution_id": made.id}))
        self._happens(how)
        if how[:3] == "404":
            return self._reply(404, an_error("not_found"))
        if how == "202 without an id":
            return self._reply(202, an_envelope({"execution_id": 17}))
        if how == "202 that cannot be read":
            return self._reply(202, raw=b"<html>")
        if how[:3] == "500":
            return self._reply(500, an_error("internal_error", "no"))
        if how[:3] == "429":
            return self._reply(429, Retry_After="40")
        if how[:3] == "402":
            return self._reply(402, an_error("insufficient_credits"))
        if how[:3] == "303":
            return self._reply(303, Location="/elsewhere")
        return self._report("transport_failed", a_failure(Phase.MAYBE_PROCESSED))

    def _get(self, name: str) -> Action:
        found = [it for it in self._world._executions if it.id == name]
        if not found or self._is_stranger:
            return self._reply(404, an_error("not_found"))
        if found[0].status == "running":
            found[0].status = self._choose(f"GET {name}", *self._scenario.statuses)
            if self._is_last:
                found[0].status = "completed"
        self._tell(f"GET {name}: {found[0].status}")
        self._happens(self._choose(f"got {name}", "goes on", *self._may("dies")))
        return self._reply(200, an_envelope(found[0].shown()), Date=http_date(self._world.now))

    def _list(self, query: str) -> Action:
        world = self._world
        given = dict(part.split("=") for part in query.split("&"))
        size, number = int(given["per_page"]), int(given["page"])
        options = ["true"]
        if not self._is_stranger and not self._scenario.clear:
            options += ["500", "without inputs", "a foreign equal one", "a nameless one of others"]
            options += ["empty"] if self._scenario.empties and self._who != "A" else []
        how = self._choose("reads the list", *options, *self._may("dies"))
        self._happens(how)
        if how == "500":
            self._tell("GET list: 500")
            return self._reply(500, an_error("internal_error", "the list"))
        if how == "a foreign equal one":
            name = f"foreign_{next(world._ids)}"
            world._executions.append(Execution(name, ROW[0], world.now, world.now))
        if how == "a nameless one of others":
            world._others_start(1, has_id=False)
        listed = [it for it in reversed(world._executions) if it.listed_at <= world.now]
        if self._is_stranger or how == "empty":
            listed = []
        rows = [it.shown() for it in listed[(number - 1) * size : number * size]]
        if how == "without inputs":
            for row in rows:
                del row["inputs"]
        shown = [str(row["id"]) for row in rows if not str(row["id"]).startswith("other")]
        self._tell(f"GET {size} of the list, page {number}: {how}: {', '.join(shown) or 'none'}")
        if self._scenario.is_busy and size > 1 and number == 1:
            how = self._choose("has read a page", "nothing", "a hundred others start")
            world._others_start(100 if how != "nothing" else 0)
        page = an_envelope(rows, pagination={"has_next": number * size < len(listed)})
        return self._reply(200, page, Date=http_date(world.now))


class _Store:
    """Stands for a store of the user's, which is not locked. `_Call` does what it would do."""

    def load(self, keys: Sequence[str], outcomes: bool) -> List[Dict[str, Any]]:
        raise NotImplementedError

    def save(self, states: Sequence[Dict[str, Any]]) -> None:
        raise NotImplementedError

    def known(self, execution_ids: Sequence[str]) -> Dict[str, int]:
        raise NotImplementedError


def play(scenario: Scenario, choices: Choices) -> None:
    """Run one path of a scenario."""
    World(choices, scenario).run()


def main(name: str, faults: str) -> int:
    """Search a scenario, or all up to the first counterexample. Return 1 if there is one."""
    for each in SCENARIOS if name == "all" else [name]:
        begun = time.process_time()
        report = explore(partial(play, SCENARIOS[each]), faults=int(faults))
        spent = time.process_time() - begun
        print(f"{each}: faults {report.complete}, paths {report.paths}, {spent:.2f} s of CPU")
        if report.findings:
            found = report.findings[0]
            print(f"{found}\nfaults {found.faults}, choices {len(found.choices)}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
