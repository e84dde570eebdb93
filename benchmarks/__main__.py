"""The command line: what to run, with whom, and where the results go."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from textwrap import wrap
from typing import Dict, List, Optional, Set

from benchmarks import environments, report
from benchmarks.catalogue import BENCHMARKS, QUICK_BENCHMARKS, QUICK_ROWS, Benchmark
from benchmarks.plot import plots
from benchmarks.runner import Interpreters, Results, run, serving

QUICK = 0.1
HELP = """\
Measure what the SDK costs, beside what it stands on and what it replaces.

Each peer runs in a virtual environment of its own, which is made with pip in .benchmarks/ when it
is first needed. All of it takes a quarter of an hour or so, with --quick some minutes."""


def parser() -> argparse.ArgumentParser:
    """Return the options of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=HELP,
        epilog=catalogue(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; all if none")
    made.add_argument("--only", metavar="ROW,ROW", help="only these rows, the first listed twice")
    made.add_argument("--quick", action="store_true", help="a tenth of the work, fewer rounds")
    made.add_argument(
        "--short",
        action="store_true",
        help="only calls, events and imports, with the default transports",
    )
    made.add_argument("--json", type=Path, metavar="FOLDER", help="write every round, as NAME.json")
    made.add_argument(
        "--publish",
        action="store_true",
        help="write docs/performance* and benchmarks/README.md; not with --quick or --only",
    )
    return made


def catalogue() -> str:
    """Return the benchmarks, each with what it measures and with its rows."""
    lines = ["benchmarks, and their rows:"]
    for benchmark in BENCHMARKS:
        lines.append(f"  {benchmark.name:15}{benchmark.title}")
        rows = wrap(", ".join(row.name for row in benchmark.rows), 78, break_on_hyphens=False)
        lines += [" " * 19 + line for line in rows]
    return "\n".join(lines)


def chosen(names: List[str]) -> List[Benchmark]:
    """Return the benchmarks of these names, or all. Raise `SystemExit` for a wrong name."""
    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    wrong = sorted(set(names) - set(known))
    if wrong:
        raise SystemExit(f"no benchmark {', '.join(wrong)}: there are {', '.join(known)}")
    return [known[name] for name in names or known]


def rows_named(told: str, benchmarks: List[Benchmark]) -> Set[str]:
    """Return names parted by commas. Raise `SystemExit` for one that is in none of these."""
    names = {name.strip() for name in told.split(",")}
    known = dict.fromkeys(row.name for benchmark in benchmarks for row in benchmark.rows)
    wrong = sorted(names - set(known))
    if wrong:
        raise SystemExit(f"no such row: {', '.join(wrong)}; there are {', '.join(known)}")
    return names


def publish(benchmark: Benchmark, found: Results) -> None:
    """Write these results as JSON, and both pages and all plots from what is now there."""
    report.FOLDER.mkdir(exist_ok=True)
    report.write(found, report.FOLDER / f"{benchmark.name}.json")
    files = report.published()
    for page in (report.PAGE, report.FIGURES):
        page.write_text(report.filled(page.read_text(encoding="utf-8"), files), encoding="utf-8")
    for name, svg in plots(report.results_of(files)).items():
        (report.FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")


def main(
    arguments: Optional[List[str]] = None, interpreters: Interpreters = environments.interpreter
) -> Dict[str, Results]:
    """Run, print the tables, write what was asked for; the results by benchmark."""
    told = parser().parse_args(arguments)
    if told.short:
        quick: List[str] = [*QUICK_BENCHMARKS]
        told.names, told.only = quick, ",".join(QUICK_ROWS)
    if told.publish and (told.quick or told.only is not None):
        raise SystemExit("--publish is for whole benchmarks: leave out --quick and --only")
    benchmarks = chosen(told.names)
    only = None if told.only is None else rows_named(told.only, benchmarks)
    results: Dict[str, Results] = {}
    with serving() as url:
        for whole in benchmarks:
            benchmark = whole.short() if told.short else whole
            benchmark = benchmark.scaled(QUICK) if told.quick else benchmark
            rows = tuple(row for row in benchmark.rows if only is None or row.name in only)
            if not rows:
                continue
            found = results[benchmark.name] = run(benchmark, rows, url, interpreters)
            print(f"\n{benchmark.title}\n\n{report.table(benchmark, found)}\n", flush=True)
            if told.json:
                told.json.mkdir(parents=True, exist_ok=True)
                report.write(found, told.json / f"{benchmark.name}.json")
            if told.publish:
                publish(benchmark, found)
    print(report.targets(results))
    if ratios := report.ratios(results):
        print(f"\nThe ratios of docs/performance.md\n\n{ratios}")
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
