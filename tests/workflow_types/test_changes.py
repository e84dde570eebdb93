"""What has changed between a file of types and a server, and what only seems to have."""

from __future__ import annotations

import random
from typing import Any, Dict, List, Optional

import pytest

from flowmaestro.workflow_types.changes import changes_of, new_workflows
from flowmaestro.workflow_types.evidence import PINNED, Key, Run, types_of, with_pins
from flowmaestro.workflow_types.names import names_of
from flowmaestro.workflow_types.read_back import read_source
from flowmaestro.workflow_types.source import write_source

NEW = 1000.0
"""When the first of the newer runs was created; those of the file are before."""


def runs(count: int, inputs: Dict[str, Any], outputs: Any = None, at: float = NEW) -> List[Run]:
    return [Run(at + number, inputs, outputs or {}) for number in range(count)]


def declared(properties: Any, *required: str) -> Dict[str, Any]:
    return {"properties": properties, "required": list(required)}


def workflow(
    schema: Any = None, seen: Any = (), name: str = "Send invoice", pins: Any = None
) -> Any:
    found = types_of({"id": "wf", "name": name, "input_schema": schema}, seen, outputs=True)
    return with_pins(found, pins or {})


def told(old: Any, now: Any, newer: Any = ()) -> List[str]:
    """Return the differences of a workflow, whose old form is read back from a file."""
    source = write_source([old], names_of([(old.id, old.name)]))
    read = read_source(source).workflows["wf"]
    found = changes_of("SEND_INVOICE", read, now, list(newer))
    return [f"{'breaks' if it.breaks else 'safe'} {it.text}" for it in found]


TEXT, NUMBER, WHOLE = ({"type": kind} for kind in ("string", "number", "integer"))
OLD_RUNS = runs(40, {"customer": "c", "amount": 1}, {"url": "x"}, at=0.0)
AB = {"a": TEXT, "b": NUMBER}
SERVER_SAYS = {
    "a required input is new": (
        declared(AB, "a"),
        declared({**AB, "c": TEXT}, "a", "c"),
        "breaks SEND_INVOICE: input `c` is new, and required",
    ),
    "an optional input is new": (
        declared(AB, "a"),
        declared({**AB, "c": TEXT}, "a"),
        "safe SEND_INVOICE: input `c` is new, and optional",
    ),
    "an input is gone": (
        declared(AB, "a"),
        declared({"a": TEXT}, "a"),
        "breaks SEND_INVOICE: input `b` is gone",
    ),
    "an input becomes required": (
        declared(AB, "a"),
        declared(AB, "a", "b"),
        "breaks SEND_INVOICE: input `b` is required now",
    ),
    "an input becomes optional": (
        declared(AB, "a"),
        declared(AB),
        "safe SEND_INVOICE: input `a` is optional now",
    ),
    "an input has another type": (
        declared({"a": TEXT}),
        declared({"a": NUMBER}),
        "breaks SEND_INVOICE: input `a` must be a number now, not text",
    ),
    "an input accepts less": (
        declared({"a": {"type": ["number", "null"]}}),
        declared({"a": WHOLE}),
        "breaks SEND_INVOICE: input `a` must be a whole number now, not a number or null",
    ),
    "an input accepts more": (
        declared({"a": WHOLE}),
        declared({"a": NUMBER}),
        "safe SEND_INVOICE: input `a` may be a number now",
    ),
    "a choice is gone": (
        declared({"a": {"enum": ["x", "y"]}}),
        declared({"a": {"enum": ["x"]}}),
        'breaks SEND_INVOICE: input `a` must be "x" now, not "x" or "y"',
    ),
    "a choice is new": (
        declared({"a": {"enum": ["x"]}}),
        declared({"a": {"enum": ["x", "y"]}}),
        'safe SEND_INVOICE: input `a` may be "x" or "y" now',
    ),
    "items of a list have another type": (
        declared({"a": {"type": "array", "items": TEXT}}),
        declared({"a": {"type": "array", "items": NUMBER}}),
        "breaks SEND_INVOICE: input `a` must be a list of a number now, not a list of text",
    ),
}
RUNS_SAY = {
    "an input is new in all": (
        runs(40, {"customer": "c", "amount": 1, "currency": "EUR"}, {"url": "x"}),
        "breaks SEND_INVOICE: input `currency` is new in all of the last 40 runs",
    ),
    "an input is new in some": (
        [*runs(39, {"customer": "c", "amount": 1}, {"url": "x"}),
         *runs(1, {"customer": "c", "amount": 1, "amont": 1}, {"url": "x"})],
        "safe SEND_INVOICE: input `amont` is new in 1 of the last 40 runs",
    ),
    "an input is gone from all": (
        runs(40, {"customer": "c"}, {"url": "x"}),
        "breaks SEND_INVOICE: input `amount` is in none of the last 40 runs",
    ),
    "an input is left out of some": (
        [*runs(20, {"customer": "c"}, {"url": "x"}),
         *runs(20, {"customer": "c", "amount": 1}, {"url": "x"})],
        "safe SEND_INVOICE: input `amount` is optional now: it is in 20 of the last 40 runs",
    ),
    "an input has another type in all": (
        runs(40, {"customer": "c", "amount": "1 EUR"}, {"url": "x"}),
        "breaks SEND_INVOICE: input `amount` is text in the last 40 runs, not a number",
    ),
    "an input has another type in some": (
        [*runs(30, {"customer": "c", "amount": 1}, {"url": "x"}),
         *runs(10, {"customer": "c", "amount": None}, {"url": "x"})],
        "safe SEND_INVOICE: input `amount` is a number or null in the last 40 runs, not a number",
    ),
    "an output is gone from all": (
        runs(40, {"customer": "c", "amount": 1}, {"uri": "x"}),
        "breaks SEND_INVOICE: output `url` is in none of the last 40 runs",
    ),
    "an output has another type in all": (
        runs(40, {"customer": "c", "amount": 1}, {"url": None}),
        "breaks SEND_INVOICE: output `url` is null in the last 40 runs, not text",
    ),
    "an input is new in too few": (
        runs(4, {"customer": "c", "amount": 1, "currency": "EUR"}, {"url": "x"}),
        "safe SEND_INVOICE: input `currency` is new in 4 of the last 4 runs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", SERVER_SAYS)
def test_a_change_of_what_the_server_declares_is_told(change: str) -> None:
    before, after, wanted = SERVER_SAYS[change]
    old = workflow(before)
    assert told(old, old) == []
    assert told(old, workflow(after)) == [wanted]


@pytest.mark.parametrize("change", RUNS_SAY)
def test_a_change_that_runs_show_is_told(change: str) -> None:
    newer, wanted = RUNS_SAY[change]
    old = workflow(seen=OLD_RUNS)
    assert told(old, old, OLD_RUNS) == []
    both = [*newer, *OLD_RUNS]
    found = told(old, workflow(seen=both[:100]), both)
    assert wanted in found
    assert [it for it in found if it.startswith("breaks")] == [wanted] * wanted.startswith("breaks")


def test_a_workflow_that_is_gone_new_or_renamed_is_told() -> None:
    old = workflow(declared(AB))
    assert told(old, None) == ['breaks SEND_INVOICE: the workflow "Send invoice" is gone']
    renamed = workflow(declared(AB), name="Bill")
    text = 'safe SEND_INVOICE: the workflow "Send invoice" is called "Bill" now'
    assert told(old, renamed) == [text]
    assert new_workflows(["Refund"])[0] == (False, 'the workflow "Refund" is new')
    assert new_workflows(["x"] * 6) == [(False, "6 workflows are new")]


def test_a_change_of_pins_is_told() -> None:
    pin = {"amount": Key(frozenset({"float"}), True, PINNED)}
    old = workflow(seen=OLD_RUNS, pins=pin)
    assert told(old, old, OLD_RUNS) == []
    stricter = workflow(seen=OLD_RUNS, pins={"amount": Key(frozenset({"int"}), True, PINNED)})
    text = "breaks SEND_INVOICE: input `amount` must be a whole number now, not a number"
    assert told(old, stricter) == [text]
    old = workflow(seen=OLD_RUNS, pins={"vat": Key(frozenset({"float"}), False, PINNED)})
    text = "breaks SEND_INVOICE: input `vat` is no longer set in pyproject.toml"
    assert told(old, workflow(seen=OLD_RUNS)) == [text]


def test_inputs_that_become_known_or_declared_are_told() -> None:
    unknown = workflow()
    known = workflow(seen=OLD_RUNS)
    text = "safe SEND_INVOICE: its inputs are known now"
    assert told(unknown, known)[0] == text
    assert told(unknown, unknown) == []
    schema = declared({"customer": TEXT, "amount": NUMBER}, "customer", "amount")
    assert told(known, workflow(schema, OLD_RUNS), OLD_RUNS) == []
    assert told(workflow(schema, OLD_RUNS), known, OLD_RUNS) == []


class RandomAccount:
    """An account that does not change: each run has each key with the same probability."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        draw = self._random.choice
        self.keys = {
            f"key{at}": (draw([0.01, 0.1, 0.5, 0.9, 0.99, 1]), draw([0, 0, 0.05, 0.5]))
            for at in range(8)
        }

    def runs(self, count: int, at: float) -> List[Run]:
        made: List[Run] = []
        for number in range(count):
            drawn: Dict[str, Any] = {}
            for name, (frequency, strange) in self.keys.items():
                if self._random.random() < frequency:
                    drawn[name] = None if self._random.random() < strange else "x"
            made.append(Run(at + number, drawn, drawn))
        return made


@pytest.mark.parametrize("seed", range(100))
def test_new_runs_of_an_unchanged_account_never_break_callers(seed: int) -> None:
    account = RandomAccount(seed)
    count: Optional[int] = [1, 2, 5, 17, 40, 100][seed % 6]
    history = account.runs(count or 0, 0.0)
    old = workflow(seen=history)
    for check in range(10):
        history += account.runs([1, 3, 10, 40, 200][check % 5], NEW * (check + 1))
        last = history[-100:]
        found = told(old, workflow(seen=last), last)
        assert [it for it in found if it.startswith("breaks")] == []
