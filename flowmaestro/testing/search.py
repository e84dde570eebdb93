"""A search through every way that a run can go. Pure; the caller may pass a clock.

A *run* is a function of its choices: it gets a `Choices`, asks it whenever something may go in
several ways, and does nothing that depends on anything else. `explore` calls it again and again,
each time with other answers, from the beginning. So the run keeps no state between two paths, and
nothing has to be copied (stateless search, as in CHESS, loom and shuttle).

    def run(choices: Choices) -> str:
        if choices.choose(2, "the request") == 1:
            raise AssertionError("the request was lost")
        return "sent"

    report = explore(run, faults=2)
    assert not report.findings, report.findings[0]

The first option of a choice is what usually happens. Any other one is a *fault*, unless the choice
is declared to be free, such as which of two processes runs next.

**What `explore` guarantees.** Paths are tried in the order of their faults: first the one without a
fault, then all with one, and so on. `Report.complete` is the greatest number of faults for which
every path was tried, or was left out because it continues from a state that another path with as
few faults continues from. A finding has the fewest faults that lead to one, and of these the fewest
choices. The guarantee needs two things of the run: the same answers lead to the same choices
(checked: `NotDeterministic`), and, where it passes a `state`, two equal states have the same
future, whatever the number of faults so far. A state that comes twice on one path without a fault
in between is a finding, since the run would never end.
"""

from __future__ import annotations

import random
import re
from collections import deque
from dataclasses import dataclass, field
from typing import (
    Any,
    Callable,
    Deque,
    Dict,
    Hashable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

State = Union[Hashable, Callable[[], Hashable]]


class Choice(NamedTuple):
    """A choice that a run has made.

    Attributes:
        taken: the index of the option that was taken.
        options: the number of options.
        label: what was chosen, for people.
        is_free: whether every option costs no fault.

    """

    taken: int
    options: int
    label: str
    is_free: bool

    @property
    def faults(self) -> int:
        """The number of faults of this choice: 0 or 1."""
        return int(self.taken > 0 and not self.is_free)


class SearchError(Exception):
    """The base of the errors about a search, a run or a text that replays a path."""


class NotDeterministic(SearchError):
    """The same answers led to other choices, so the paths cannot be enumerated.

    The message names the first choice that differs.
    """


class ReplayError(SearchError):
    """A text does not replay a path of this run. The message names where they part."""


class PathLeft(BaseException):
    """Raised by `choose` to leave a path whose rest is known. A run must let it pass."""


class Choices:
    """The choices of one path. `explore`, `replay` and `walk` make them, and a run asks them.

    Attributes:
        made: the choices that were made so far.

    """

    def __init__(self, prefix: Sequence[Choice] = (), seen: Optional[Set[Hashable]] = None) -> None:
        self.made: List[Choice] = []
        self._prefix = prefix
        self._seen = seen
        self._own: Dict[Hashable, int] = {}
        """The states of this path, with the faults that had come before each."""
        self._is_left = False
        self.repeated: Optional[str] = None
        """The label at which a state came a second time on this path; `None` if none did."""

    def choose(
        self, options: int, label: str, *, state: Optional[State] = None, is_free: bool = False
    ) -> int:
        """Return which of `options` options to take, from 0 on.

        `label` says what is chosen, for people. `state` is all that the future depends on, or a
        function that returns it: a hashable value. Paths that meet in a state continue once.
        Without a `state`, no path is left out. With `is_free`, no option counts as a fault.

        Raises `ValueError` if there is not at least one option, and `PathLeft` to leave the path.
        """
        if options < 1:
            raise ValueError(f"options must be at least 1, not {options}, for {label!r}")
        if self._is_left:
            raise PathLeft
        position = len(self.made)
        if position < len(self._prefix):
            wanted = self._prefix[position]
            if wanted[1:] != (options, label, is_free):
                raise NotDeterministic(
                    f"Choice {position + 1} was {wanted.label!r} with {wanted.options} options, "
                    f"and is {label!r} with {options} for the same answers before it"
                )
            self.made.append(wanted)
            return wanted.taken
        if state is not None and self._seen is not None:
            self._look_up(state() if callable(state) else state, label)
        taken = self._pick(options, label, is_free=is_free)
        self.made.append(Choice(taken, options, label, is_free))
        return taken

    def _pick(self, options: int, label: str, *, is_free: bool) -> int:
        """Return the option for a choice behind the prefix."""
        return 0

    def check_end(self) -> None:
        """Raise `NotDeterministic` if the path ended before the choices that it must begin with."""
        if len(self.made) < len(self._prefix):
            wanted = self._prefix[len(self.made)]
            raise NotDeterministic(
                f"Choice {len(self.made) + 1} was {wanted.label!r}, and the path ends there for "
                "the same answers before it"
            )

    def _look_up(self, state: Hashable, label: str) -> None:
        """Leave the path if another path has been in this state, or this path before."""
        seen, own = self._seen, self._own
        assert seen is not None  # noqa: S101 (for the type checker)
        faults = sum(choice.faults for choice in self.made)
        if state not in seen:
            seen.add(state)
            own[state] = faults
            return
        if own.get(state) == faults:
            self.repeated = label
        self._is_left = True
        raise PathLeft


class _RandomChoices(Choices):
    """Random choices with at most so many faults."""

    def __init__(self, source: random.Random, faults: int, probability: float) -> None:
        super().__init__()
        self._source, self._left, self._probability = source, faults, probability

    def _pick(self, options: int, label: str, *, is_free: bool) -> int:
        source = self._source
        if options == 1:
            return 0
        if is_free:
            return source.randrange(options)
        if not self._left or source.random() >= self._probability:
            return 0
        self._left -= 1
        return source.randrange(1, options)


class _ReplayedChoices(Choices):
    """The choices that a text names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._wanted = dict(_parsed(text))

    def _pick(self, options: int, label: str, *, is_free: bool) -> int:
        position = len(self.made)
        if position not in self._wanted:
            return 0
        taken, of = self._wanted.pop(position)
        if of != options or taken >= options:
            raise ReplayError(
                f"The text does not fit at choice {position + 1}, {label!r}: it takes option "
                f"{taken} of {of}, and there are {options}"
            )
        return taken

    def check_end(self) -> None:
        """Raise `ReplayError` if the path ended before the text."""
        if self._wanted:
            last = self.made[-1].label if self.made else "the beginning"
            raise ReplayError(
                f"The text does not fit: the path has {len(self.made)} choices and ends after "
                f"{last!r}, but the text names choice {min(self._wanted) + 1}"
            )


@dataclass(frozen=True)
class Path:
    """A path that was tried.

    Attributes:
        choices: its choices.
        end: what the run returned; `None` if it raised.
        error: what the run raised; `None` if it returned.

    """

    choices: Tuple[Choice, ...]
    end: Any = None
    error: Optional[Exception] = None

    @property
    def faults(self) -> int:
        """The number of its faults."""
        return sum(choice.faults for choice in self.choices)

    @property
    def text(self) -> str:
        """The text with which `replay` runs it again.

        It names the options that were not the first: `2:4of9.0:1of3` takes the first option twice,
        then option 4 of 9, then option 1 of 3, and then first options. `-` takes only those.
        """
        words: List[str] = []
        skipped = 0
        for choice in self.choices:
            if choice.taken:
                words.append(f"{skipped}:{choice.taken}of{choice.options}")
                skipped = 0
            else:
                skipped += 1
        return ".".join(words) or "-"

    def __str__(self) -> str:
        return f"{type(self.error).__name__}: {self.error} (replay: {self.text})"


@dataclass
class Report:
    """What a search has covered and found.

    Attributes:
        faults: the greatest number of faults that was asked for.
        complete: the greatest number of faults for which every path was tried; -1 if none is.
        paths: how many paths were begun.
        left_out: how many of these were left, because they came to a state that was seen.
        states: how many distinct states there were.
        steps: how many choices were made, those of the prefixes included.
        findings: the paths that raised, with the fewest faults first, then the fewest choices.
        ends: what the other paths returned, each once, with the first path that returned it. Kept
            only on request.
        untried: how many paths were known and not tried, because the search was stopped.
        stopped: why it was stopped: `"finding"`, `"budget"`, `"interrupted"`; `""` if it was not.

    """

    faults: int
    complete: int = -1
    paths: int = 0
    left_out: int = 0
    states: int = 0
    steps: int = 0
    findings: List[Path] = field(default_factory=list[Path])
    ends: Dict[Hashable, Path] = field(default_factory=dict[Hashable, Path])
    untried: int = 0
    stopped: str = ""


Run = Callable[[Choices], Any]


def explore(
    run: Run,
    *,
    faults: int,
    prune: bool = True,
    all_findings: bool = False,
    keep_ends: bool = False,
    budget: Optional[Callable[[Report], bool]] = None,
) -> Report:
    """Try every path of `run` with at most `faults` faults, and return what that showed.

    A run that raises an exception is a finding. Unless `all_findings` is true, the search ends with
    the number of faults at which the first one was found, so that the shortest of them is known.
    With `prune=False`, no state is looked up. `keep_ends` keeps what the runs return, which must be
    hashable then. `budget` is called before each path; the search stops once it returns False.
    Ctrl+C ends the search, too, and the report says what was covered.

    Raises `NotDeterministic`, and `ValueError` if `faults` is negative.
    """
    if faults < 0:
        raise ValueError(f"faults must be at least 0, not {faults}")
    report = Report(faults)
    seen: Optional[Set[Hashable]] = set() if prune else None
    level: Deque[Tuple[Choice, ...]] = deque([()])
    try:
        for number in range(faults + 1):
            following: Deque[Tuple[Choice, ...]] = deque()
            while level:
                if budget is not None and not budget(report):
                    report.stopped = "budget"
                    break
                prefix = level.popleft()
                report.untried = len(level) + len(following) + 1
                choices = Choices(prefix, seen)
                _take(run, choices, report, keep_ends=keep_ends)
                for deviation in _deviations(choices.made, len(prefix)):
                    (following if deviation[-1].faults else level).append(deviation)
            report.untried = len(level) + (len(following) if number < faults else 0)
            if report.stopped:
                break
            report.complete = number
            if report.findings and not all_findings and number < faults:
                report.stopped = "finding"
                break
            level = following
    except KeyboardInterrupt:
        report.stopped = "interrupted"
    report.states = len(seen or ())
    report.findings.sort(key=lambda path: (path.faults, len(path.choices)))
    return report


def _take(run: Run, choices: Choices, report: Report, *, keep_ends: bool) -> None:
    """Run one path, and note in the report how it ended."""
    report.paths += 1
    try:
        end = run(choices)
    except PathLeft:
        report.left_out += 1
        if choices.repeated is not None:
            error = RuntimeError(f"It never ends: the same state again at {choices.repeated!r}")
            report.findings.append(Path(tuple(choices.made), error=error))
    except SearchError:
        raise
    except Exception as error:
        choices.check_end()
        report.findings.append(Path(tuple(choices.made), error=error))
    else:
        choices.check_end()
        if keep_ends and end not in report.ends:
            report.ends[end] = Path(tuple(choices.made), end)
    report.steps += len(choices.made)


def _deviations(made: Sequence[Choice], begin: int) -> Iterator[Tuple[Choice, ...]]:
    """Return the prefixes that part from a path at one of its choices, from number `begin` on."""
    for position in range(begin, len(made)):
        choice = made[position]
        for other in range(choice.taken + 1, choice.options):
            yield (*made[:position], choice._replace(taken=other))


def replay(run: Run, text: str) -> Path:
    """Run the path of this text again (`Path.text`), and return how it ended.

    Raises `ReplayError` if the text is malformed, or does not fit the choices of the run.
    """
    choices = _ReplayedChoices(text)
    path = _path_of(run, choices)
    choices.check_end()
    return path


def walk(run: Run, *, seed: int, faults: int, length: int) -> Path:
    """Run a random path with at most `faults` faults, and return how it ended.

    `length` is about how many choices a path has. The faults are spread over it. The same seed
    gives the same path.
    """
    source = random.Random(seed)  # noqa: S311 (nothing secret)
    return _path_of(run, _RandomChoices(source, faults, faults / max(length, 1)))


def _path_of(run: Run, choices: Choices) -> Path:
    try:
        end = run(choices)
    except SearchError:
        raise
    except Exception as error:
        return Path(tuple(choices.made), error=error)
    return Path(tuple(choices.made), end)


_WORD = re.compile(r"([0-9]+):([0-9]+)of([0-9]+)")


def _parsed(text: str) -> Iterator[Tuple[int, Tuple[int, int]]]:
    """Return the position, the option and the number of options of each choice in a text."""
    position = 0
    for word in [] if text == "-" else text.split("."):
        match = _WORD.fullmatch(word)
        if match is None:
            raise ReplayError(
                f"The text of a path must be '-' or look like '2:4of9.0:1of3'; {word!r} does not"
            )
        skipped, taken, options = map(int, match.groups())
        position += skipped
        yield position, (taken, options)
        position += 1
