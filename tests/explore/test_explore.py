"""The quick share of the explorer, and what shows that it would find a double start.

`python -m tests.explore run all` does more: see `CONTRIBUTING.md`.
"""

from __future__ import annotations

from typing import Any, Tuple

import pytest

from flowmaestro.testing.search import Choices, explore
from flowmaestro_core.actions import Send
from tests.explore import documents
from tests.explore.__main__ import main
from tests.explore.scenarios import BROKEN, KEPT, SCENARIOS, Scenario, runner
from tests.explore.world import Execution, World

pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize("scenario", KEPT, ids=lambda it: it.name)
def test_no_row_is_started_twice_with_one_fault(scenario: Scenario) -> None:
    report = explore(runner(scenario, 1), faults=1)
    assert report.complete == 1
    assert not report.findings, report.findings[0]


def test_checkpoint_starts_once_with_two_faults() -> None:
    report = explore(runner(SCENARIOS["checkpoint"], 2), faults=2)
    assert report.complete == 2
    assert not report.findings, report.findings[0]


@pytest.mark.parametrize("scenario", BROKEN, ids=lambda it: it.name)
def test_a_broken_assumption_lets_a_row_start_twice(scenario: Scenario) -> None:
    report = explore(runner(scenario, 2), faults=2)
    assert report.findings
    # That call says that nothing was started, before the next call starts it again.
    is_false = scenario.name == "checkpoint-equal-500"
    expected = "says that nothing was started" if is_false else "2 executions for 1 row"
    assert expected in str(report.findings[0].error)


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint-new", "checkpoint-2processes"])
def test_pruning_loses_no_end(name: str) -> None:
    """The last call, the executions and what the store holds, with and without pruning."""
    scenario = SCENARIOS[name]

    def run(choices: Choices) -> Tuple[Any, ...]:
        world = scenario.run(choices, 1)
        ours = tuple(it.inputs for it in world.executions if it.ours)
        return world.lines[-1], ours, world.calls

    pruned = explore(run, faults=1, keep_ends=True)
    whole = explore(run, faults=1, keep_ends=True, prune=False)
    assert set(pruned.ends) == set(whole.ends)
    assert pruned.left_out > 0
    assert len(whole.ends) > 1


def test_pruning_loses_no_counterexample_of_two_processes() -> None:
    """What an overtaken process will do belongs to the state of the one that overtakes it."""
    run = runner(SCENARIOS["checkpoint-no-compare"], 1)
    assert explore(run, faults=1).findings
    assert explore(run, faults=1, prune=False).findings


class Generous(World):
    """Its server starts a request twice."""

    def accept(self, inputs: str, lag: float = 0.0, *, ours: bool = True) -> Execution:
        super().accept(inputs, lag, ours=ours)
        return super().accept(inputs, lag, ours=ours)


class Lossy(World):
    """Its server has forgotten all executions after a call."""

    def call(self, name: str, machine: Any) -> Any:
        ended = super().call(name, machine)
        self.executions = []
        return ended


@pytest.mark.parametrize(
    ("kind", "message"),
    [(Generous, "a request started 2 executions"), (Lossy, "the server has lost exec_1")],
)
def test_a_wrong_world_is_reported_as_one(kind: Any, message: str) -> None:
    report = explore(lambda choices: SCENARIOS["checkpoint"].run(choices, 0, kind), faults=0)
    assert [str(it.error) for it in report.findings] == [message]
    assert type(report.findings[0].error).__name__ == "WrongWorld"


class Doubled:
    """A machine that sends the request of a start a second time."""

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        self._sent: Any = None
        self._is_doubled = False

    def __getattr__(self, name: str) -> Any:
        def report(*args: Any) -> Any:
            if self._sent is not None and not self._is_doubled:
                self._is_doubled = True
                return self._sent
            action = getattr(self._machine, name)(*args)
            if isinstance(action, Send) and action.request.method == "POST":
                self._sent = action
            return action

        return report


@pytest.mark.parametrize("name", ["batch-1row", "checkpoint"])
def test_a_doubled_request_is_found_without_a_fault(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Scenario._machine
    monkeypatch.setattr(Scenario, "_machine", lambda self, number: Doubled(make(self, number)))
    report = explore(runner(SCENARIOS[name], 0), faults=0)
    assert [str(it.error) for it in report.findings] == ['2 executions for 1 row(s) {"n": 1}']


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "no-such"], "no such scenario: no-such; there are batch-1row"),
        (["replay", "no-such/-"], "no such scenario: no-such; there are batch-1row"),
        (["replay", "checkpoint/0:9of9"], "at choice 1, 'A loads': it takes option 9 of 9"),
        (["replay", "checkpoint/x"], "'x' does not"),
    ],
)
def test_bad_input_is_refused_with_status_2(words: Any, said: str, capsys: Any) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_a_counterexample_is_printed_as_a_story_that_can_be_replayed(capsys: Any) -> None:
    assert main(["run", "checkpoint-stall"]) == 1
    printed = capsys.readouterr().out
    assert "the process is stopped; its request arrives 70 s later" in printed
    text = printed.partition("replay: ")[2].split()[0]
    assert main(["replay", text]) == 1
    assert printed.partition("replay: ")[2] in capsys.readouterr().out


def test_the_stories_of_the_pages_are_those_of_today() -> None:
    for page, text in documents.written().items():
        stale = (documents.DOCS / page).read_text("utf-8") != text
        assert not stale, f"{page}: run python -m tests.explore.documents"
