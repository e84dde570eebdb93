"""The rules that every machine keeps, shown on two small ones."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from dataclasses import FrozenInstanceError
from typing import Any, List, Set, Type, Union

import pytest

import flowmaestro_core
from flowmaestro_core import actions
from flowmaestro_core.actions import EVENTS, Action, Close, Done, Emit, Fail, Load, Save, Wait
from flowmaestro_core.errors import FlowMaestroError
from flowmaestro_core.machine import LocalProtocolError, Machine, event
from flowmaestro_core.machines import machine_for
from flowmaestro_core.resources import Workflows
from tests.harness.core.stepping import Report, Stepper, a_context


class Nap(Machine[str]):
    """Waits once."""

    TRANSITIONS = {"ready": {"start": ("asleep",)}, "asleep": {"waited": ("done", "failed")}}

    def __init__(self, dream: str) -> None:
        super().__init__(a_context(), "token")
        self.dream = dream

    @event
    def start(self, now: float, jitter: float) -> Action:
        self.state = "asleep"
        return Wait(jitter)

    @event
    def waited(self, now: float, jitter: float) -> Action:
        return self._done(self.dream) if self.dream else self._fail(FlowMaestroError("awake"))


class Night(Machine[str]):
    """Owns a nap, and tells its dream."""

    TRANSITIONS = {
        "ready": {"start": ("sleeping",)},
        "sleeping": {"waited": ("telling", "failed"), "stream_quiet": ("sleeping",)},
        "telling": {"emitted": ("sleeping",)},
    }

    def __init__(self, dream: str) -> None:
        super().__init__(a_context(), "token")
        self.dream = dream

    @event
    def start(self, now: float, jitter: float) -> Action:
        self.state = "sleeping"
        return self._delegate(Nap(self.dream), now, jitter)

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        return Wait(0.0)  # and stays "telling", which its table does not list

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if isinstance(outcome, Fail):
            return self._fail(outcome.error)
        self.state = "telling"
        return Emit([outcome.value])


@pytest.mark.parametrize("dream", ["sheep", ""])
def test_an_ended_machine_takes_no_event(dream: str) -> None:
    nap = Stepper(Nap(dream))
    nap.start()
    nap.waits()
    nap.refuses_all_but_expected()
    with pytest.raises(LocalProtocolError, match="nothing, it has ended"):
        nap.machine.waited(0.0, 0.0)


def test_an_event_that_does_not_belong_names_those_that_do() -> None:
    nap = Stepper(Nap("sheep"))
    nap.refuses_all_but_expected()
    nap.start()
    with pytest.raises(LocalProtocolError, match=r"is 'asleep' and cannot take 'start'; .*waited"):
        nap.machine.start(0.0, 0.0)


def test_an_owned_machine_gets_the_events_and_its_owner_the_result() -> None:
    night = Stepper(Night("sheep"))
    assert night.start() == Wait(0.5)
    assert night.waits() == Emit(["sheep"])


def test_the_failure_of_the_owned_machine_comes_back_too() -> None:
    night = Stepper(Night(""))
    night.start()
    night.waits()
    assert night.error.message == "awake"


def test_the_owned_machine_refuses_what_its_owner_would_take() -> None:
    night = Stepper(Night("sheep"))
    night.start()
    night.refuses(Report("stream_quiet"))


def test_a_transition_outside_the_table_is_a_bug_of_the_machine() -> None:
    night = Night("sheep")
    night.start(0.0, 0.0)
    night.waited(0.0, 0.0)
    with pytest.raises(AssertionError, match="'telling' -emitted-> 'telling' is not in its table"):
        night.emitted(0.0, 0.0)


class Evening(Machine[str]):
    """Sets a nap aside while it says something, and closes a body before it ends."""

    TRANSITIONS = {
        "ready": {"start": ("telling",)},
        "telling": {"emitted": ("sleeping",)},
        "sleeping": {"waited": ("sleeping", "closing")},
        "closing": {"stream_closed": ("done", "failed")},
    }

    @event
    def start(self, now: float, jitter: float) -> Action:
        self.state = "sleeping"
        return self._delegate(Nap("sheep"), now, jitter)

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        self.state = "sleeping"
        return Wait(2.0)

    @event
    def waited(self, now: float, jitter: float) -> Action:
        return self._delegate(self.parked, now, jitter)

    def _inner_waits(self, wait: Wait, now: float, jitter: float) -> Action:
        self.parked = self._park()
        self.state = "telling"
        return Emit([wait.seconds])

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        assert isinstance(outcome, Done)
        self.told = outcome.value
        return self._close()

    @event
    def stream_closed(self, now: float, jitter: float) -> Action:
        return self._done(self.told)


def test_a_machine_that_waits_is_set_aside_and_taken_up_again() -> None:
    evening = Stepper(Evening(a_context(), "token"))
    assert evening.start() == Emit([0.5])
    evening.refuses(Report("waited"))
    assert evening.takes() == Wait(2.0)
    evening.body_open = True
    assert evening.waits() == Close()
    assert evening.closes() == Done("sheep")


def set_by(method: Any) -> Set[str]:
    """The attributes of `self` that a method declares or sets."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    stored = (it for it in ast.walk(tree) if isinstance(getattr(it, "ctx", None), ast.Store))
    found = (it for it in stored if isinstance(it, ast.Attribute))
    return {it.attr for it in found if isinstance(it.value, ast.Name) and it.value.id == "self"}


def late(machine: Type[Any]) -> Set[str]:
    """The attributes of a machine that neither a class declares nor an `__init__`."""
    declared: Set[str] = set()
    used: Set[str] = set()
    for made in machine.__mro__[:-2]:
        declared |= {*getattr(made, "__annotations__", ()), *vars(made)}
        for name, method in vars(made).items():
            if inspect.isfunction(method):
                found = set_by(inspect.unwrap(method))
                used |= found
                declared |= found if name == "__init__" else set()
    return used - declared


def test_machines_declare_their_attributes_when_they_are_made() -> None:
    for module in pkgutil.walk_packages(flowmaestro_core.__path__, "flowmaestro_core."):
        importlib.import_module(module.name)
    machines: List[Type[Any]] = [Machine]
    for machine in machines:
        machines += machine.__subclasses__()
    core = [it for it in machines if it.__module__.startswith("flowmaestro_core.")]
    assert len(core) > 10
    assert {machine.__name__: late(machine) for machine in core if late(machine)} == {}


def test_the_vocabulary_is_closed() -> None:
    everything = set(actions.Action.__args__)  # type: ignore[attr-defined]
    assert everything == set(EVENTS)
    events = {name for names in EVENTS.values() for name in names}
    defined: Any = {name for name, value in vars(Machine).items() if hasattr(value, "__wrapped__")}
    assert events | {"start"} == defined


@pytest.mark.parametrize("kind", [Close, Wait, Load, Save, Done, Fail])
def test_actions_that_are_not_made_for_each_event_are_frozen(kind: Type[Action]) -> None:
    with pytest.raises(FrozenInstanceError):
        object.__new__(kind).states = ()  # type: ignore[union-attr]


def test_machine_tells_whether_its_client_is_closed() -> None:
    context = a_context()
    machine = machine_for(Workflows.get("wf_1"), context, "token")
    assert not machine.client_is_closed
    context.server.client_closed = True
    assert machine.client_is_closed
