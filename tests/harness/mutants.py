"""Which tests notice a small fault in the source: quick ones, slow ones, or none.

python -m tests.harness.mutants build/mutants.jsonl            # the 200 mutants of seed 1
python -m tests.harness.mutants build/mutants.jsonl 20 2       # 20 of seed 2
python -m tests.harness.mutants build/mutants.jsonl 200 1 flowmaestro_core tests/core  # a part

At first, all quick and all slow tests run with coverage, which takes long: the result is kept
beside the file of results. A mutant is then tried with the tests that run its line. Each mutant
changes one operator, number or word of a file in place, and the file is restored.

Results are lines of JSON. What the file holds already is not tried again, so a run that was
stopped goes on. Stop it by Ctrl-C: it then restores the file that it has changed.
"""

from __future__ import annotations

import ast
import json
import os
import random
import re
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence

from coverage import CoverageData

ROOT = Path(__file__).parents[2]
PACKAGES = ("flowmaestro_core", "transports/flowmaestro_transports", "flowmaestro")
PAIRS = (
    ("==", "!="),
    ("<", "<="),
    (">", ">="),
    ("is", "is not"),
    ("in", "not in"),
    ("and", "or"),
    ("+", "-"),
)
SWAPPED = dict((*PAIRS, *((new, old) for old, new in PAIRS)))
LONGEST = 1800
"""Seconds for the tests of one mutant."""
LONGEST_TEST = 120
"""Seconds for one test: a mutant that hangs is found."""
FEW = 40
"""Tests that are tried first, if many run the line of a mutant. Most mutants are found by them."""
PYTEST = (sys.executable, "-m", "pytest", "-pno:cacheprovider")
NONE_OF_THIS_KIND = 5
"""The exit status of pytest if there are no such tests."""


class Mutant(NamedTuple):
    """A file, the place of a few characters of it, and what replaces them."""

    file: str
    start: int
    end: int
    text: str


def mutants_of(file: Path) -> Iterator[Mutant]:
    """Yield each mutant of a file; of annotations and docstrings there are none."""
    source = file.read_text("utf-8")
    name = file.relative_to(ROOT).as_posix()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def between(left: ast.expr, right: ast.expr) -> Iterator[Mutant]:
        begun = starts[(left.end_lineno or 0) - 1] + (left.end_col_offset or 0)
        ended = starts[right.lineno - 1] + right.col_offset
        old = source[begun:ended].strip(" ()\n")
        if old in SWAPPED:
            at = source.index(old, begun)
            yield Mutant(name, at, at + len(old), SWAPPED[old])

    for node in run_nodes(ast.parse(source)):
        if isinstance(node, ast.Compare):
            yield from between(node.left, node.comparators[0])
        elif isinstance(node, ast.BoolOp):
            yield from between(*node.values[:2])
        elif isinstance(node, ast.BinOp):
            yield from between(node.left, node.right)
        elif isinstance(node, ast.Constant) and isinstance(node.value, int):
            new = not node.value if isinstance(node.value, bool) else node.value + 1
            begun = starts[node.lineno - 1]
            ended = begun + (node.end_col_offset or 0)
            yield Mutant(name, begun + node.col_offset, ended, str(new))


def run_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that do something at run time."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns") or (
            isinstance(value, ast.expr) and "TYPE_CHECKING" in ast.dump(value)
        ):
            continue
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.AST):
                yield node
                yield from run_nodes(node)


def chosen(number: int, seed: int, packages: Sequence[str] = PACKAGES) -> List[Mutant]:
    """Choose mutants, the same for a seed as long as the source is the same."""
    files = [file for name in packages for file in sorted((ROOT / name).rglob("*.py"))]
    ascii_only = [file for file in files if file.read_text("utf-8").isascii()]
    return random.Random(seed).sample(
        [it for each in ascii_only for it in mutants_of(each)], number
    )


def run_with_coverage(
    kept: Path, speed: str, packages: Sequence[str], tests: Sequence[str]
) -> None:
    """Run the quick or the slow tests, and keep which of them runs which line."""
    if kept.exists():
        return
    covered = (f"--cov={name}" for name in packages)
    contexts = ("--cov-context=test", "--cov-report=")
    command = (*PYTEST, "-q", "-m", speed, "-n", "5", *covered, *contexts, *tests)
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "COVERAGE_FILE": str(kept)})
    if done.returncode not in (0, NONE_OF_THIS_KIND):
        raise SystemExit("tests fail without a mutant, too")


class Lines:
    """Which tests run which line."""

    def __init__(self, kept: Path) -> None:
        self._data = CoverageData(str(kept))
        self._data.read()
        self._of_file: Dict[str, Dict[int, List[str]]] = {}

    def tests(self, mutant: Mutant) -> List[str]:
        """Return the ids of the tests that run the line of a mutant, or else any line of its file.

        What runs at import alone is no line of a test.
        """
        file = str(ROOT / mutant.file)
        if file not in self._of_file:
            self._of_file[file] = self._data.contexts_by_lineno(file)
        known = self._of_file[file]
        line = (ROOT / mutant.file).read_bytes()[: mutant.start].count(b"\n") + 1
        return _ids(known.get(line, ())) or _ids(chain(*known.values()))


def _ids(contexts: Iterable[str]) -> List[str]:
    """Return the ids of tests, of which a context has a phase, too."""
    return sorted({name.rpartition("|")[0] for name in contexts} - {""})


def failing(tests: Sequence[str]) -> Optional[str]:
    """Return the id of a test that fails, "hangs", or `None` if all pass."""
    with TemporaryDirectory() as folder:
        names = Path(folder, "names")
        names.write_text("\n".join(tests), "utf-8")
        limit = f"--timeout={LONGEST_TEST}"
        command = (*PYTEST, "-qx", "-rfE", "--tb=no", limit, f"@{names}")
        run = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            printed = run.communicate(timeout=LONGEST)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            return "hangs"
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
    if run.returncode in (0, NONE_OF_THIS_KIND):
        return None
    return next(iter(re.findall(r"^(?:FAILED|ERROR) (\S+)", printed, re.MULTILINE)), "crashes")


def finds(mutant: Mutant, lines: Lines) -> Optional[str]:
    """Apply a mutant, and run the tests of its line. Return the one that finds it."""
    tests = lines.tests(mutant)
    file = ROOT / mutant.file
    source = file.read_bytes()
    try:
        file.write_bytes(source[: mutant.start] + mutant.text.encode() + source[mutant.end :])
        if not tests:
            return None
        few = tests[:: -(-len(tests) // FEW)]
        return failing(few) or (failing(tests) if len(tests) > len(few) else None)
    finally:
        file.write_bytes(source)


def main(
    results: str, number: str = "200", seed: str = "1", package: str = "", *tests: str
) -> None:
    """Try the mutants of a seed: with quick tests first, then what these do not find."""
    kept = Path(results).resolve()
    kept.parent.mkdir(exist_ok=True)
    lines = kept.read_text("utf-8").splitlines() if kept.exists() else []
    tried = {(*line["mutant"], line["speed"]): line["test"] for line in map(json.loads, lines)}
    packages = (package,) if package else PACKAGES
    left = chosen(int(number), int(seed), packages)
    for speed in ("not slow", "slow"):
        covered = kept.with_name(f"{kept.stem}-{speed.replace(' ', '-')}.coverage")
        run_with_coverage(covered, speed, packages, tests)
        known = Lines(covered)
        for mutant in left:
            if (*mutant, speed) not in tried:
                test = tried[(*mutant, speed)] = finds(mutant, known)
                with kept.open("a", encoding="utf-8") as file:
                    line = {"mutant": mutant, "speed": speed, "test": test}
                    file.write(json.dumps(line) + "\n")
        left = [mutant for mutant in left if tried[(*mutant, speed)] is None]
        print(f"{int(number) - len(left)} of {number} are found by the tests up to: {speed}")


if __name__ == "__main__":
    main(*sys.argv[1:])
