"""The world of one run, and the processes in it, each of which may die at any of its steps.

`Process.step` is the only way to the world. It asks the search whether the process dies before the
step, or after it and before it learns what came of it. A process that has died takes no more steps.
"""

from __future__ import annotations

import inspect
import os
import shutil
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import (
    Callable,
    Dict,
    FrozenSet,
    Generator,
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

from flowmaestro.testing.crashes.steps import OwnFiles, ProcessDied, Step, told
from flowmaestro.testing.crashes.turns import Turns
from flowmaestro.testing.fake.fake_flowmaestro import FakeFlowMaestro
from flowmaestro.testing.fake.model.executions import Execution
from flowmaestro.testing.search import Choices, SearchError

BEFORE = "dies before it"
AFTER = "dies after it, before it learns of it"
OVERTAKEN = "another process makes the same call first"
_ENDED = ("completed", "failed", "cancelled")

current: ContextVar[Optional[Process]] = ContextVar("current", default=None)
"""The simulated process whose code runs here; `None` outside of one."""
_within: ContextVar[Optional[Step]] = ContextVar("within", default=None)
"""The step that is being taken. What the SDK or a store does in it are no steps of their own."""


class Stopped(BaseException):
    """Ends a run at once: the search has refused a choice. No code of the user's catches it."""


class Started(NamedTuple):
    """An execution that a step has started. `at` is the index of the step."""

    execution: Execution
    step: Step
    at: int


class Effect(NamedTuple):
    """A call of a named effect that was carried out. `at` is the index of its step."""

    name: str
    key: str
    step: Step
    at: int


@dataclass
class Run:
    """The world of one run. Its fake, its folder and its store belong to no other run.

    Attributes:
        choices: what the search has chosen, and chooses.
        own: tells the user's own files.
        faults: the kinds of faults that the network and the list may have.
        folder: the folder of the processes that run now; `None` if nothing needs one.
        overtake: makes the same call in another process; `None` if there is none, or no more.
        breaks_at: with the how manieth choice that was not the first to call `stop_here`; 0: never.
        stop_here: called with the step at which a replayed run must stop.

    """

    choices: Choices
    own: OwnFiles
    fake: FakeFlowMaestro
    faults: FrozenSet[str] = frozenset()
    folder: Optional[Path] = None
    overtake: Optional[Callable[[], None]] = None
    breaks_at: int = 0
    stop_here: Callable[[Step], None] = lambda _: None
    steps: List[Step] = field(default_factory=list[Step])
    started: List[Started] = field(default_factory=list[Started])
    effects: List[Effect] = field(default_factory=list[Effect])
    deaths: List[Step] = field(default_factory=list[Step])
    trouble: Optional[Step] = None
    """The last step at which something else than usual was chosen."""
    turns: Turns = field(default_factory=Turns)
    newest: Optional[Process] = None
    """The process that began last."""
    alive: int = 0
    """The number of processes that have begun and neither ended nor died."""
    places: int = 0
    """The number of steps at which something else could have been chosen."""
    refused: Optional[SearchError] = None
    """Why the search has refused a choice."""
    _version: int = 0
    """Grows with each change of the world."""
    _tried: Set[Hashable] = field(default_factory=set[Hashable])
    _statuses: Dict[str, str] = field(default_factory=dict[str, str])
    _folders: int = 0

    def __post_init__(self) -> None:
        self.fake.note_changes(self._note_change)

    def _note_change(self, execution: Execution, has_started: bool) -> None:
        step = _within.get()
        if has_started and step is not None:
            self.started.append(Started(execution, step, len(self.steps) - 1))
            step.outcome = f"starts {self.short_id(execution.id)}"
        if self._statuses.get(execution.id) != execution.status:
            self._statuses[execution.id] = execution.status
            self._version += 1

    def short_id(self, text: str) -> str:
        """Return a text in which the ids of the executions of this run are `exec_1` and so on."""
        for number, it in enumerate(self.started, 1):
            text = text.replace(it.execution.id, f"exec_{number}")
        return text

    @property
    def unended(self) -> List[Started]:
        """The executions that have not ended."""
        return [it for it in self.started if it.execution.status not in _ENDED]

    def changed(self) -> None:
        """Note that the world has changed."""
        self._version += 1

    def choose(self, step: Step, others: Sequence[str]) -> str:
        """Return what happens at a step: `""`, or one of `others`.

        A step that has come before in this process is no choice if the world has not changed since:
        what the others would lead to was tried there.
        """
        world = (self._version, self._folder_state())
        seen = (step.process, step.label, step.place, world)
        options = ["", *(others if seen not in self._tried else ())]
        self._tried.add(seen)
        if len(options) > 1:
            self.places += 1
        label = f"{step.process} {step.label} ({step.place.short})"
        try:
            taken = options[self.choices.choose(len(options), label)]
        except SearchError as error:
            self.refused = error
            raise Stopped from None
        if taken:
            self.trouble = step
            self.breaks_at -= 1
            if self.breaks_at == 0:
                self.stop_here(step)
        return taken

    def _folder_state(self) -> Hashable:
        """Return what tells one content of the folder from another: names, sizes and times."""
        return None if self.folder is None else tuple(_files_of(self.folder))

    def copy_folder(self) -> None:
        """Let later processes have a copy of the folder as it is now.

        What a dead process still writes, because Python closes its files, reaches only the folder
        that it had. Without effect while another process uses the folder, too.
        """
        if self.folder is not None and not self.alive:
            self._folders += 1
            copied = self.folder.with_name(f"{self.folder.name.partition('-')[0]}-{self._folders}")
            self.folder = Path(shutil.copytree(self.folder, copied))


def _files_of(folder: Union[str, Path]) -> Iterator[Tuple[str, int, int]]:
    with os.scandir(folder) as found:
        for it in sorted(found, key=lambda it: it.name):
            if it.is_dir():
                yield from _files_of(it.path)
            else:
                stat = it.stat()
                yield it.name, stat.st_size, stat.st_mtime_ns


class Process:
    """A simulated process, which makes one call of the task.

    Attributes:
        run: the run that it belongs to.
        name: `A` for the first one of the run, then `B` and so on.
        attempt: how many calls this delivery of the task has had, from 1.
        is_dead: whether it has died.

    """

    def __init__(self, run: Run, name: str, attempt: int) -> None:
        self.run = run
        self.name = name
        self.attempt = attempt
        self.folder: Optional[Path] = run.folder
        self.is_dead: bool = False
        run.alive += 1
        run.newest = self

    def check_alive(self) -> None:
        """Raise `ProcessDied` if this process has died."""
        if self.is_dead:
            raise ProcessDied("this process has died before")

    @contextmanager
    def step(
        self,
        kind: str,
        label: str,
        what: str = "",
        *,
        key: str = "",
        acts: bool = True,
        faults: Sequence[str] = (),
    ) -> Generator[Step, None, None]:
        """Take a step in a `with` block. Yield it, so that the block can note what came of it.

        Raises `ProcessDied` before the block or after it, if this is where the process dies, and if
        it has died before. With `acts=False`, the block does not change the world, so that it makes
        no difference to die after it.
        """
        self.check_alive()
        outer = _within.get()
        if outer is not None and (kind != "line" or outer.kind not in ("load", "save")):
            if key and not outer.key:
                outer.key, outer.what = key, f"{outer.what}: {what}"
            yield outer
            return
        run = self.run
        if run.turns.used:
            with run.fake.clock.in_flight():  # Time stands still until it is this thread's turn.
                run.turns.take()
            self.check_alive()
        place = run.own.place_of(inspect.currentframe())
        step = Step(self.name, kind, label, place, what or label, key)
        others = [BEFORE, *([AFTER] if acts else ()), *faults]
        # Held up before the request of a start, a process would break what the docs of checkpoints
        # assume: another one waits for `settle_after` before it looks.
        if run.overtake is not None and kind != "line" and not (kind == "request" and acts):
            others.append(OVERTAKEN)
        happens = run.choose(step, others)
        if happens == OVERTAKEN and run.overtake is not None:
            overtake, run.overtake = run.overtake, None
            run.steps.append(Step(self.name, "wait", label, place, "is held up", outcome=happens))
            overtake()
            happens = ""
            self.check_alive()
        run.steps.append(step)
        if happens == BEFORE:
            self._die(step, happens)
        if happens in faults:
            step.fault = happens
        token = _within.set(step)
        try:
            yield step
        except Exception as error:
            step.outcome = step.outcome or f"raises {told(error)}"
            if happens != AFTER:
                raise
        finally:
            _within.reset(token)
            step.acted = acts
            if acts:
                run.changed()
        self.check_alive()
        if happens == AFTER:
            self._die(step, happens)

    def line(self) -> None:
        """Die before the present line of the user's code, if the search chooses so."""
        if not self.is_dead:
            with self.step("line", "line", "the next line", acts=False):
                pass

    def _die(self, step: Step, how: str) -> None:
        self.is_dead = True
        said = f"{step.outcome}, and {how}" if step.outcome else how
        step.outcome = said
        self.run.deaths.append(step)
        self.run.alive -= 1
        self.run.copy_folder()
        raise ProcessDied(f"{step.what}: {said} ({step.place})") from None
