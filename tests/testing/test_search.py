"""The search tries each path once, finds the shortest that is wrong, and replays it."""

from __future__ import annotations

import itertools
from typing import Callable, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro.testing.search import (
    Choices,
    NotDeterministic,
    Path,
    PathLeft,
    ReplayError,
    Report,
    explore,
    replay,
    walk,
)

SHAPES = st.lists(st.integers(1, 4), max_size=5)


def taking(shape: List[int]) -> Callable[[Choices], Tuple[int, ...]]:
    """Return a run that makes choices of these numbers of options, and returns what it took."""

    def run(choices: Choices) -> Tuple[int, ...]:
        return tuple(choices.choose(options, f"choice {at}") for at, options in enumerate(shape))

    return run


@given(shape=SHAPES, faults=st.integers(0, 6))
def test_every_path_within_the_bound_is_tried_once(shape: List[int], faults: int) -> None:
    tried: List[Tuple[int, ...]] = []

    def run(choices: Choices) -> None:
        tried.append(taking(shape)(choices))

    report = explore(run, faults=faults)
    every = itertools.product(*(range(options) for options in shape))
    assert sorted(tried) == sorted(p for p in every if sum(x > 0 for x in p) <= faults)
    assert [sum(x > 0 for x in path) for path in tried] == sorted(
        sum(x > 0 for x in path) for path in tried
    )
    assert (report.paths, report.complete, report.untried) == (len(tried), faults, 0)
    assert report.steps == sum(map(len, tried))


@given(shape=SHAPES, data=st.data())
def test_the_text_of_a_path_replays_it(shape: List[int], data: st.DataObject) -> None:
    report = explore(taking(shape), faults=9, keep_ends=True)
    end = data.draw(st.sampled_from(sorted(report.ends)))
    path = report.ends[end]
    assert replay(taking(shape), path.text) == path
    assert path.faults == sum(x > 0 for x in end)


@given(steps=st.lists(st.integers(0, 2), min_size=1, max_size=4), faults=st.integers(0, 3))
def test_pruning_loses_no_end(steps: List[int], faults: int) -> None:
    def run(choices: Choices) -> int:
        total = 0
        for at, _ in enumerate(steps):
            state = (at, total)
            total += steps[at] * choices.choose(3, "how often", state=state)
        return total

    pruned = explore(run, faults=faults, keep_ends=True)
    whole = explore(run, faults=faults, keep_ends=True, prune=False)
    assert set(pruned.ends) == set(whole.ends)
    assert pruned.paths <= whole.paths
    assert whole.states == whole.left_out == 0


def test_states_are_counted_and_met_paths_are_left() -> None:
    def run(choices: Choices) -> int:
        first = choices.choose(3, "first", state="begin")
        return choices.choose(2, "second", state=lambda: ("after", first > 0))

    report = explore(run, faults=1)
    assert (report.paths, report.left_out, report.states) == (4, 1, 3)


def test_a_free_choice_is_no_fault() -> None:
    def run(choices: Choices) -> Tuple[int, int]:
        return choices.choose(3, "who", is_free=True), choices.choose(2, "how")

    report = explore(run, faults=0, keep_ends=True)
    assert set(report.ends) == {(0, 0), (1, 0), (2, 0)}


def test_the_finding_has_the_fewest_faults_then_the_fewest_choices() -> None:
    def run(choices: Choices) -> None:
        lost = choices.choose(2, "lost")
        late = choices.choose(2, "late")
        if lost and late:
            raise ValueError("both")
        if late:
            choices.choose(1, "one more")
            choices.choose(1, "and one more")
            raise ValueError("long")
        if lost:
            raise ValueError("short")

    report = explore(run, faults=2)
    assert [str(path.error) for path in report.findings] == ["short", "long"]
    assert (report.complete, report.stopped) == (1, "finding")
    assert str(report.findings[0]) == "ValueError: short (replay: 0:1of2)"
    every = explore(run, faults=2, all_findings=True)
    assert [str(path.error) for path in every.findings] == ["short", "long", "both"]
    assert (every.complete, every.stopped) == (2, "")


def test_a_state_that_comes_twice_on_a_path_never_ends() -> None:
    def run(choices: Choices) -> None:
        while True:
            choices.choose(2, "ask again", state="asking")

    (finding,) = explore(run, faults=0).findings
    assert str(finding.error) == "It never ends: the same state again at 'ask again'"


def test_a_path_that_is_left_stays_left() -> None:
    caught: List[int] = []

    def run(choices: Choices) -> None:
        choices.choose(2, "first", state=1)
        try:
            choices.choose(2, "second", state=2)
        except PathLeft:
            with pytest.raises(PathLeft):
                choices.choose(2, "third", state=3)
            caught.append(1)
            raise

    assert explore(run, faults=1).left_out == len(caught) == 1


def test_a_run_that_answers_differently_is_named() -> None:
    labels = itertools.count()

    def run(choices: Choices) -> None:
        choices.choose(2, f"choice {next(labels)}")

    with pytest.raises(NotDeterministic, match="Choice 1 was 'choice 0' with 2 options, and is"):
        explore(run, faults=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0:1of3", "at choice 1, 'first': it takes option 1 of 3, and there are 2"),
        ("1:5of2", "at choice 2, 'second': it takes option 5 of 2, and there are 2"),
        ("4:1of2", "the path has 2 choices and ends after 'second', but the text names choice 5"),
        ("1.0", "'1' does not"),
        ("", "must be '-' or look like"),
    ],
)
def test_a_text_that_does_not_fit_says_where(text: str, message: str) -> None:
    def run(choices: Choices) -> None:
        choices.choose(2, "first")
        choices.choose(2, "second")

    with pytest.raises(ReplayError, match=message):
        replay(run, text)


def test_a_budget_ends_the_search_and_the_report_says_what_is_left() -> None:
    report = explore(taking([2, 2, 2]), faults=3, budget=lambda so_far: so_far.paths < 3)
    assert (report.paths, report.complete, report.stopped) == (3, 0, "budget")
    assert report.untried > 0


def test_an_interrupt_keeps_what_was_covered() -> None:
    def run(choices: Choices) -> None:
        if choices.choose(2, "first"):
            raise KeyboardInterrupt

    report = explore(run, faults=1)
    assert (report.complete, report.stopped, report.paths) == (0, "interrupted", 2)


@given(shape=SHAPES, seed=st.integers(0, 99), faults=st.integers(0, 3))
def test_a_random_path_keeps_to_its_seed_and_bound(
    shape: List[int], seed: int, faults: int
) -> None:
    path = walk(taking(shape), seed=seed, faults=faults, length=len(shape))
    assert path == walk(taking(shape), seed=seed, faults=faults, length=len(shape))
    assert path.faults <= faults
    assert replay(taking(shape), path.text) == path


def test_random_paths_differ_and_findings_are_kept() -> None:
    def run(choices: Choices) -> None:
        if choices.choose(9, "first") == 7 and choices.choose(2, "who", is_free=True):
            raise ValueError("found")

    paths = [walk(run, seed=seed, faults=1, length=1) for seed in range(200)]
    assert {str(path.error) for path in paths} == {"None", "found"}


def test_wrong_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="faults must be at least 0, not -1"):
        explore(taking([]), faults=-1)
    (finding,) = explore(lambda choices: choices.choose(0, "none"), faults=0).findings
    assert "options must be at least 1, not 0, for 'none'" in str(finding.error)
    assert Report(2).complete == -1
    assert Path(()).text == "-"


def test_a_path_that_ends_before_its_prefix_is_not_deterministic() -> None:
    calls = iter(range(9))

    def run(choices: Choices) -> None:
        first = next(calls) == 0
        choices.choose(2, "always")
        if first:
            choices.choose(2, "once")

    with pytest.raises(NotDeterministic, match=r"Choice 2 was 'once', and the path ends there"):
        explore(run, faults=1)
