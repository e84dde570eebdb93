"""The known double starts, each brought back by taking out its mend: would they be found again?

python -m tests.explore.calibration              # by exploring: a table with bounds and seconds
python -m tests.explore.calibration NAME...      # these alone
python -m tests.explore.calibration --tests      # by the one test that was written for each

An instrument that finds nothing proves nothing, unless it finds what is known. `MISTAKES` holds
each order of events that has once started a workflow twice in the machines, and the change of
today's code that lets it happen again. A change whose text the code does not have is an error, so
the table cannot go stale unnoticed. The changes are made in a copy of the tree.

Two more double starts of the same readings are outside the machines, and outside this table: a
checkpoint file `x.new` was taken for the draft of `x` (`tests/core/test_checkpoint.py` refuses
the name), and a browser's `EventSource` repeated the request of an example (it is a POST now).

The two `accepted` mistakes and `empty-although-known` need a list that does not show what it
should, and `older-header` a store that loses a part of a save: the mends of these four are a
defence beyond the promise.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import List, NamedTuple, Sequence, Tuple

from tests.harness.mutants import ROOT, Copy, Mutant, Verdict

_ROOM = "flowmaestro_core/executions/"
_TESTS = "tests/core/executions/"
LONGEST = 300.0
"""Seconds for one run of the explorer. Without a mistake, the quick share takes at most 20."""


class Edit(NamedTuple):
    """A text of a file, which stands there once, and what replaces it."""

    file: str
    old: str
    new: str

    def mutant(self) -> Mutant:
        """Return it by its place in today's file. Raises `ValueError` if it has none, or two."""
        source = (ROOT / self.file).read_text("utf-8")
        if source.count(self.old) != 1:
            raise ValueError(f"{self.file} has {source.count(self.old)} times: {self.old!r}")
        begun = source.index(self.old)
        return Mutant(self.file, begun, begun + len(self.old), self.new)


class Mistake(NamedTuple):
    """A double start of the past.

    Attributes:
        name: by which it is chosen.
        wrong: what went wrong, in one sentence.
        mend: the subject of the commit that has mended it.
        test: a test that was written for it.
        edits: they take the mend out of today's code.
        runs: the scenario that finds it, and the least number of faults.

    """

    name: str
    wrong: str
    mend: str
    test: str
    edits: Tuple[Edit, ...]
    runs: Tuple[str, int]


def _in(module: str, old: str, new: str) -> Edit:
    return Edit(f"{_ROOM}{module}.py", old, new)


MISTAKES = (
    # The ten of two readings, but for the two that are outside the machines.
    Mistake(
        "found-and-started",
        "With `on_unknown='start'`, a start that its lookup had found was made again all the same.",
        "Start nothing again that a lookup has found",
        "test_durable_start.py::"
        "test_an_execution_that_is_found_is_followed_also_with_on_unknown_start",
        (
            _in(
                "start",
                "if self.state is not UNKNOWN or is_over:",
                "if self.state not in (UNKNOWN, STARTED) or is_over:",
            ),
            _in(
                "start",
                '            "end": (ENDED, REFUSED),\n',
                '            "end": (ENDED, REFUSED),\n            "start_anyway": (NEW,),\n',
            ),
            _in(
                "durable_start",
                "is_whole=is_whole, starts_unknown=starts_unknown)\n",
                "is_whole=is_whole, starts_unknown=starts_unknown)\n"
                "        if starts_unknown:\n            start.start_anyway()\n",
            ),
        ),
        runs=("checkpoint-start-clear", 1),
    ),
    Mistake(
        "error-of-other-inputs",
        "A 500 that was shown to start nothing counted for corrected inputs, too, which were "
        "started before the server answered with an equal 500.",
        "Start nothing again that a lookup has found",
        "test_start.py::test_a_server_error_of_other_inputs_leaves_doubt",
        (_in("start", 'f"{self.digest}\\n{error.code}\\n', 'f"{error.code}\\n'),),
        runs=("batch-redo", 2),
    ),
    Mistake(
        "error-after-an-execution",
        "A 500 that was shown to start nothing counted still after these inputs had been started.",
        "Start nothing again that a lookup has found",
        "test_start.py::test_a_server_error_of_inputs_that_were_started_once_leaves_doubt",
        (_in("start", 'self.refusal = ""  # These', "pass  # These"),),
        runs=("batch-rerun-recovers", 2),
    ),
    Mistake(
        "clock-ahead",
        "Without a baseline, the execution of a process whose clock was ahead seemed older than "
        "its announcement, and ended the walk that looked for it.",
        "Find starts of a process whose clock was ahead",
        "test_durable_start.py::"
        "test_start_without_a_baseline_is_found_if_the_clock_of_its_process_was_ahead",
        (_in("durable_start", "now - age if age >= 0 else -math.inf", "now - max(age, 0.0)"),),
        runs=("checkpoint-nameless", 2),
    ),
    Mistake(
        "found-late",
        "An execution that a lookup had found kept the number of its start, although the server "
        "had made it late: a later walk ended at it, and missed the older one of another row.",
        "Give each execution that a lookup found a later number",
        "test_batch_journal.py::"
        "test_found_execution_hides_no_older_one_of_a_row_that_is_still_in_doubt",
        (
            _in(
                "state",
                "        settle(rows, found,",
                "        were_unknown = {row.index for row in rows if row.may_run}\n"
                "        settle(rows, found,",
            ),
            _in(
                "state",
                "self._found(row, now)",
                "self._found(row, now, may_be_newer=row.index in were_unknown)",
            ),
        ),
        runs=("batch-2rows", 2),
    ),
    Mistake(
        "nameless",
        "A listed execution without a usable id did not count, so the list seemed empty, or "
        "without the execution of the start.",
        "Do not miss a start that a nameless execution may be",
        "test_batch_journal.py::test_listed_execution_without_a_usable_id_may_be_the_row_in_doubt",
        (
            _in(
                "settling",
                "        self._is_empty = False\n"
                '        found = text_or_empty(execution.get("id"))\n',
                '        found = text_or_empty(execution.get("id"))\n'
                "        if not is_id(found):\n            return False\n"
                "        self._is_empty = False\n",
            ),
        ),
        runs=("batch", 1),
    ),
    Mistake(
        "accepted-without-id",
        "A 202 without a usable id was sent again if the list did not show its execution.",
        "Start no row again that the server has accepted",
        "test_batch_journal.py::test_row_that_was_accepted_without_an_id_is_not_started_again",
        (
            _in("start", "            self.was_processed = True\n", ""),
            _in(
                "state",
                "self._knows_executions = True\n        row = self.starts.pop()",
                "row = self.starts.pop()",
            ),
        ),
        runs=("batch-never-listed", 1),
    ),
    Mistake(
        "accepted-unreadably",
        "A 202 whose body cannot be read was sent again if the list did not show its execution.",
        "Give each execution that a lookup found a later number",
        "test_batch_journal.py::test_row_that_was_accepted_without_an_id_is_not_started_again",
        (_in("start", "self.was_processed = error.status_code == 202", "pass"),),
        runs=("batch-never-listed", 1),
    ),
    Mistake(
        "announcement-of-another",
        "A call took the announcement that another process had made meanwhile for its own, so the "
        "empty list of another workspace said that nothing had been started.",
        "Take no other's announcement for one's own start",
        "test_durable_start.py::"
        "test_announcement_of_another_process_is_not_taken_for_the_start_of_this_call",
        (_in("durable_start", "if is_foreign and start.state is IN_DOUBT:", "if False:"),),
        runs=("checkpoint-new-throttled-key", 2),
    ),
    Mistake(
        "empty-although-known",
        "An empty list said that a row had not been started that the journal knew to have had an "
        "execution.",
        "Give each execution that a lookup found a later number",
        "test_batch_journal.py::"
        "test_empty_list_although_a_row_had_an_execution_leaves_its_rerun_unknown",
        (
            _in(
                "state",
                "        self._knows_executions |= "
                "any(it.execution_id or it.reruns for it in found.values())\n",
                "",
            ),
        ),
        runs=("batch-rerun-empty-list", 2),
    ),
    # Older ones.
    Mistake(
        "other-workspace",
        "A call with the key of another workspace read an empty list, and took it for the whole "
        "list of the workflow, in which nothing had been started.",
        "Keep a start in doubt for a key of another workspace",
        "test_durable_start.py::"
        "test_a_call_with_the_key_of_another_workspace_does_not_forget_the_start",
        (
            _in(
                "settling",
                "found.is_conclusive or (is_whole and not found.is_empty)",
                "found.is_conclusive or is_whole",
            ),
        ),
        runs=("checkpoint-new-other-key", 2),
    ),
    Mistake(
        "second-start-refused",
        "With `on_unknown='start'`, a second start that was refused was saved as `open`, although "
        "the first one may have been processed.",
        "Keep a start in doubt when the second one is refused",
        "test_batch_journal.py::test_a_refused_second_start_leaves_the_row_in_doubt",
        (
            _in("start", "UNKNOWN if self.may_run else REFUSED)", "REFUSED)"),
            _in("start", "UNKNOWN if self.may_run else NEW)", "NEW)"),
        ),
        runs=("checkpoint-new-other-key", 2),
    ),
    Mistake(
        "rerun-of-its-own",
        "A call that lost the save of its execution to another process took that execution for one "
        "of an earlier call, and `rerun` started it again.",
        "Know a start that another process has settled",
        "test_durable_start.py::"
        "test_an_execution_that_settling_finds_is_started_again_if_an_earlier_call_started_it",
        (_in("durable_start", "if not self._start.sent_here and execution", "if execution"),),
        runs=("checkpoint-rerun-2processes", 2),
    ),
    Mistake(
        "repeated-page",
        "The list grew by a page while it was read, and the page that repeated the one before "
        "ended the walk.",
        "Read on behind a page that repeats an earlier one",
        "test_batch_journal.py::"
        "test_a_list_that_grows_by_a_page_during_a_lookup_hides_no_lost_start",
        (
            _in(
                "settling",
                "        if self._cursor.repeated:\n"
                "            more = self._advance_behind_repeated_page()\n",
                "",
            ),
        ),
        runs=("checkpoint-busy", 2),
    ),
    Mistake(
        "engine-announces-anew",
        "Two states that a task engine had made looked alike, so the wait for the first one "
        "counted for the second.",
        "Tell two states that a task engine made apart",
        "test_durable_saves.py::test_a_state_that_the_engine_makes_anew_begins_another_wait",
        (_in("saved_states", "0.0 if self.serial else self.at", "0.0"),),
        runs=("checkpoint-engine", 1),
    ),
    Mistake(
        "redirect",
        "A 303, the answer to a request that was processed, counted as not started.",
        "Settle a start that the server answered with a 303",
        "test_start.py::test_failure_that_may_have_started_an_execution_leaves_doubt",
        (Edit("flowmaestro_core/policy/retry.py", "in (302, 303, 408)", "in (408,)"),),
        runs=("checkpoint", 1),
    ),
    Mistake(
        "nameless-baseline",
        "A workflow without executions has the baseline `''`, which equalled the missing id of a "
        "listed execution: the walk ended there.",
        "Do not take a row without an id for the baseline",
        "test_durable_start.py::test_a_listed_row_without_an_id_does_not_end_the_lookup",
        (_in("settling", "if has_id and found in numbers:", "if found in numbers:"),),
        runs=("checkpoint-new", 1),
    ),
    Mistake(
        "held-up",
        "A start that was held up for longer than another process waits was sent all the same.",
        "Announce a start again that is held up on a store",
        "test_batch_announcements.py::test_start_that_is_held_up_is_announced_again",
        (_in("sending", "math.inf if is_locked else settle_after / 2", "math.inf"),),
        runs=("checkpoint-2processes", 2),
    ),
    Mistake(
        "older-header",
        "A store lost a part of a save, so that numbers of starts were given out twice, and a walk "
        "could end before a row in doubt.",
        "Refuse a header that is older than a row",
        "test_batch_journal.py::test_header_that_is_older_than_a_row_is_refused",
        (_in("saved_states", "if number > last_number:", "if False:"),),
        runs=("batch-torn-save", 1),
    ),
)
"""Each is a double start, or the loss of the fact that prevents one."""


def chosen(names: Sequence[str]) -> List[Mistake]:
    """Return the mistakes of these names, or all. Raises `ValueError` for an unknown name."""
    known = {it.name: it for it in MISTAKES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no such mistake: {unknown[0]}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(MISTAKES)


def repeat(copy: Copy, mistake: Mistake, command: Sequence[str]) -> Verdict:
    """Return how a command ends with the mend of a mistake taken out."""
    with copy.changed([edit.mutant() for edit in mistake.edits]):
        return copy.run((sys.executable, *command), LONGEST)


def find(copy: Copy, mistake: Mistake) -> str:
    """Return how a mistake is found by exploring: a row of the table, with what is wrong in it."""
    name, faults = mistake.runs
    module = ("-m", "tests.explore", "run", name, "--faults")
    fewer = repeat(copy, mistake, (*module, str(faults - 1)))
    verdict = repeat(copy, mistake, (*module, str(faults)))
    said = re.search(r"with (\d+) faults? and (\d+) choices", verdict.printed)
    if fewer.status != 0 or verdict.status != 1 or said is None:
        return f"| {mistake.name} | {mistake.mend} | {name} | NOT AS SAID: {verdict.status} | | |"
    cells = (mistake.name, mistake.mend, name, *said.groups(), f"{verdict.seconds:.1f}")
    return "| " + " | ".join(cells) + " |"


def test_of(mistake: Mistake) -> Tuple[str, ...]:
    """Return the command of the test that was written for a mistake."""
    return ("-m", "pytest", "-qx", "--tb=line", "-pno:cacheprovider", _TESTS + mistake.test)


def main(words: Sequence[str]) -> int:
    """Bring mistakes back, one after another. Return 1 if one is not found as it should, else 0."""
    by_test = "--tests" in words
    missed = 0
    with TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        if not by_test:
            print("| mistake | commit of its mend | scenario | faults | choices | s |")
            print("|---|---|---|--:|--:|--:|")
        for it in chosen([word for word in words if word != "--tests"]):
            if by_test:
                verdict = repeat(copy, it, test_of(it))
                is_found = verdict.status == 1
                row = f"{it.name:26} {verdict.seconds:.1f} s{'' if is_found else ' NOT FOUND'}"
            else:
                row = find(copy, it)
                is_found = "NOT AS SAID" not in row
            missed += not is_found
            print(row, flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
