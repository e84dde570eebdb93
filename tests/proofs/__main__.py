"""Runs the proofs: the sessions of nox that take too long for every change, or need a tool.

`python -m tests.proofs` runs all of them, one after another; `2/4` the second of four parts, which
take about equally long; `stores chaos` those two. It prints a line for each, goes on after one
that fails, and ends with status 1 if any has failed. What each has shown is kept in `build/proofs`,
its whole output, too. `page` writes the table of all that is kept there into `docs/proofs.md`.
"""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Sequence

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "proofs"
PAGE = ROOT / "docs" / "proofs.md"

MINUTES: Dict[str, float] = {
    "batches": 8,
    "browser": 3,
    "chaos": 3,
    "engines-airflow": 10,
    "engines-celery": 8,
    "engines-dagster": 8,
    "engines-dask": 6,
    "engines-dramatiq": 5,
    "engines-limits": 6,
    "engines-prefect": 8,
    "engines-ray": 6,
    "engines-rq": 8,
    "engines-spark": 6,
    "engines-temporal": 6,
    "explore": 3,
    "faults": 5,
    "free-threaded": 5,
    "fuzz": 5,
    "interrupts": 8,
    "mutants": 20,
    "oldest": 8,
    "pyodide": 2,
    "runtimes": 1,
    "stores": 1,
    "syscalls": 3,
    "terminals": 5,
}
"""The proofs, and about how long each takes on two cores. Parts are made by these figures."""

SHARE = {"mutants": ("100",)}
"""What follows `--`: of the 200 mutants, half, which leave room for others in a part."""

LONGEST_LINE = 200
"""Characters that are kept of a line: a traceback may end in a long one."""
NOT_RUN = "not run: "
FAILED = "FAILED: "


class Result(NamedTuple):
    """What one proof has shown."""

    showed: str
    """The last line that the session printed; why it was not run, or that it failed."""
    date: str
    commit: str
    seconds: int

    @property
    def failed(self) -> bool:
        return self.showed.startswith(FAILED)


def part_of(names: Iterable[str], number: int, parts: int) -> List[str]:
    """Return part `number` of so many; the parts take about equally long."""
    shares: List[List[str]] = [[] for _ in range(parts)]
    for name in sorted(names, key=lambda name: (-MINUTES[name], name)):
        min(shares, key=lambda share: sum(MINUTES[each] for each in share)).append(name)
    return sorted(shares[number - 1])


def chosen(arguments: Sequence[str]) -> List[str]:
    """Return the names of the proofs that the arguments ask for; exit if they ask for another."""
    if not arguments:
        return sorted(MINUTES)
    part = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", arguments[0])
    if part and len(arguments) == 1 and int(part[1]) <= int(part[2]):
        return part_of(MINUTES, int(part[1]), int(part[2]))
    unknown = sorted({*arguments} - {*MINUTES})
    if unknown:
        sys.exit(f"no proof is called {', '.join(unknown)}; there are {', '.join(sorted(MINUTES))}")
    return list(arguments)


def summed_up(output: str, status: int) -> str:
    """Return in a line what the output of `nox -s NAME` says.

    Each program that nox runs says in its last line what it has shown. A session for several
    versions of Python has several such lines.
    """
    said: List[str] = []
    for part in re.split(r"^nox > Running session .*$", output, flags=re.MULTILINE)[1:]:
        skipped = re.search(r"^nox > Session \S+ skipped: (.+?)\.?$", part, re.MULTILINE)
        lines = [line for line in part.splitlines() if line.strip() and "nox > " not in line]
        last = lines[-1].strip("= ")[:LONGEST_LINE] if lines else "said nothing"
        said.append(f"{NOT_RUN}{skipped[1]}" if skipped else last)
    shown = "; ".join(dict.fromkeys(said)) or "nox has no such session"
    return f"{FAILED}{shown}" if status else shown


def run(name: str) -> Result:
    """Run one proof, keep its output, and return what it has shown."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "nox", "--no-stop-on-first-error", "--session", name]
    command += ["--", *SHARE[name]] if name in SHARE else []
    output = KEPT / f"{name}.txt"
    # Not a pipe: a server that a failed proof has left would keep it open.
    with output.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False)
    commit = subprocess.run(
        ["git", "rev-parse", "--short=8", "HEAD"], cwd=ROOT, text=True, capture_output=True
    )
    return Result(
        summed_up(output.read_text("utf-8", "replace"), done.returncode),
        datetime.date.today().isoformat(),
        commit.stdout.strip() or "no commit",
        round(time.monotonic() - begun),
    )


def kept() -> Dict[str, Result]:
    """Return the results in `build/proofs` by the name of the proof."""
    files = sorted(KEPT.glob("*.json"))
    return {file.stem: Result(**json.loads(file.read_text("utf-8"))) for file in files}


def table(results: Dict[str, Result]) -> str:
    """Return the results as a table in Markdown, with those never run."""
    lines = ["| proof | what it showed | date | commit | seconds |", "|---|---|---|---|---|"]
    for name in sorted(MINUTES):
        it = results.get(name) or Result(f"{NOT_RUN}nobody has run it yet", "", "", 0)
        showed = it.showed.replace("|", "\\|")
        cells = (f"`{name}`", showed, it.date, it.commit, str(it.seconds or ""))
        lines.append("".join(f"| {cell} " if cell else "| " for cell in cells) + "|")
    return "\n".join(lines) + "\n"


def write_page(results: Dict[str, Result]) -> None:
    """Replace the table of `docs/proofs.md`, which is its last part."""
    text = PAGE.read_text(encoding="utf-8")
    before, head, _ = text.partition("| proof |")
    assert head, f"{PAGE} has no table"
    PAGE.write_text(before + table(results), encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    if [*arguments] == ["page"]:
        write_page(kept())
        return 0
    KEPT.mkdir(parents=True, exist_ok=True)
    results: Dict[str, Result] = {}
    for name in chosen(arguments):
        result = results[name] = run(name)
        (KEPT / f"{name}.json").write_text(json.dumps(result._asdict()), encoding="utf-8")
        print(f"{name}: {result.showed} ({result.seconds} s)", flush=True)
    failed = [name for name, result in results.items() if result.failed]
    print(f"{len(results)} proofs, failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
