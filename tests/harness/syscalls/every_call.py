"""Batches and runs whose process is killed at each system call, or one of whose calls fails.

`python -m tests.harness.syscalls.every_call` tries all; with `few`, one in twelve. Needs Linux and
`cc`. A small batch with a journal, and a run with a checkpoint in a file, are run once to learn
their system calls on the files and their requests and responses. Then each is run again and again:

* it is killed before, after and in the middle of each call;
* each call fails once with `EIO`, and all calls that need room fail from there on with `ENOSPC`;
* it is killed before each call, and then another program reads the journal, or its `-wal` file is
  deleted.

Another process makes the same call, and must finish. The service counts executions: each row is
started once. The journal may be refused instead if its `-wal` was deleted, or if another program
has read it after a kill between the two marks, of which the journal's code tells.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport, Node, running_server
from tests.harness.syscalls.forks import REFUSED, ROWS

SHIM = Path(__file__).with_name("shim.c")
COUNT, KILL_BEFORE, KILL_AFTER, KILL_IN_THE_MIDDLE, FAIL, FAIL_FROM_HERE = range(6)
TAKES_ROOM, WRITES, CANNOT_FAIL = 1, 2, 4
"""The flags of a call, as `shim.c` has them."""
CHANGE_NOTHING = ("flock", "read", "pread64", "mmap", "open64")
"""A kill after such a call is a kill before the next one."""
NEEDS_WAL = 1
"""The first mark of a journal, which has a `-wal` file from then on."""
FEW = 12

Trial = Dict[str, Any]


class Call(NamedTuple):
    """A system call: its name, its flags, the mark that it writes or 0, the name of its file."""

    name: str
    flags: int
    mark: int
    file: str


class Trials:
    """Trials against one service, which counts the executions of each."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self._folder, self._shim = folder, shim
        self._fake = FakeFlowMaestro()
        self._trials: List[Trial] = []

    def add(self, kind: str, what: str, at: int = 0, action: int = COUNT, **more: Any) -> None:
        """Plan a trial of this kind, `journal` or `checkpoint`."""
        number = self._folder.name + str(len(self._trials))
        workflow = f"wf_{number}"
        self._fake.workflow(workflow, nodes=[Node("work", seconds=0.02)], outputs=dict)
        with FlowMaestroClient(self._fake.api_key, transport=MemoryTransport(self._fake)) as client:
            # The newest execution from before shows a later process that it reads the right list.
            client.workflows.execute(workflow, inputs={"trial": number, "n": "before"})
        trial = {"number": number, "workflow": workflow, "kind": kind, "what": what, "at": at}
        self._trials.append(
            {**trial, "action": action, "error": 0, "then": "", "may_refuse": False, **more}
        )

    def run(self) -> List[Trial]:
        """Run all trials. Return each one with its wait statuses and its executions."""
        self._folder.mkdir()
        with running_server(self._fake) as url:
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "tests.harness.syscalls.forks"),
                    *(url, self._fake.api_key, str(self._folder)),
                ],
                input="\n".join(map(json.dumps, self._trials)),
                env={**os.environ, "LD_PRELOAD": str(self._shim)},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        trials = [json.loads(line) for line in done.stdout.splitlines()]
        started = Counter(
            (execution.inputs["trial"], execution.inputs["n"])
            for execution in self._fake.executions
        )
        for trial in trials:
            rows = range(ROWS if trial["kind"] == "journal" else 1)
            trial["may_refuse"] = trial["then"] == "lose" or (
                trial["then"] == "read" and self._is_between(trial)
            )
            trial["started"] = [started[trial["number"], row] for row in rows]
        return trials

    def calls(self, trial: str) -> List[Call]:
        """Return the system calls of the first attempt of a trial."""
        calls: List[Call] = []
        for line in (self._folder / f"{trial}.calls").read_text().splitlines():
            name, flags, mark, path = line.split(" ", 3)
            is_file = path.startswith(str(self._folder))
            file = Path(path).name if is_file else "the connection"
            calls.append(Call(name, int(flags), int(mark), file))
        return calls

    def _is_between(self, trial: Trial) -> bool:
        """Return whether the journal had the first of its two marks when it was killed.

        It may have it before the page of the mark is written, too: the `-wal` file is used again,
        and may hold the same page in the same place since the last time. Then the head of the frame
        is enough.
        """
        *done, last = self.calls(trial["number"])
        marks = [call.mark for call in done if call.mark and call.file.endswith("-wal")]
        return NEEDS_WAL in (*marks[-1:], last.mark)


def plan(trials: Trials, kind: str, calls: List[Call], step: int) -> None:
    """Plan the trials of this kind for every call, or for one in `step`."""

    def numbers(among: int = 0, without: int = 0) -> Iterator[int]:
        """Yield the numbers, from 1, of calls with one of the flags `among` (0: any)."""
        chosen = (
            at
            for at, call in enumerate(calls, 1)
            if (not among or call.flags & among) and not call.flags & without
        )
        return (at for place, at in enumerate(chosen) if place % step == 0)

    for at in numbers():
        trials.add(kind, "killed before", at, KILL_BEFORE)
    for at in numbers():
        if calls[at - 1].name not in CHANGE_NOTHING:
            trials.add(kind, "killed after", at, KILL_AFTER)
    for at in numbers(WRITES):
        trials.add(kind, "killed in the middle of a write", at, KILL_IN_THE_MIDDLE)
    for at in numbers(without=CANNOT_FAIL):
        trials.add(kind, "EIO once", at, FAIL, error=errno.EIO)
    for at in numbers(TAKES_ROOM):
        trials.add(kind, "ENOSPC from there on", at, FAIL_FROM_HERE, error=errno.ENOSPC)
    if kind == "journal":
        for at in numbers():
            trials.add(kind, "killed, then read", at, KILL_BEFORE, then="read")
            trials.add(
                kind, "killed, then -wal deleted", at, KILL_BEFORE, then="lose", may_refuse=True
            )


def failures_of(trial: Trial) -> List[str]:
    """Return what went wrong in a trial."""
    first, second = trial["first"], trial["second"]
    said = []
    if first not in (0, signal.SIGKILL):
        said.append(f"the first attempt ended with the wait status {first}")
    refused = os.WIFEXITED(second) and os.WEXITSTATUS(second) == REFUSED
    if second and not (refused and trial["may_refuse"]):
        said.append(f"the second attempt ended with the wait status {second}")
    if max(trial["started"]) > 1:
        said.append("a row was started twice")
    if min(trial["started"]) < 1 and not second:
        said.append("a row was not started")
    return said


def report(trials: List[Trial]) -> bool:
    """Print a line for each kind of trial, and each failure. Return whether none failed."""
    groups: Dict[Tuple[str, str], List[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial["kind"], trial["what"]), []).append(trial)
    failed = False
    for (kind, what), group in groups.items():
        counts = [count for trial in group for count in trial["started"]]
        killed = sum(trial["first"] == signal.SIGKILL for trial in group)
        refused = sum(trial["second"] != 0 for trial in group)
        print(
            f"{kind}, {what}: trials {len(group)}, killed {killed}, rows {len(counts)}, "
            f"executions {sum(counts)}, started twice {sum(count > 1 for count in counts)}"
            + (f", journals refused {refused}" if refused else "")
        )
        for trial in group:
            for failure in failures_of(trial):
                print(f"  FAILED at call {trial['at']}: {failure}")
                failed = True
    return not failed


def compiled(folder: Path) -> Path:
    """Compile the shim."""
    shim = folder / "shim.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(shim), str(SHIM), "-ldl"]
    subprocess.run(command, check=True)
    return shim


def tried(folder: Path, step: int = 1) -> bool:
    """Run the trials at every call, or at one in `step`. Return whether none failed."""
    shim = compiled(folder)
    kinds = ["journal", "checkpoint"]
    counting = Trials(folder / "counting", shim)
    for kind in kinds:
        counting.add(kind, "counted")
    ok = report(counting.run())
    trials = Trials(folder / "trials", shim)
    for number, kind in enumerate(kinds):
        calls = counting.calls(f"counting{number}")
        print(f"{kind}: {len(calls)} system calls")
        counts = Counter(f"{call.name} {call.file}" for call in calls)
        for what, count in sorted(counts.items()):
            print(f"  {count:3} {what}")
        plan(trials, kind, calls, step)
    done = trials.run()
    ok = report(done) and ok
    killed = sum(trial["first"] == signal.SIGKILL for trial in done)
    verdict = "each row was started once" if ok else "NOT each row was started once"
    print(f"{len(done)} trials, {killed} of them kills: {verdict}")
    return ok


def main() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ok = tried(Path(folder), FEW if "few" in sys.argv else 1)
    if not ok:
        sys.exit("a trial has failed")


if __name__ == "__main__":
    main()
