"""Count, compare, say so; exit 1 when a path has become dearer, or cheaper without record."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, Optional, Sequence

from benchmarks.instructions.paths import PATHS

RECORD = Path(__file__).with_name("recorded.json")
TOLERANCE = 0.03
VALGRIND = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={os.devnull}")
FEW, MANY = 500, 2_500
"""Rounds. Even the few are past what an interpreter's warming up takes."""

_COUNT = re.compile(r"Collected : (\d+)")


def build() -> str:
    """Return the build of the interpreter: the same source may be compiled in many ways."""
    return f"{platform.python_implementation()} {sys.version} {platform.machine()}".replace(
        "\n", " "
    )


def instructions_of(path: str) -> float:
    """Instructions that one round of the path takes."""
    _count(path, 1)  # compiles the modules that were not: neither of the two may do it alone
    return (_count(path, MANY) - _count(path, FEW)) / (MANY - FEW)


def compare(recorded: Dict[str, float], counted: Dict[str, float]) -> bool:
    """Print the figures side by side; whether each is within the tolerance."""
    fine = True
    for path, now in counted.items():
        if path not in recorded:
            print(f"{path:<8}{now:>12,.0f} instructions, NOT RECORDED")
            fine = False
            continue
        ratio = now / recorded[path]
        within = abs(ratio - 1) <= TOLERANCE
        fine &= within
        verdict = "" if within else f"  NOT within {TOLERANCE:.0%}"
        print(f"{path:<8}{now:>12,.0f} instructions, {ratio:.3f} x recorded{verdict}")
    return fine


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line; see the package."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("--record", action="store_true", help="record for this interpreter")
    given = parser.parse_args(argv)
    builds: Dict[str, Dict[str, float]] = json.loads(RECORD.read_text("utf-8"))
    if shutil.which("valgrind") is None:
        print("SKIPPED: there is no valgrind here; NOTHING WAS CHECKED")
        return 0
    if not given.record and build() not in builds:
        print(f"SKIPPED: nothing is recorded for {build()!r}; NOTHING WAS CHECKED")
        return 0
    counted = {path: instructions_of(path) for path in PATHS}
    if given.record:
        builds[build()] = {path: round(figure) for path, figure in counted.items()}
        RECORD.write_text(json.dumps(builds, indent=2) + "\n", "utf-8")
    return 0 if compare(builds[build()], counted) else 1


def _count(path: str, rounds: int) -> int:
    """Instructions of a whole interpreter that takes the path so many times."""
    program = Path(__file__).with_name("paths.py")
    ran = subprocess.run(
        [*VALGRIND, sys.executable, str(program), path, str(rounds)],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = _COUNT.search(ran.stderr)
    if found is None:
        raise RuntimeError(f"valgrind counted nothing: {ran.stderr[-500:]}")
    return int(found.group(1))


if __name__ == "__main__":
    sys.exit(main())
