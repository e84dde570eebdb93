"""The quick share of the explorer, and what shows that it would find a double start.

`python -m tests.explore run all` does more: see `CONTRIBUTING.md`.
"""

from __future__ import annotations

from typing import Any, Tuple

import pytest

from flowmaestro.testing.search import Choices, explore
from flowmaestro_core.actions import Send
from tests.explore import documents, processes
from tests.explore.__main__ import main
from tests.explore.processes import Path, runner
from tests.explore.scenario import Scenario
from tests.explore.scenarios import BROKEN, DEFENDED, KEPT, SCENARIOS
from tests.explore.side_by_side import compare, is_named, pairs
from tests.explore.world import Execution, World

pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize("scenario", [*KEPT, *DEFENDED], ids=lambda it: it.name)
def test_no_row_is_started_twice_with_one_fault(scenario: Scenario) -> None:
    report = explore(runner(scenario), faults=1)
    assert report.complete == 1
    assert not report.findings, report.findings[0]


def test_checkpoint_starts_once_with_two_faults() -> None:
    report = explore(runner(SCENARIOS["checkpoint"]), faults=2)
    assert report.complete == 2
    assert not report.findings, report.findings[0]


@pytest.mark.parametrize("scenario", BROKEN, ids=lambda it: it.name)
def test_a_broken_assumption_lets_a_row_start_twice(scenario: Scenario) -> None:
    """As the page tells it: `python -m tests.explore.documents` finds the shortest story."""
    assert documents.story_again(scenario) in documents.page_of(scenario)


def end_of(scenario: Scenario, choices: Choices) -> Tuple[Any, ...]:
    """Run a path. Return the last step, the executions and what the store holds."""
    world = Path(scenario, choices).run()
    ours = tuple((it.inputs, it.status) for it in world.executions if it.by)
    held = tuple((key, it.get("state")) for key, it in world.states.items())
    return world.steps[-1], ours, held


@pytest.mark.parametrize(
    "name", ["checkpoint", "checkpoint-new", "checkpoint-2processes", "batch-2equal"]
)
def test_pruning_loses_no_end(name: str) -> None:
    def run(choices: Choices) -> Tuple[Any, ...]:
        return end_of(SCENARIOS[name], choices)

    pruned = explore(run, faults=1, keep_ends=True)
    whole = explore(run, faults=1, keep_ends=True, prune=False)
    assert set(pruned.ends) == set(whole.ends)
    assert pruned.left_out > 0
    assert len(whole.ends) > 1


def test_pruning_loses_no_counterexample_of_two_processes() -> None:
    """What a process that waits will do belongs to the state of the other one."""
    run = runner(SCENARIOS["checkpoint-no-compare"])
    assert explore(run, faults=1).findings
    assert explore(run, faults=1, prune=False).findings


@pytest.mark.parametrize(("run", "batch"), [*pairs()], ids=["run", "run-new"])
def test_run_and_batch_of_one_row_differ_only_as_the_page_says(
    run: Scenario, batch: Scenario
) -> None:
    found = compare(run, batch, 1)
    assert found.repeated > found.left_out
    assert [it for it in found.differences if not is_named(it)] == []
    kinds = {it.run.said for it in found.differences if is_named(it)}
    assert len(kinds) > 1


class Generous(World):
    """Its server starts a request twice."""

    def accept(self, inputs: str, by: str, lag: float = 0.0) -> Execution:
        super().accept(inputs, by, lag)
        return super().accept(inputs, by, lag)


class Lossy(World):
    """Its server has forgotten all executions once time passes."""

    def pass_time(self, until: float) -> None:
        if until > self.now:
            self.executions.clear()
        super().pass_time(until)


@pytest.mark.parametrize(
    ("kind", "message"),
    [(Generous, "a request started 2 executions"), (Lossy, "the server has lost exec_1")],
)
def test_a_wrong_world_is_reported_as_one(kind: Any, message: str) -> None:
    report = explore(runner(SCENARIOS["checkpoint"], kind), faults=0)
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


@pytest.mark.parametrize("name", ["batch", "checkpoint"])
def test_a_doubled_request_is_found_without_a_fault(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = processes.machine_of
    monkeypatch.setattr(processes, "machine_of", lambda *args, **more: Doubled(make(*args, **more)))
    report = explore(runner(SCENARIOS[name]), faults=0)
    assert [str(it.error) for it in report.findings] == ['2 executions for 1 row(s) {"n": 1}']


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "no-such"], "no such scenario: no-such; there are batch,"),
        (["replay", "no-such/-"], "no such scenario: no-such; there are batch,"),
        (["replay", "checkpoint/1:9of9"], "at choice 2, 'A loads': it takes option 9 of 9"),
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
