"""A small, true world for starts: a server, a store, a clock, and the processes that use them.

The real machines run in it. The world knows which request started which execution, so it can say
at the end what is true. What happens is chosen by `Choices`: the first option of each choice is
what usually happens, any other one is a fault. Every step is written down for people.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Callable, Dict, FrozenSet, List, NamedTuple, Optional, Set, Tuple

from flowmaestro.testing.search import Choices
from flowmaestro_core.actions import Action, Done, Emit, Fail, Load, Save, Send, Wait
from flowmaestro_core.errors import CheckpointConflict, CheckpointError, JournalError
from flowmaestro_core.executions.durable_start import DurableStartMachine
from flowmaestro_core.http.dates import http_date
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.machine import Machine
from flowmaestro_core.store import HEADER_KEY, Loaded
from tests.explore.fingerprints import fingerprint
from tests.harness.core.stepping import a_failure, a_response, an_envelope, an_error

SETTLE_AFTER = 60.0
LATE = SETTLE_AFTER / 2 - 1
"""Seconds that the docs allow from a request to its execution on the list."""
TOO_LATE = SETTLE_AFTER + 10
"""Longer than another process waits before it looks."""
MOST_STEPS = 200
"""Of one call. The longest path of a scenario has about 60."""
BEGIN = 1_000_000.0


class Died(Exception):
    """The process is gone."""


class WrongWorld(AssertionError):
    """The world itself is wrong, so that it proves nothing."""


@dataclass
class Execution:
    """An execution, and the truth about it."""

    id: str
    inputs: str
    created_at: float
    listed_at: float
    ours: bool
    status: str = "completed"
    has_ended: bool = False


class Option(NamedTuple):
    """Something that may happen, in words, and what does it."""

    said: str
    does: Callable[[], Optional[Tuple[Any, ...]]]


@dataclass
class World:
    """One path through a scenario.

    Attributes:
        broken: the assumptions of the docs that this world may break.
        compares: whether the store compares and swaps.
        faults: the most faults of a path.
        calls: how many calls were made so far.
        overtake: makes the same call in another process; `None` if there is no other one.
        has_other_key: the present call has the API key of another workspace.

    """

    choices: Choices
    broken: FrozenSet[str] = frozenset()
    compares: bool = True
    now: float = BEGIN
    executions: List[Execution] = field(default_factory=list)
    under_way: List[Tuple[float, str]] = field(default_factory=list)
    states: Dict[str, Any] = field(default_factory=dict)
    numbers: Dict[str, int] = field(default_factory=dict)
    lines: List[str] = field(default_factory=list)
    faults: int = 3
    calls: int = 0
    overtake: Optional[Callable[[], None]] = None
    has_other_key: bool = False
    suspended: Any = None
    """The process that was overtaken, with its machine and action, while the other one runs."""
    started: List[Execution] = field(default_factory=list)
    """What the requests of our processes have started."""
    failing: Set[str] = field(default_factory=set)
    """The inputs on which the server has failed before it started anything."""

    # The server

    def accept(self, inputs: str, lag: float = 0.0, *, ours: bool = True) -> Execution:
        """Start an execution."""
        number = len(self.executions)
        made = Execution(f"exec_{number}", inputs, self.now, self.now + lag, ours)
        self.executions.append(made)
        return made

    def arrives(self, inputs: str, lag: float = 0.0) -> Execution:
        """Start one execution for a request of ours. Raises `WrongWorld` if it is not one."""
        before = len(self.executions)
        made = self.accept(inputs, lag)
        self.started.append(made)
        if len(self.executions) != before + 1:
            raise WrongWorld(f"a request started {len(self.executions) - before} executions")
        return made

    def check(self) -> None:
        """Raise `WrongWorld` if the server has lost an execution."""
        known = {it.id for it in self.executions}
        lost = [it.id for it in self.started if it.id not in known]
        if lost:
            raise WrongWorld(f"the server has lost {lost[0]}")

    def pass_time(self, seconds: float) -> None:
        """Let time pass. Requests that are under way arrive."""
        end = self.now + seconds
        for at, inputs in sorted(self.under_way):
            if at <= end:
                self.under_way.remove((at, inputs))
                self.now = at
                self.tell("server", f"the late request arrives: started {self.arrives(inputs).id}")
        self.now = end

    def tell(self, who: str, what: str, then: str = "") -> None:
        """Write a step down."""
        self.lines.append(f"{who:7} {what:44} {then}".rstrip())

    # A call

    def call(self, name: str, machine: Machine[Any]) -> Tuple[Optional[Action], List[Any]]:
        """Make one call. Return how it ended (`None`: the process died), and what was emitted."""
        items: List[Any] = []
        self.calls += 1
        action = machine.start(self.now, 0.5)
        steps = 0
        try:
            while not isinstance(action, (Done, Fail)):
                steps += 1
                if steps > MOST_STEPS:
                    raise AssertionError("a call does not end within 200 steps")
                if isinstance(action, Emit):
                    items += action.items
                action = self._step(name, machine, action)
        except Died:
            return None, items
        if isinstance(action, Done):
            self.tell(name, "ends", "without an error")
        else:
            self.tell(name, "fails", f"{type(action.error).__name__}: {action.error}"[:150])
        return action, items

    def _step(self, name: str, machine: Machine[Any], action: Action) -> Action:
        options, what = self._options(name, machine, action)
        # At a request of a start, that would be a stall before it.
        if self.overtake is not None and not (isinstance(action, Send) and "POST" in what):
            options.append(Option("another process makes the same call first", lambda: None))

        def state() -> Any:
            return fingerprint(
                self.now,
                name,
                self.choices_left,
                machine,
                action,
                self.executions,
                self.under_way,
                self.states,
                self.numbers,
                self.calls,
                self.failing,
                self.has_other_key,
                self.overtake is None,
                self.suspended,
            )

        taken = self.choices.choose(len(options), f"{name} {what}", state=state)
        option = options[taken]
        self.tell(name, what, option.said)
        if option.said.startswith("another process makes"):
            overtake, self.overtake = self.overtake, None
            assert overtake is not None
            self.suspended = (name, machine, action)
            overtake()
            self.suspended = None
            return self._step(name, machine, action)
        report = option.does()
        if report is None:
            raise Died
        event, *args = report
        following: Action = getattr(machine, event)(*args, self.now, 0.5)
        return following

    @property
    def choices_left(self) -> int:
        """How many faults the rest of this path may have."""
        return self.faults - sum(it.faults for it in self.choices.made)

    def _options(
        self, name: str, machine: Machine[Any], action: Action
    ) -> Tuple[List[Option], str]:
        if isinstance(action, Wait):
            return self._waits(action), f"waits {action.seconds:g} s"
        if isinstance(action, Emit):
            return [Option("", lambda: ("emitted",)), DIES], "yields an outcome"
        if isinstance(action, Load):
            return self._loads(machine, action), "loads"
        if isinstance(action, Save):
            stages = ", ".join(
                f"{it.get('state', 'header')} {it['key'] if len(action.states) > 1 else ''}".strip()
                for it in action.states[1:] or action.states
            )
            return self._saves(machine, action), f"saves {stages}"
        assert isinstance(action, Send), action
        request = action.request
        path, _, query = request.url.partition("?")
        if self.has_other_key:
            return self._refuses(bool(query)), f"{request.method} with the other key"
        if request.method == "POST":
            inputs = json.dumps(json.loads(request.body)["inputs"])
            return self._starts(action, inputs), f"POST execute {inputs}"
        if query:
            given = dict(part.split("=") for part in query.split("&"))
            size, number = int(given["per_page"]), int(given["page"])
            return self._lists(action, size, number), f"GET the list ({size} on page {number})"
        return self._polls(action, path.rpartition("/")[2]), "GET " + path.rpartition("/")[2]

    # What may happen

    def _refuses(self, is_list: bool) -> List[Option]:
        """Return how the platform answers the key of another workspace."""
        none = an_envelope([], pagination={"has_next": False})
        fields = {"Date": http_date(self.now)}
        reply = a_response(200, none, fields) if is_list else a_response(404)
        said = "an empty list" if is_list else "404"
        return [Option(said, lambda: ("response_received", reply))]

    def _waits(self, action: Wait) -> List[Option]:
        def waits(more: float) -> Callable[[], Tuple[Any, ...]]:
            def does() -> Tuple[Any, ...]:
                self.pass_time(action.seconds + more)
                return ("waited",)

            return does

        return [
            Option("", waits(0.0)),
            DIES,
            Option(f"is stopped, and wakes {TOO_LATE:g} s late", waits(TOO_LATE)),
        ]

    def _loads(self, machine: Machine[Any], action: Load) -> List[Option]:
        def loads() -> Tuple[Any, ...]:
            states = tuple(
                json.loads(self.states[key]) for key in action.keys if key in self.states
            )
            if not action.outcomes:
                for it in states:
                    it.pop("outcome", None)
            known = {it: self.numbers[it] for it in action.execution_ids if it in self.numbers}
            return ("loaded", Loaded(states, known, self.now))

        held = "nothing" if HEADER_KEY not in self.states else "what was saved"
        failed = CheckpointError if isinstance(machine, DurableStartMachine) else JournalError
        return [
            Option(held, loads),
            DIES,
            Option("the store fails", lambda: ("store_failed", failed("no store"))),
        ]

    def _saves(self, machine: Machine[Any], action: Save) -> List[Option]:
        failed = CheckpointError if isinstance(machine, DurableStartMachine) else JournalError

        def keep() -> Optional[Tuple[Any, ...]]:
            held = json.loads(self.states.get(HEADER_KEY, '{"serial": 0}'))["serial"]
            if self.compares and action.states[0]["serial"] != held + 1:
                return ("store_failed", CheckpointConflict("saved meanwhile"))
            for it in action.states:
                self.states[it.get("key", HEADER_KEY)] = json.dumps(it)
                if it.get("execution_id") and "number" in it:
                    self.numbers[it["execution_id"]] = it["number"]
            return ("saved",)

        def slow() -> Optional[Tuple[Any, ...]]:
            report = keep()
            self.pass_time(LATE + 2)
            return report

        def kept_and(report: Optional[Tuple[Any, ...]]) -> Callable[[], Any]:
            def does() -> Any:
                kept = keep()
                return report if kept == ("saved",) or report is None else kept

            return does

        lost = ("store_failed", failed("the store is away"))
        options = [
            Option("kept", keep),
            Option("kept; the process dies", kept_and(None)),
            Option("the process dies before", lambda: None),
            Option("kept; the answer is lost", kept_and(lost)),
            Option("not kept, and the store says so", lambda: lost),
            Option(f"kept after {LATE + 2:g} s", slow),
        ]
        if "no save is lost" in self.broken:
            options.append(Option("confirmed, but not kept", lambda: ("saved",)))
        return options

    def _starts(self, action: Send, inputs: str) -> List[Option]:
        def reply(made: Execution) -> Tuple[Any, ...]:
            body = an_envelope({"execution_id": made.id, "status": "running"})
            return ("response_received", a_response(202, body))

        def says(status: int, body: Any = None, *, starts: bool = False, **headers: str) -> Any:
            def does() -> Tuple[Any, ...]:
                if starts:
                    self.arrives(inputs)
                elif status == 500:
                    self.failing.add(inputs)
                fields = {key.replace("_", "-"): it for key, it in headers.items()}
                return ("response_received", a_response(status, body, fields))

            return does

        def fails(phase: Phase, *, starts: bool, late: Optional[float] = None) -> Any:
            def does() -> Tuple[Any, ...]:
                if starts:
                    self.arrives(inputs)
                if late is not None:
                    self.under_way.append((self.now + late, inputs))
                    self.pass_time(action.timeout)
                return ("transport_failed", a_failure(phase, timed_out=late is not None))

            return does

        def dies(lag: float = 0.0, late: Optional[float] = None) -> Any:
            def does() -> None:
                if late is None:
                    self.arrives(inputs, lag)
                else:
                    self.under_way.append((self.now + late, inputs))

            return does

        def stalls(seconds: float) -> Any:
            def does() -> None:
                # The rest of this process is its request, which arrives after all.
                self.under_way.append((self.now + seconds, inputs))

            return does

        no_credits = an_error("insufficient_credits")
        options = [
            Option("started, 202", lambda: reply(self.arrives(inputs))),
            Option("started; the reply is lost", fails(Phase.MAYBE_PROCESSED, starts=True)),
            Option("lost on its way", fails(Phase.MAYBE_PROCESSED, starts=False)),
            Option("started; the process dies", dies()),
            DIES,
            Option(
                f"times out, arrives {LATE:g} s after it was sent",
                fails(Phase.MAYBE_PROCESSED, starts=False, late=LATE),
            ),
            Option("the process dies; it arrives later", dies(late=LATE)),
            Option(f"started, listed {LATE:g} s later; the process dies", dies(lag=LATE)),
            Option(
                "started; 202 without an id",
                says(202, an_envelope({"status": "running"}), starts=True),
            ),
            Option("not started; 500", says(500, an_error("internal_error"))),
            Option("not started; 503", says(503, None, Retry_After="2")),
            Option("not started; 429", says(429, None, Retry_After="2")),
            Option("not started; 402", says(402, no_credits)),
            Option("not sent", fails(Phase.NOT_SENT, starts=False)),
        ]
        if inputs not in self.failing or "an equal 500 starts nothing" in self.broken:
            options.append(
                Option("started; 500", says(500, an_error("internal_error"), starts=True))
            )
        if "the list is not late" in self.broken:
            options.append(
                Option(f"started, listed {TOO_LATE:g} s later; the process dies", dies(TOO_LATE))
            )
        if "no stall before a request" in self.broken:
            options.append(
                Option(
                    f"the process is stopped; its request arrives {TOO_LATE:g} s later",
                    stalls(TOO_LATE),
                )
            )
        return options

    def _lists(self, action: Send, size: int, number: int) -> List[Option]:
        def page(as_of: float = 0.0, *, change: Optional[Callable[[Any], Any]] = None) -> Any:
            def does() -> Tuple[Any, ...]:
                listed = [it for it in self.executions if it.listed_at <= self.now - as_of]
                listed.sort(key=lambda it: it.created_at)
                listed.reverse()
                rows = [self.shown(it) for it in listed[(number - 1) * size : number * size]]
                if change is not None:
                    rows = [change(it) for it in rows]
                more = {"has_next": number * size < len(listed)}
                body = an_envelope(rows, pagination=more)
                fields = {"Date": http_date(self.now)}
                return ("response_received", a_response(200, body, fields))

            return does

        def others() -> Tuple[Any, ...]:
            known = [it.inputs for it in self.executions if it.ours]
            self.accept(known[0] if known else '{"n": 1}', ours=False)
            report: Tuple[Any, ...] = page()()
            return report

        def says(status: int) -> Any:
            return lambda: ("response_received", a_response(status))

        options = [
            Option("as it is", page()),
            DIES,
            Option(f"as it was {LATE:g} s ago", page(LATE)),
            Option("without inputs", page(change=lambda it: {**it, "inputs": None})),
            Option("without ids", page(change=lambda it: {**it, "id": None})),
            Option("403", says(403)),
        ]
        if size > 1:
            options.append(Option("another client has started the same just now", others))
        if "the list is not empty" in self.broken:
            body = an_envelope([], pagination={"has_next": False})
            reply = a_response(200, body, {"Date": http_date(self.now)})
            options.append(Option("empty", lambda: ("response_received", reply)))
        return options

    def shown(self, it: Execution) -> Dict[str, Any]:
        """Return an execution as the server shows it."""
        made = datetime.fromtimestamp(it.created_at, timezone.utc).isoformat()
        return {
            "id": it.id,
            "workflow_id": "wf_1",
            "status": it.status,
            "inputs": json.loads(it.inputs),
            "created_at": made,
            "completed_at": made,
            "outputs": {},
            "error": None,
        }

    def _polls(self, action: Send, id: str) -> List[Option]:
        (it,) = (it for it in self.executions if it.id == id)

        def says(status: str) -> Any:
            def does() -> Tuple[Any, ...]:
                it.status, it.has_ended = status, True
                return ("response_received", a_response(200, an_envelope(self.shown(it))))

            return does

        lost = a_failure(Phase.MAYBE_PROCESSED)
        options = [
            Option(it.status, says(it.status)),
            DIES,
            Option("the reply is lost", lambda: ("transport_failed", lost)),
        ]
        if not it.has_ended:
            options.append(Option("failed", says("failed")))
        return options


DIES = Option("the process dies before", lambda: None)
