"""What may happen to a process at each of its actions, the usual thing first.

Each option says in words what happens, and does it: it changes the world, and returns the event
that the process reports to its machine, with its arguments; or `None`, if the process is gone.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from flowmaestro_core.actions import Action, Emit, Load, Open, Save, Send, Wait
from flowmaestro_core.errors import CheckpointConflict, CheckpointError, JournalError
from flowmaestro_core.http.dates import http_date
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.machine import Machine
from flowmaestro_core.store import HEADER_KEY, Loaded
from tests.explore.scenario import SETTLE_AFTER, Scenario
from tests.explore.world import ENGINE, TOO_LATE, Execution, World
from tests.harness.core.stepping import a_failure, a_response, an_envelope, an_error

Report = Tuple[Any, ...]
SLOW = SETTLE_AFTER / 2 + 1
"""Seconds of a save after which its starts are announced again."""


class Process:
    """A call of the real machine, and where it stands.

    Attributes:
        action: what it does next.
        began_at: when it was called.
        report: what it reports at `ready_at`, if its action is done.
        has_other_key: it has the API key of another workspace.
        clock: the seconds that its clock is ahead.
        told: the outcomes that it has delivered: index, execution id and type of the error.
        steps: how many actions it has carried out.
        is_disturbed: a fault has happened to it.

    """

    def __init__(self, name: str, machine: Machine[Any], now: float) -> None:
        self.name = name
        self.machine = machine
        self.action: Action = machine.start(now, 0.5)
        self.report: Optional[Report] = None
        self.began_at = self.ready_at = now
        self.has_other_key = False
        self.clock = 0.0
        self.told: List[Tuple[int, Optional[str], str]] = []
        self.steps = 0
        self.is_disturbed = False


Does = Callable[[World, Process, Any], Optional[Report]]


class Option(NamedTuple):
    """Something that may happen, in words, and what does it."""

    said: str
    does: Does


Options = Tuple[Option, ...]


def _dies(world: World, process: Process, action: Action) -> None:
    return None


DIES = Option("the process dies before", _dies)


def _is_cancelled(world: World, process: Process, action: Action) -> None:
    """Leave the batch, as its handle does: what was not sent is saved as not started."""
    save = process.machine.last_save()  # type: ignore[attr-defined]
    if save is not None:
        world.keep(save.states, process.name)


def options_of(world: World, process: Process) -> Tuple[Options, str]:
    """Return what may happen at the action of a process, and the action in words."""
    scenario, action = world.scenario, process.action
    if isinstance(action, Wait):
        # Only while the call has done nothing yet: what an engine saves does not compare, so later
        # it would break what the docs assume.
        may_announce = scenario.by_engine and action.seconds == SETTLE_AFTER and not world.serial
        sent = {it.by for it in world.executions} | {it.by for it in world.under_way}
        may_announce = may_announce and ENGINE not in sent
        return _waits(scenario, may_announce), f"waits {action.seconds:g} s"
    if isinstance(action, Emit):
        return _emits(scenario), "yields an outcome"
    if isinstance(action, Load):
        return _loads(scenario), "loads" if action.keys else "loads what is known"
    if isinstance(action, Save):
        return _saves(scenario, HEADER_KEY in world.states), f"saves {_stages(action)}"
    if isinstance(action, Open):
        return _NO_STREAM, "opens the stream"
    assert isinstance(action, Send), action
    request = action.request
    path, _, query = request.url.partition("?")
    if process.has_other_key:
        is_first = scenario.stranger and process.name == "A" and action.attempt == 1
        return _refused(bool(query), is_first), f"{request.method} with the other key"
    if request.method == "POST":
        inputs = _inputs(action)
        return _starts(scenario, _key(action) in world.failing), f"POST execute {inputs}"
    if query:
        size, number = _page(query)
        is_first = process.name == "A"
        return _lists(scenario, size, number, is_first), f"GET the list ({size} on page {number})"
    it = _named(world, path)
    is_open = it is not None and not it.has_ended
    return _polls(scenario, is_open), "GET " + path.rpartition("/")[2]


def _has_no_stream(world: World, process: Process, action: Action) -> Report:
    return ("transport_failed", a_failure(Phase.NOT_SENT, permanent=True))


_NO_STREAM = (Option("there is none", _has_no_stream), DIES)
"""Events tell nothing of a start, so a run follows its execution by polls."""


def _stages(action: Save) -> str:
    states = action.states
    if len(states) == 1:
        return str(states[0].get("state", "header"))
    return ", ".join(f"{it['state']} {it['key']}" for it in states[1:])


def held(world: World, action: Load) -> str:
    """Return what the store holds under the keys of an action, in words."""
    states = [world.states[key] for key in action.keys if key in world.states]
    return ", ".join(str(it.get("state", "header")) for it in states) or "nothing"


# Waiting, delivering, the store


@lru_cache(None)
def _waits(scenario: Scenario, may_announce: bool) -> Options:
    def waits(more: float) -> Does:
        def does(world: World, process: Process, action: Wait) -> Report:
            process.ready_at = world.now + action.seconds + more
            return ("waited",)

        return does

    def is_announced(world: World, process: Process, action: Wait) -> Optional[Report]:
        world.arrives_later('{"n": 1}', ENGINE, world.now + action.seconds)
        return waits(0.0)(world, process, action)

    options = [
        Option("", waits(0.0)),
        DIES,
        Option(f"is stopped, and wakes {TOO_LATE:g} s late", waits(TOO_LATE)),
    ]
    if may_announce:
        options.append(Option("at its end, the engine makes another attempt", is_announced))
    return _with_cancelling(scenario, options)


@lru_cache(None)
def _emits(scenario: Scenario) -> Options:
    emitted = Option("", lambda world, process, action: ("emitted",))
    return _with_cancelling(scenario, [emitted, DIES, STOPS])


def _with_cancelling(scenario: Scenario, options: List[Option]) -> Options:
    cancels = [Option("is cancelled", _is_cancelled)] if scenario.kind == "batch" else []
    return (*options, *cancels)


def _stops(world: World, process: Process, action: Action) -> Report:
    process.ready_at = world.now + TOO_LATE
    return AGAIN


AGAIN: Report = ("again",)
"""In place of an event: the process has been stopped, and what happens is chosen once more."""
STOPS = Option(f"is stopped for {TOO_LATE:g} s before", _stops)


def _failed(scenario: Scenario) -> Any:
    return JournalError if scenario.kind == "batch" else CheckpointError


@lru_cache(None)
def _loads(scenario: Scenario) -> Options:
    def loads(world: World, process: Process, action: Load) -> Report:
        states = [dict(world.states[key]) for key in action.keys if key in world.states]
        if not action.outcomes:
            for it in states:
                it.pop("outcome", None)
        known = {it: world.numbers[it] for it in action.execution_ids if it in world.numbers}
        return ("loaded", Loaded(tuple(states), known, world.now + process.clock))

    def fails(world: World, process: Process, action: Load) -> Report:
        return ("store_failed", _failed(scenario)("no store"))

    return (Option("what was saved", loads), DIES, Option("the store fails", fails), STOPS)


@lru_cache(None)
def _saves(scenario: Scenario, has_header: bool) -> Options:
    def kept(world: World, process: Process, action: Save) -> Report:
        conflict = world.keep(action.states, process.name)
        return ("saved",) if conflict is None else ("store_failed", conflict)

    def slow(world: World, process: Process, action: Save) -> Report:
        process.ready_at = world.now + SLOW
        return kept(world, process, action)

    def kept_and_dies(world: World, process: Process, action: Save) -> None:
        world.keep(action.states, process.name)

    def kept_and(error: Callable[[], Exception]) -> Does:
        def does(world: World, process: Process, action: Save) -> Report:
            conflict = world.keep(action.states, process.name)
            return ("store_failed", conflict or error())

        return does

    def away() -> Exception:
        error: Exception = _failed(scenario)("the store is away")
        return error

    def is_torn(world: World, process: Process, action: Save) -> Report:
        world.put({**world.states[HEADER_KEY], "rows": action.states[0]["rows"]})
        for it in action.states[1:]:
            world.put(it)
        return ("saved",)

    usual = Option("kept", kept)
    options = [
        usual,
        Option("kept; the process dies", kept_and_dies),
        DIES,
        Option("kept; the answer is lost", kept_and(away)),
        Option("kept; the store says that it was not first", kept_and(_conflict)),
        Option("not kept, and the store says so", lambda *_: ("store_failed", away())),
        Option(f"kept after {SLOW:g} s", slow),
        STOPS,
    ]
    if "no save is lost" in scenario.broken:
        options.append(Option("confirmed, but not kept", lambda *_: ("saved",)))
    if "a save is kept whole" in scenario.broken and has_header:
        options.append(Option("confirmed, but with the numbers of before", is_torn))
    return tuple(options)


def _conflict() -> Exception:
    return CheckpointConflict("saved meanwhile")


# The server


@lru_cache(None)
def _refused(is_list: bool, is_throttled: bool) -> Options:
    """Return how the platform answers the key of another workspace."""
    none = an_envelope([], pagination={"has_next": False})

    def lists(world: World, process: Process, action: Send) -> Report:
        return ("response_received", a_response(200, none, {"Date": http_date(world.now)}))

    if is_list:
        return (Option("an empty list", lists), DIES)
    if is_throttled:
        return (Option("429, again in 40 s", _says(429, None, Retry_After="40")), DIES)
    return (Option("404", _says(404, an_error("not_found"))), DIES)


def _says(
    status: int, body: Any = None, *, raw: bytes = b"", starts: bool = False, **headers: str
) -> Does:
    fields = {key.replace("_", "-"): it for key, it in headers.items()}
    reply = a_response(status, body, fields, raw=raw)

    def does(world: World, process: Process, action: Send) -> Report:
        if starts:
            world.arrives(_inputs(action), process.name)
        elif status == 500:
            world.failing.add(_key(action))
        return ("response_received", reply)

    return does


def _inputs(action: Send) -> str:
    return _inputs_of(action.request.body)


@lru_cache(None)
def _inputs_of(body: bytes) -> str:
    return json.dumps(json.loads(body)["inputs"])


def _key(action: Send) -> str:
    """Return what identifies a start with its inputs, until its execution is replaced."""
    return action.request.headers["idempotency-key"] + _inputs(action)


def _fails(phase: Phase, *, starts: bool, lag: float = 0.0, has_id: bool = True) -> Does:
    def does(world: World, process: Process, action: Send) -> Report:
        if starts:
            world.arrives(_inputs(action), process.name, lag).has_id = has_id
        return ("transport_failed", a_failure(phase))

    return does


def _arrival(world: World, process: Process) -> float:
    """Return when a late request arrives: as late as the docs allow after its announcement."""
    return max(world.announced_at.get(process.name, world.now) + world.scenario.late, world.now)


def _times_out(world: World, process: Process, action: Send) -> Report:
    world.arrives_later(_inputs(action), process.name, _arrival(world, process))
    process.ready_at = world.now + action.timeout
    return ("transport_failed", a_failure(Phase.MAYBE_PROCESSED, timed_out=True))


def _is_lost_and_arrives(world: World, process: Process, action: Send) -> Report:
    world.arrives_later(_inputs(action), process.name, _arrival(world, process))
    return ("transport_failed", a_failure(Phase.MAYBE_PROCESSED))


def _started(world: World, process: Process, action: Send) -> Report:
    made = world.arrives(_inputs(action), process.name)
    body = an_envelope({"execution_id": made.id, "status": "running"})
    return ("response_received", a_response(202, body))


def _starts_and_dies(lag: float = 0.0, *, is_cancelled: bool = False) -> Does:
    def does(world: World, process: Process, action: Send) -> None:
        world.arrives(_inputs(action), process.name, lag)
        if is_cancelled:
            _is_cancelled(world, process, action)

    return does


def _dies_and_arrives(after: Optional[float] = None) -> Does:
    def does(world: World, process: Process, action: Send) -> None:
        at = _arrival(world, process) if after is None else world.now + after
        world.arrives_later(_inputs(action), process.name, at)

    return does


def _takes(seconds: float) -> Does:
    """Return what the transport does if it ignores the timeout of a request."""

    def does(world: World, process: Process, action: Send) -> Report:
        world.arrives_later(_inputs(action), process.name, world.now + seconds)
        process.ready_at = world.now + seconds
        return ("transport_failed", a_failure(Phase.MAYBE_PROCESSED))

    return does


_MAYBE = Phase.MAYBE_PROCESSED


@lru_cache(None)
def _starts(scenario: Scenario, is_failing: bool) -> Options:
    """Return what may become of a start. If it `is_failing`, an equal 500 has started nothing."""
    broken, late = scenario.broken, scenario.late
    error_500 = an_error("internal_error")
    nameless = an_envelope({"status": "running"})
    options = [
        Option("started, 202", _started),
        Option("started; the reply is lost", _fails(_MAYBE, starts=True)),
        Option("lost on its way", _fails(_MAYBE, starts=False)),
        Option("started; the process dies", _starts_and_dies()),
        DIES,
        Option("times out, and arrives later", _times_out),
        Option("its connection is lost, and it arrives later", _is_lost_and_arrives),
        Option("the process dies; it arrives later", _dies_and_arrives()),
        Option(f"started, listed {late:g} s later; the process dies", _starts_and_dies(late)),
        Option(
            f"started, listed {late:g} s later; the reply is lost",
            _fails(_MAYBE, starts=True, lag=late),
        ),
        Option("started; 202 without an id", _says(202, nameless, starts=True)),
        Option("started; 202 that cannot be read", _says(202, raw=b"<html>", starts=True)),
        Option("started; 303", _says(303, Location="/elsewhere", starts=True)),
        Option("not started; 500", _says(500, error_500)),
        Option("not started; 503", _says(503, Retry_After="2")),
        Option("not started; 429", _says(429, Retry_After="2")),
        Option("not started; 429, again in 40 s", _says(429, Retry_After="40")),
        Option("not started; 402", _says(402, an_error("insufficient_credits"))),
        Option("not sent", _fails(Phase.NOT_SENT, starts=False)),
    ]
    if not is_failing or "an equal 500 starts nothing" in broken:
        options.append(Option("started; 500", _says(500, error_500, starts=True)))
    if not scenario.is_clear:
        options.append(
            Option(
                "started, listed without an id; the reply is lost",
                _fails(_MAYBE, starts=True, has_id=False),
            )
        )
    if scenario.kind == "batch":
        options.append(Option("is cancelled", _is_cancelled))
        options.append(Option("started; is cancelled", _starts_and_dies(is_cancelled=True)))
    if is_failing and not scenario.recovers:
        # It fails on them each time, as a rule.
        again = next(it for it in options if it.said == "not started; 500")
        options.remove(again)
        options.insert(0, again)
    if "the list is not late" in broken:
        said = f"started, listed {TOO_LATE:g} s later; the process dies"
        options.append(Option(said, _starts_and_dies(TOO_LATE)))
    if "an accepted start is listed" in broken:
        never = _says_and_never_lists(202, nameless)
        options.append(Option("started, never listed; 202 without an id", never))
        never = _says_and_never_lists(202, None)
        options.append(Option("started, never listed; 202 that cannot be read", never))
    if "no stall before a request" in broken:
        said = f"the process is stopped; its request arrives {TOO_LATE:g} s later"
        options.append(Option(said, _dies_and_arrives(TOO_LATE)))
    if "the transport keeps the timeout" in broken:
        said = f"the transport sends it {TOO_LATE:g} s later"
        options.append(Option(said, _takes(TOO_LATE)))
    return tuple(options)


def _says_and_never_lists(status: int, body: Any) -> Does:
    reply = a_response(status, body, raw=b"<html>")

    def does(world: World, process: Process, action: Send) -> Report:
        world.arrives(_inputs(action), process.name, 1e9)
        return ("response_received", reply)

    return does


@lru_cache(None)
def _page(query: str) -> Tuple[int, int]:
    given = dict(part.split("=") for part in query.split("&"))
    return int(given["per_page"]), int(given["page"])


@lru_cache(None)
def _lists(scenario: Scenario, size: int, number: int, is_first: bool) -> Options:
    def page(
        lag: float = 0.0,
        *,
        change: Optional[Callable[[Dict[str, Any]], Dict[str, Any]]] = None,
        before: Optional[Callable[[World], None]] = None,
        after: Optional[Callable[[World], None]] = None,
    ) -> Does:
        def does(world: World, process: Process, action: Send) -> Report:
            if before is not None:
                before(world)
            listed = world.listed(lag)
            shown = listed[(number - 1) * size : number * size]
            if 1 < size < 100:  # The poll of a batch: what it shows as ended has ended.
                for it in shown:
                    it.has_ended = it.has_ended or it.status != "running"
            rows = [it.shown() for it in shown]
            if change is not None:
                rows = [change(it) for it in rows]
            body = an_envelope(rows, pagination={"has_next": number * size < len(listed)})
            if after is not None:
                after(world)
            return ("response_received", a_response(200, body, {"Date": http_date(world.now)}))

        return does

    def equal(world: World) -> None:
        known = [it.inputs for it in world.executions if it.by]
        world.accept(known[0] if known else json.dumps(scenario.rows[0]), "")

    hidden = None if scenario.has_inputs else _without_inputs
    options = [
        Option("as it is", page(change=hidden)),
        DIES,
        Option(f"as it was {scenario.late:g} s ago", page(scenario.late, change=hidden)),
    ]
    if not scenario.is_clear:
        options += [
            Option("without inputs", page(change=_without_inputs)),
            Option("without ids", page(change=lambda it: {**it, "id": None})),
            Option("403", _lists_not(403)),
            Option("500", _lists_not(500)),
        ]
    if size > 1 and not scenario.is_clear:
        nameless = page(before=lambda world: world.crowd(1, has_id=False))
        options.append(Option("another client has started one without an id", nameless))
    if scenario.others or "nobody else starts the same" in scenario.broken:
        options.append(Option("another client has started the same just now", page(before=equal)))
    if scenario.is_busy and size == 100:
        one, many = page(after=lambda it: it.crowd(1)), page(after=lambda it: it.crowd())
        options.append(Option("as it is; then another client starts one", one))
        options.append(Option("as it is; then others start a hundred", many))
    never_again = "the list is not empty later" in scenario.broken and not is_first
    if "the list is not empty" in scenario.broken or never_again:
        options.append(Option("empty", _refused(True, False)[0].does))
    return tuple(options)


def _lists_not(status: int) -> Does:
    reply = a_response(status)
    return lambda world, process, action: ("response_received", reply)


def _without_inputs(it: Dict[str, Any]) -> Dict[str, Any]:
    return {**it, "inputs": None}


def _named(world: World, path: str) -> Optional[Execution]:
    id = path.rpartition("/")[2]
    return next((it for it in world.executions if it.id == id), None)


@lru_cache(None)
def _polls(scenario: Scenario, is_open: bool) -> Options:
    def says(status: Optional[str]) -> Does:
        def does(world: World, process: Process, action: Send) -> Report:
            it = _named(world, action.request.url)
            if it is None:
                return ("response_received", a_response(404, an_error("not_found")))
            if status is not None:
                it.status, it.has_ended = status, status != "running"
            fields = {"Date": http_date(world.now)}
            return ("response_received", a_response(200, an_envelope(it.shown()), fields))

        return does

    statuses = scenario.statuses if is_open else (None,)
    usual, *more = [Option(it or "", says(it)) for it in statuses]
    lost = a_failure(Phase.MAYBE_PROCESSED)
    options = [
        usual,
        DIES,
        Option("the reply is lost", lambda *_: ("transport_failed", lost)),
        *more,
        STOPS,
    ]
    return _with_cancelling(scenario, options)
