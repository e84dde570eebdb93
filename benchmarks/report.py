"""The results as tables and as JSON, and the two pages that show them, without their plots."""

from __future__ import annotations

import json
import math
import platform
import re
from pathlib import Path
from statistics import median
from typing import Any, Dict, List

from benchmarks.catalogue import BENCHMARKS, Benchmark, Case
from benchmarks.runner import Results, cores
from benchmarks.targets import RATIOS, TARGETS
from benchmarks.targets import ratios as ratios_of

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "performance.md"
"""The page that begins with the ratios."""
FIGURES = Path(__file__).with_name("README.md")
"""The page with every table."""
FOLDER = DOCS / "performance"

LABELS = {
    "cpu_us": "CPU, µs",
    "wall_us": "time, µs",
    "held_kb": "held, KB",
    "late_ms": "late, ms",
    "of_allowed": "late, of what is allowed",
    "requests": "requests",
    "a_row": "requests a row",
    "refused": "429s",
    "median_late_s": "late, s, median",
    "latest_s": "late, s, at most",
    "lasts_s": "the batch lasts, s",
    "saves": "saves a row",
    "peak_kb": "peak memory, KB",
    "replay_s": "read again, s",
    "replay_cpu_s": "of it CPU, s",
    "written_us": "a row written, CPU, µs",
    "saved_us": "of it the journal, µs",
    "grown_mb": "peak memory, MB",
    "disk_bytes": "on disk, bytes",
    "stall_ms": "longest record, ms",
}

_PLACE = re.compile(
    r"(?P<begin><!-- measured: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)


def rows_of(case: Case, results: Results) -> List[str]:
    """Return the rows that did this case, in their order."""
    return [row for name, row in results if name == case.name]


def is_compared(benchmark: Benchmark, results: Results) -> bool:
    """Return whether a case was done by two rows, of which one is no repetition of the other.

    A plot has a scale for each case. So the bar of a case that only one row did would be as long as
    the plot, whatever its figure.
    """
    rows = (rows_of(case, results) for case in benchmark.cases)
    return any(len({row.split(" (")[0] for row in names}) > 1 for names in rows)


def table(benchmark: Benchmark, results: Results) -> str:
    """Return a Markdown table of medians, and of ratios with their range over the rounds.

    If only one row did the benchmark, neither its name nor a ratio to itself is shown.
    """
    keys = [
        key
        for key in LABELS
        if any(key in one for rounds in results.values() for one in rounds)
        and (key != "peak_kb" or benchmark.name.startswith("growth"))
    ]
    has_others = len({row for _, row in results}) > 1
    head = ["case", *(["who"] if has_others else []), *(LABELS[key] for key in keys)]
    head += [f"of {benchmark.against}", "range"] if has_others else []
    numbers = len(head) - 1 - has_others
    lines = [head, ["---", *["---"] * has_others, *["---:"] * numbers]]
    for case in benchmark.cases:
        others = results.get((case.name, benchmark.against))
        for name in rows_of(case, results):
            rounds = results[case.name, name]
            cells = [case.name, *([name] if has_others else [])]
            for key in keys:
                values = [one[key] for one in rounds if key in one]
                cells.append(shown(median(values)) if values else "")
            if has_others and others is None:
                cells += ["", ""]
            elif has_others and others is not None:
                of = ratios_of(
                    [one[case.metric] for one in rounds], [one[case.metric] for one in others]
                )
                cells += [f"{median(of):.2f}", f"{min(of):.2f} to {max(of):.2f}"]
            lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def shown(value: float) -> str:
    """Return a figure with four significant digits, never in powers of ten: `27,380`."""
    rounded = float(f"{value:.4g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:.4g}"


def targets(results: Dict[str, Results]) -> str:
    """Return a Markdown table of what must be reached, and whether it was."""
    lines = ["| what | at most | measured | range | |", "|---|---:|---:|---:|---|"]
    for target in TARGETS:
        measured = target.measured(results)
        if measured is None:
            continue
        middle, low, high = measured
        verdict = "met"
        if middle > target.at_most:
            over = middle / target.at_most - 1 if target.at_most else math.inf
            verdict = f"**{over:.1%} above**"
        lines.append(
            f"| {target.what} | {target.at_most:g} | {middle:.3g} "
            f"| {low:.3g} to {high:.3g} | {verdict} |"
        )
    return "\n".join(lines)


def ratios(results: Dict[str, Results]) -> str:
    """Return a Markdown table of the ratios that these results have; no text if they have none."""
    lines = ["| | the SDK, µs | beside | µs | ratio | range |", "|---|---:|---|---:|---:|---:|"]
    for ratio in RATIOS:
        measured = ratio.measured(results)
        if measured is not None:
            ours, other, (middle, low, high) = measured
            lines.append(
                f"| {ratio.what} | {shown(ours)} | {ratio.beside} | {shown(other)} "
                f"| **{middle:.2f}** | {low:.2f} to {high:.2f} |"
            )
    return "\n".join(lines) if len(lines) > 2 else ""


def machine() -> Dict[str, Any]:
    """Return the Python, the system and the number of cores of this machine."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(cores()),
    }


def write(found: Results, file: Path) -> None:
    """Write one benchmark's rounds, with the machine that they were measured on."""
    rows = [{"case": case, "row": row, "rounds": rounds} for (case, row), rounds in found.items()]
    text = json.dumps({"machine": machine(), "results": rows}, indent=1)
    file.write_text(text + "\n", encoding="utf-8")


def published() -> Dict[str, Dict[str, Any]]:
    """Return the figures that `write` put into the folder of the documentation, by benchmark."""
    return {
        file.stem: json.loads(file.read_text(encoding="utf-8"))
        for file in sorted(FOLDER.glob("*.json"))
    }


def results_of(files: Dict[str, Dict[str, Any]]) -> Dict[str, Results]:
    """Return the rounds of such files, by benchmark."""
    return {
        name: {(one["case"], one["row"]): one["rounds"] for one in file["results"]}
        for name, file in files.items()
    }


def filled(page: str, files: Dict[str, Dict[str, Any]]) -> str:
    """Return the page with everything between its marks written anew, from such files."""
    results = results_of(files)
    texts = {
        benchmark.name: _figures(benchmark, results[benchmark.name])
        for benchmark in BENCHMARKS
        if benchmark.name in results
    }
    texts["targets"] = targets(results)
    texts["ratios"] = ratios(results)
    places = {
        f"{one['system']}, Python {one['python']}, {one['cores']} cores"
        for one in (file["machine"] for file in files.values())
    }
    texts["machine"] = f"Measured on {'; '.join(sorted(places))}."

    def fill(place: re.Match[str]) -> str:
        name = place["name"]
        return f"{place['begin']}{texts[name]}\n{place['end']}" if name in texts else place[0]

    return _PLACE.sub(fill, page)


def _figures(benchmark: Benchmark, results: Results) -> str:
    if not is_compared(benchmark, results):
        return table(benchmark, results)
    return (
        f"![{benchmark.title}](../docs/performance/{benchmark.name}.svg)\n\n"
        f"<details><summary>Figures</summary>\n\n{table(benchmark, results)}\n\n</details>"
    )
