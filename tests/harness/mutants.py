"""Which tests notice a small fault in the source: quick ones, slow ones, or none.

python -m tests.harness.mutants build/mutants.jsonl            # the 200 mutants of seed 1
python -m tests.harness.mutants build/mutants.jsonl 20 2       # 20 of seed 2

Each mutant changes one operator, number or word of a file in place, and the file is restored.
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
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional

ROOT = Path(__file__).parents[2]
PACKAGES = ("flowmaestro_core", "transports/flowmaestro_transports", "flowmaestro")
PLACES = {"flowmaestro_core": "core", "flowmaestro_transports": "transports", "flowmaestro": ""}
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
"""Seconds for one run of pytest. A mutant that hangs is found."""
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


def chosen(number: int, seed: int) -> List[Mutant]:
    """Choose mutants, the same for a seed as long as the source is the same."""
    files = [file for name in PACKAGES for file in sorted((ROOT / name).rglob("*.py"))]
    ascii_only = [file for file in files if file.read_text("utf-8").isascii()]
    return random.Random(seed).sample(
        [it for each in ascii_only for it in mutants_of(each)], number
    )


def nearest(file: str) -> List[str]:
    """Return the tests that are likely to notice a mutant of the file, which saves time."""
    package, *inner = Path(file.replace("transports/flow", "flow")).with_suffix("").parts
    if package == "flowmaestro" and len(inner) == 1:
        return ["tests/contract"]
    folder = ROOT / "tests" / PLACES[package]
    own = folder.joinpath(*inner[:2])
    found = [own] if own.is_dir() else [folder / inner[0]] if (folder / inner[0]).is_dir() else []
    return [str(path) for path in found or [folder]]


def failing(*arguments: str) -> Optional[str]:
    """Return the id of a test that fails, "hangs", or `None` if all pass."""
    command = (sys.executable, "-m", "pytest", "-qx", "-rfE", "-pno:cacheprovider", *arguments)
    tests = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        printed = tests.communicate(timeout=LONGEST)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        return "hangs"
    finally:
        if tests.poll() is None:
            os.killpg(tests.pid, signal.SIGKILL)
            tests.wait()
    if tests.returncode in (0, NONE_OF_THIS_KIND):
        return None
    return next(iter(re.findall(r"^(?:FAILED|ERROR) (\S+)", printed, re.MULTILINE)), "crashes")


def finds(mutant: Mutant, stage: str) -> Optional[str]:
    """Apply a mutant, and run the tests of a stage. Return the one that finds it."""
    file = ROOT / mutant.file
    source = file.read_bytes()
    try:
        file.write_bytes(source[: mutant.start] + mutant.text.encode() + source[mutant.end :])
        if stage == "near":
            return failing("-m", "not slow", *nearest(mutant.file))
        return failing("-m", "slow" if stage == "slow" else "not slow", "-n", "2")
    finally:
        file.write_bytes(source)


def main(results: str, number: str = "200", seed: str = "1") -> None:
    """Try the mutants of a seed: all with the nearest tests, then what these do not find."""
    kept = Path(results)
    lines = kept.read_text("utf-8").splitlines() if kept.exists() else []
    tried = {(*line["mutant"], line["stage"]): line["test"] for line in map(json.loads, lines)}
    left = chosen(int(number), int(seed))
    for stage in ("near", "quick", "slow"):
        for mutant in left:
            if (*mutant, stage) not in tried:
                test = tried[(*mutant, stage)] = finds(mutant, stage)
                with kept.open("a", encoding="utf-8") as file:
                    line = {"mutant": mutant, "stage": stage, "test": test}
                    file.write(json.dumps(line) + "\n")
        left = [mutant for mutant in left if tried[(*mutant, stage)] is None]
        print(f"{int(number) - len(left)} of {number} are found by the tests up to: {stage}")


if __name__ == "__main__":
    main(*sys.argv[1:])
