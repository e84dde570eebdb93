"""The command line: what to run, with whom, and where the results go."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Dict, List, Optional

from benchmarks import environments, report
from benchmarks.catalogue import BENCHMARKS, Benchmark
from benchmarks.runner import Interpreters, Results, run, serving

QUICK = 0.1


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    names = ", ".join(benchmark.name for benchmark in BENCHMARKS)
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=f"Of: {names}.")
    made.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; all if none")
    made.add_argument("--only", metavar="ROW,ROW", help="only these rows, the first listed twice")
    made.add_argument("--quick", action="store_true", help="a tenth of the work, fewer rounds")
    made.add_argument("--json", type=Path, metavar="FOLDER", help="write every round, as NAME.json")
    made.add_argument("--publish", action="store_true", help="write docs/performance*")
    return made


def chosen(names: List[str]) -> List[Benchmark]:
    """The benchmarks of these names, all if there are none; `SystemExit` for a wrong one."""
    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    wrong = sorted(set(names) - set(known))
    if wrong:
        raise SystemExit(f"no benchmark {', '.join(wrong)}: there are {', '.join(known)}")
    return [known[name] for name in names or known]


def main(
    arguments: Optional[List[str]] = None, interpreters: Interpreters = environments.interpreter
) -> Dict[str, Results]:
    """Run, print the tables, write what was asked for; the results by benchmark."""
    told = parser().parse_args(arguments)
    only = told.only.split(",") if told.only else None
    results: Dict[str, Results] = {}
    with serving() as url:
        for benchmark in chosen(told.names):
            rows = tuple(row for row in benchmark.rows if only is None or row.name in only)
            if not rows:
                continue
            scale = QUICK if told.quick else 1
            found = results[benchmark.name] = run(benchmark, rows, url, interpreters, scale)
            print(f"\n{benchmark.title}\n\n{report.table(benchmark, found)}\n", flush=True)
            if told.json:
                told.json.mkdir(parents=True, exist_ok=True)
                report.write(found, told.json / f"{benchmark.name}.json")
            if told.publish:
                report.publish({benchmark.name: found})
    if not results:
        raise SystemExit(f"no such row: {told.only}")
    print(report.targets(results))
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
