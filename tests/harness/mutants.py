"""Which tests notice a small fault in the source: quick ones, slow ones, or none.

python -m tests.harness.mutants build/mutants.jsonl            # the 200 mutants of seed 1
python -m tests.harness.mutants build/mutants.jsonl 20 2       # 20 of seed 2
python -m tests.harness.mutants build/mutants.jsonl 200 1 flowmaestro_core tests/core  # a part
python -m tests.harness.mutants --judge "python -m tests.explore run all" build/rules.jsonl FILE...

At first, all quick tests run once with coverage, which finds the tests of each line and their
durations. Processes that tests start are measured, too. A mutant is then tried with the tests that
run its line, the nearest first, up to the first that fails. What the quick tests do not find is
tried with the slow ones in the same way. Each mutant changes one operator, number or word of a file
in place, and the file is restored.

With `--judge`, a command alone judges: it finds a mutant if its exit status is not 0. First, each
rule of the files is taken out: a condition is always true, or always false; one part of a condition
does not count; a fact is not noted; a transition is not allowed (`rules_of`). Then come the mutants
of operators and numbers. This happens in a copy of the tree, so the files stay as they are. What
the command does not run, it cannot find: such a mutant survives without being tried.

Results are lines of JSON. What the file holds already is not tried again, so a run that was
stopped goes on. Stop it by Ctrl-C: it then restores the file that it has changed.
"""

from __future__ import annotations

import ast
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import contextmanager, suppress
from itertools import accumulate, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from coverage import CoverageData
from coverage.exceptions import DataError

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
"""Seconds for the tests of one mutant. A module that hangs when it is imported takes them."""
LONGEST_TEST = 20
"""Seconds for one test besides ten times what it takes without a mutant: some mutants hang."""
FEW = 40
"""Tests that are tried first, if many run the line of a mutant. Most mutants are found by them."""
MOST = 120
"""Seconds of tests for one mutant. Some lines are run by nearly all tests, which take longer."""
PYTEST = ("-pno:cacheprovider",)
MEASURED = """
import os, sys, pytest
os.environ["COVERAGE_PROCESS_START"] = sys.argv.pop(1)  # for processes that tests start
sys.exit(pytest.main())
"""
SETTINGS = """
[run]
context = ${{PYTEST_CURRENT_TEST-}}
data_file = {data}
disable_warnings = no-data-collected
include = {files}
parallel = true
"""
"""For coverage. The variable has a value in processes that tests start, and only there."""
LONGEST_JUDGED = 60
"""Seconds for the command that judges besides ten times what it takes without a mutant."""
NO_SUCH_TEST = 4
"""The exit status of pytest if it does not find a test that it is told to run."""
FAILED_OR_NONE = (0, 1, 5)
"""The exit statuses of pytest if it has run what there is."""


class Mutant(NamedTuple):
    """A file, the place of a few characters of it, and what replaces them."""

    file: str
    start: int
    end: int
    text: str

    @property
    def line(self) -> int:
        """The line that it changes."""
        return (ROOT / self.file).read_bytes()[: self.start].count(b"\n") + 1

    def __str__(self) -> str:
        old = (ROOT / self.file).read_bytes()[self.start : self.end].decode()
        return f"{self.file}:{self.line}: {old} -> {self.text}"


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


def rules_of(file: Path) -> Iterator[Mutant]:
    """Yield a mutant for each rule of a file that can be taken out.

    A condition (of `if`, of a conditional expression, of a filter) becomes true, and false. A part
    of a condition with `and` or `or` does not count. An attribute is not assigned, unless in
    `__init__`, which gives it its first value; and a field is not replaced. A state is not among
    those that may follow in `TRANSITIONS`.
    """
    source = file.read_text("utf-8")
    name = file.relative_to(ROOT).as_posix()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def replaced(node: ast.AST, text: str, until: Optional[ast.AST] = None) -> Mutant:
        last: Any = until or node
        first: Any = node
        begun = starts[first.lineno - 1] + first.col_offset
        return Mutant(name, begun, starts[last.end_lineno - 1] + last.end_col_offset, text)

    def transitions(states: ast.expr) -> Iterator[Mutant]:
        # The text of another state stands for one that is taken out: a tuple needs its commas.
        listed = states.elts if isinstance(states, ast.Tuple) else []
        for number, state in enumerate(listed):
            if not isinstance(state, ast.Starred):
                other = ast.unparse(listed[number - 1])
                yield replaced(state, other) if len(listed) > 1 else replaced(states, "()")

    def conditions(test: ast.expr) -> Iterator[Mutant]:
        if not isinstance(test, ast.Name) or test.id != "TYPE_CHECKING":
            yield replaced(test, "True")
            yield replaced(test, "False")

    tree = ast.parse(source)
    first_values = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name == "__init__"
        for node in ast.walk(function)
    }
    for node in run_nodes(tree):
        if isinstance(node, (ast.If, ast.IfExp)):
            yield from conditions(node.test)
        elif isinstance(node, ast.comprehension):
            for test in node.ifs:
                yield from conditions(test)
        elif isinstance(node, ast.BoolOp):
            for value in node.values:
                yield replaced(value, str(isinstance(node.op, ast.And)))
        elif isinstance(node, ast.Assign) and node not in first_values:
            target = node.targets[0]
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            for part in parts:
                if isinstance(part, ast.Attribute) and len(parts) == 1:
                    yield replaced(node, "pass")
                elif isinstance(part, ast.Attribute):
                    yield replaced(part, "_")
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute):
            yield replaced(node, "pass")
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "_replace":
            for keyword in node.keywords:
                yield replaced(keyword, "**{}")
        elif isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "TRANSITIONS":
            for of_state in getattr(node.value, "values", ()):
                for states in getattr(of_state, "values", ()):
                    yield from transitions(states)


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


def files_of(tests: Sequence[str]) -> List[str]:
    """Return the files of tests in some folders, the largest first."""
    paths = [ROOT / name for name in tests or ("tests",)]
    found = {it for path in paths for it in (path.rglob("test_*.py") if path.is_dir() else [path])}
    return [str(it) for it in sorted(found, key=lambda file: (-file.stat().st_size, file))]


def measure(kept: Path, speed: str, packages: Sequence[str], tests: Sequence[str]) -> None:
    """Run the quick or the slow tests with coverage. Keep which of them run which line.

    What `kept` then holds is JSON: each test with its seconds, and by file and line the numbers of
    tests. A test that fails is not among them.
    """
    dropped = ("COVERAGE_FILE", "PYTHONDONTWRITEBYTECODE")
    environment = {name: it for name, it in os.environ.items() if name not in dropped}
    shares = os.cpu_count() or 2
    with TemporaryDirectory() as folder:
        runs: List[subprocess.Popen[str]] = []
        for number in range(shares):
            data, settings, names = (Path(folder, f"{it}{number}") for it in ("data", "rc", "it"))
            files = "\n ".join(f"{ROOT / name}/*" for name in packages)
            settings.write_text(SETTINGS.format(data=data, files=files), "utf-8")
            names.write_text("\n".join(files_of(tests)[number::shares]), "utf-8")
            covered = ("--cov", f"--cov-config={settings}", "--cov-context=test", "--cov-report=")
            options = ("-qm", speed, "--durations=0", "--durations-min=0", *covered, f"@{names}")
            run = subprocess.Popen(
                (sys.executable, "-c", MEASURED, str(settings), *PYTEST, *options),
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            runs.append(run)
        printed = [run.communicate()[0] for run in runs]
        for run, text in zip(runs, printed):
            summed = re.findall(r"^(?:FAILED|ERROR) .*|^.*\bin [\d.]+s.*", text, re.MULTILINE)
            print(*summed, sep="\n")
            if run.returncode not in FAILED_OR_NONE:
                raise SystemExit(text)
        everything = CoverageData(str(Path(folder, "all")))
        for file in Path(folder).glob("data*"):
            part = CoverageData(str(file))
            with suppress(DataError):  # A process that was killed may leave an empty file.
                part.read()
                everything.update(part)
        kept.write_text(json.dumps(summary(everything, "\n".join(printed))), "utf-8")


def summary(data: CoverageData, printed: str) -> object:
    """Return what `measure` keeps."""
    seconds: Dict[str, float] = defaultdict(float)
    for number, name in re.findall(r"^([\d.]+)s \w+ +(tests/.*)$", printed, re.MULTILINE):
        seconds[name] += float(number)
    for name in re.findall(r"^(?:FAILED|ERROR) (tests/.*?)(?: - .*)?$", printed, re.MULTILINE):
        seconds.pop(name, None)
    tests = {name: number for number, name in enumerate(seconds)}
    lines = {
        Path(file).relative_to(ROOT).as_posix(): {
            line: sorted({tests[it] for it in map(id_of, contexts) if it in tests})
            for line, contexts in data.contexts_by_lineno(file).items()
        }
        for file in sorted(data.measured_files())
    }
    return {"tests": [[name, round(seconds[name], 2)] for name in tests], "lines": lines}


def id_of(context: str) -> str:
    """Return the id of a test, of which a context has a phase, too."""
    return re.sub(r"(\|\w+| \(\w+\))$", "", context)


class Lines:
    """Which tests run which line, and how long they take."""

    def __init__(self, kept: Path) -> None:
        known = json.loads(kept.read_text("utf-8"))
        self.names: List[str] = [name for name, _ in known["tests"]]
        self.seconds: List[float] = [seconds for _, seconds in known["tests"]]
        self._lines: Dict[str, Dict[str, List[int]]] = known["lines"]
        self._sizes = self._counts(self._lines)

    def _counts(self, files: Iterable[str]) -> Counter[int]:
        """Count the lines of some files that each test runs."""
        counts: Counter[int] = Counter()
        for file in files:
            for tests in self._lines[file].values():
                counts.update(tests)
        return counts

    def tests(self, mutant: Mutant) -> List[int]:
        """Return the tests that may find a mutant, the nearest first.

        They run its line, or else its statement. A line that runs at import, or that no test runs
        in a process that coverage sees, may concern all that run any line of its file, or else of
        its folder.
        """
        lines = self._lines.get(mutant.file, {})
        files = [mutant.file] if mutant.file in self._lines else []
        found: Set[int] = set()
        for span in spans(ast.parse((ROOT / mutant.file).read_bytes()), mutant.line):
            found = found or {test for line in span for test in lines.get(str(line), ())}
        if not found:
            found = set(self._counts(files))
        if not found:
            folder = mutant.file.rpartition("/")[0] + "/"
            files = [file for file in self._lines if file.startswith(folder)]
            found = set(self._counts(files))
        here = self._counts(files)

        def distance(test: int) -> Tuple[float, float]:
            return -round(here[test] / self._sizes[test], 1), self.seconds[test]

        return sorted(found, key=distance)


def spans(tree: ast.AST, line: int) -> Iterator[Iterable[int]]:
    """Yield a line and all lines of its statement; nothing if it runs at import, or once.

    Only the first test that imports a module, or calls a cached function, runs these lines.
    """
    inner: List[ast.stmt] = []
    often = False
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0):
            inner.append(node)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                cached = any("lru_cache" in ast.dump(it) for it in node.decorator_list)
                often = often or (node.body[0].lineno <= line and not cached)
    if often:
        yield [line]
        begun, ended = inner[-1].lineno, inner[-1].end_lineno or 0
        body: List[ast.stmt] = getattr(inner[-1], "body", [])
        yield range(begun, max(begun, body[0].lineno - 1 if body else ended) + 1)


def failing(tests: Sequence[str], longest: float) -> Optional[str]:
    """Return the id of a test that fails, "hangs", or `None` if all pass."""
    with TemporaryDirectory() as folder:
        names = Path(folder, "names")
        names.write_text("\n".join(tests), "utf-8")
        limit = f"--timeout={LONGEST_TEST + 10 * longest:.0f}"
        command = (sys.executable, "-m", "pytest", *PYTEST, "-qx", "-rfE", "--tb=no", limit)
        run = subprocess.Popen(
            (*command, f"@{names}"),
            cwd=ROOT,
            # What is compiled of a mutant must not be kept: it can be as long and as old.
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
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
    if run.returncode == 0:
        return None
    found = re.findall(r"^(?:FAILED|ERROR) (.*?)(?: - .*)?$", printed, re.MULTILINE)
    functions = {name.partition("[")[0] for name in tests}
    if run.returncode == NO_SUCH_TEST and not found and functions != set(tests):
        return failing(sorted(functions), longest)  # the cases' names depend on the mutant
    return found[0] if found else f"crashes: {printed[-200:]}"


class Copy:
    """A copy of the tree in a temporary folder, in which a command runs after changes of files."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        ignored = shutil.ignore_patterns("node_modules", ".*")
        for name in ("flowmaestro_core", "flowmaestro", "transports", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", folder)

    @contextmanager
    def changed(self, edits: Sequence[Mutant]) -> Iterator[None]:
        """Apply mutants to files of the copy; restore the files afterwards."""
        kept = {name: (self._root / name).read_bytes() for name in {it.file for it in edits}}
        status = {name: (self._root / name).stat() for name in kept}
        try:
            for edit in sorted(edits, key=lambda it: -it.start):
                file = self._root / edit.file
                old = file.read_bytes()
                file.write_bytes(old[: edit.start] + edit.text.encode() + old[edit.end :])
            yield
        finally:
            for name, source in kept.items():
                file, was = self._root / name, status[name]
                file.write_bytes(source)
                os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))  # Its `.pyc` is right again.

    def run(self, command: Sequence[str], longest: float, *, keep: bool = False) -> Verdict:
        """Run a command in the copy. `keep` what it compiles: only if nothing is changed."""
        paths = os.pathsep.join((str(self._root), str(self._root / "transports")))
        environment = {**os.environ, "PYTHONPATH": paths}
        if not keep:
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        begun = time.monotonic()
        run = subprocess.Popen(
            command,
            cwd=self._root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            printed = run.communicate(timeout=longest)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            return Verdict(None, f"no end in {longest:.0f} s", longest)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
        return Verdict(run.returncode, printed, round(time.monotonic() - begun, 1))


class Verdict(NamedTuple):
    """How a command ended: its exit status, `None` if it took too long; what it printed."""

    status: Optional[int]
    printed: str
    seconds: float


def judge(results: str, command: str, files: Sequence[str]) -> None:
    """Try each rule and each mutant of some files with a command alone."""
    kept = Path(results).resolve()
    kept.parent.mkdir(exist_ok=True)
    before = kept.read_text("utf-8").splitlines() if kept.exists() else []
    tried = {tuple(json.loads(line)["name"]) for line in before}
    words = shlex.split(command.replace("python ", f"{sys.executable} ", 1))
    with TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        measured = ("-m", "coverage", "run", "--data-file=judged", f"--include={','.join(files)}")
        sound = copy.run((words[0], *measured, *words[1:]), LONGEST, keep=True)
        if sound.status != 0:
            raise SystemExit(f"without a mutant, too:\n{sound.printed}")
        data = CoverageData(str(Path(folder, "judged")))
        data.read()
        run = {file: set(data.lines(str(Path(folder, file).resolve())) or ()) for file in files}
        sound = copy.run(words, LONGEST)
        print(f"without a mutant, it takes {sound.seconds} s")
        for kind, make in (("rule", rules_of), ("operator", mutants_of)):
            for file in files:
                for name, mutant in named(make(ROOT / file)):
                    if name in tried:
                        continue
                    tree = ast.parse((ROOT / mutant.file).read_bytes())
                    lines = {line for span in spans(tree, mutant.line) for line in span}
                    if lines and not lines & run[mutant.file]:
                        verdict = Verdict(0, "not run", 0.0)
                    else:
                        with copy.changed([mutant]):
                            verdict = copy.run(words, LONGEST_JUDGED + 10 * sound.seconds)
                    line = {
                        "name": name,
                        "kind": kind,
                        "line": mutant.line,
                        "status": verdict.status,
                        "seconds": verdict.seconds,
                        "said": verdict.printed[-300:],
                    }
                    with kept.open("a", encoding="utf-8") as written:
                        written.write(json.dumps(line) + "\n")
                    found = "SURVIVED" if verdict.status == 0 else "found"
                    print(found, mutant, f"{verdict.seconds} s", sep="  ", flush=True)


def named(mutants: Iterable[Mutant]) -> Iterator[Tuple[Tuple[Any, ...], Mutant]]:
    """Yield mutants with names that stay when lines are inserted above them."""
    counts: Counter[Tuple[Any, ...]] = Counter()
    for it in mutants:
        source = (ROOT / it.file).read_text("utf-8")
        begun = source.rfind("\n", 0, it.start) + 1
        line = source[begun : source.find("\n", it.start)]
        name = (it.file, line.strip(), it.start - begun, source[it.start : it.end], it.text)
        counts[name] += 1
        yield (*name, counts[name]), it


class Result(NamedTuple):
    """The test that finds a mutant, or `None`, and how many of how many were tried for that."""

    test: Optional[str]
    tried: int
    of: int


def finds(mutant: Mutant, lines: Lines) -> Result:
    """Apply a mutant, and run the tests of its line up to the first that fails."""
    tests = lines.tests(mutant)
    # Of a test with parameters, one case is among the first: the others mostly find the same.
    cases = {lines.names[it].partition("[")[0]: it for it in reversed(tests)}
    first = sorted(cases.values(), key=tests.index)[:FEW]
    rest = [it for it in tests if it not in set(first)]
    spent = accumulate(lines.seconds[it] for it in (*first, *rest))
    rest = [it for it, seconds in zip(rest, islice(spent, len(first), None)) if seconds < MOST]
    file = ROOT / mutant.file
    source, status = file.read_bytes(), file.stat()
    tried = 0
    try:
        file.write_bytes(source[: mutant.start] + mutant.text.encode() + source[mutant.end :])
        for some in (first, rest):
            if some:
                tried += len(some)
                longest = max(lines.seconds[it] for it in some)
                test = failing([lines.names[it] for it in some], longest)
                if test:
                    return Result(test, tried, len(tests))
        return Result(None, tried, len(tests))
    finally:
        file.write_bytes(source)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # its `.pyc` is right again


def main(
    results: str, number: str = "200", seed: str = "1", package: str = "", *tests: str
) -> None:
    """Try the mutants of a seed: with quick tests first, then what these do not find."""
    kept = Path(results).resolve()
    kept.parent.mkdir(exist_ok=True)
    before = kept.read_text("utf-8").splitlines() if kept.exists() else []
    tried = {(*line["mutant"], line["speed"]): line["test"] for line in map(json.loads, before)}
    packages = (package,) if package else PACKAGES
    left = chosen(int(number), int(seed), packages)
    for speed in ("not slow", "slow"):
        measured = kept.with_name(f"{kept.stem}-{speed.replace(' ', '-')}.json")
        if not measured.exists():
            measure(measured, speed, packages, tests)
        known = Lines(measured)
        for mutant in left:
            if (*mutant, speed) in tried:
                continue
            result = finds(mutant, known)
            tried[(*mutant, speed)] = result.test
            line = {"mutant": mutant, "speed": speed, **result._asdict()}
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            survived = f"SURVIVED {result.tried} of {result.of} tests"
            print(mutant, result.test or survived, sep="  ", flush=True)
        finders = sorted({*tried.values()} & {*known.names})
        broken = failing(finders, max(known.seconds)) if finders else None
        if broken:
            print(f"{broken} fails without a mutant, too: look at what it has found")
        left = [mutant for mutant in left if tried[(*mutant, speed)] is None]
        print(f"{int(number) - len(left)} of {number} are found by the tests up to: {speed}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--judge"]:
        judge(sys.argv[3], sys.argv[2], sys.argv[4:])
    else:
        main(*sys.argv[1:])
