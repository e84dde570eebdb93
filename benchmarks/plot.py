"""A plot of one benchmark: a bar for each row's median, a line from its smallest to its largest."""

from __future__ import annotations

from html import escape
from statistics import median
from typing import List

from benchmarks.catalogue import Benchmark, Case
from benchmarks.report import LABELS, rows_of, shown
from benchmarks.runner import Results

WIDTH, NAMES, BARS, LINE = 720, 170, 460, 18
STYLE = (
    "text{font:12px sans-serif;fill:#57606a}.t{font-weight:bold;font-size:14px}"
    ".o{fill:#1f7a8c}.p{fill:#b8c4ce}.w{stroke:#57606a}"
)


def svg(benchmark: Benchmark, results: Results) -> str:
    """Return the plot, with a scale of its own for each case."""
    drawn: List[str] = []
    y = 24
    for case in benchmark.cases:
        if rows_of(case, results):
            y = _case(drawn, y, case, results)
    title = escape(benchmark.title.replace("`", ""))
    heading = f'<text class="t" x="8" y="18">{title}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 8}" '
        f'viewBox="0 0 {WIDTH} {y + 8}" role="img">\n<style>{STYLE}</style>\n{heading}\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def _case(drawn: List[str], y: int, case: Case, results: Results) -> int:
    values = {
        name: [one[case.metric] for one in results[case.name, name]]
        for name in rows_of(case, results)
    }
    scale = BARS / (max(map(max, values.values())) or 1)
    y += LINE
    label = escape(f"{case.name} ({LABELS[case.metric]})")
    drawn.append(f'<text x="{NAMES}" y="{y}">{label}</text>')
    for name, measured in values.items():
        y += LINE
        middle = median(measured)
        low, high = (NAMES + scale * max(0.0, end) for end in (min(measured), max(measured)))
        kind = "o" if name.startswith("ours") else "p"
        drawn += [
            f'<text x="{NAMES - 8}" y="{y}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{NAMES}" y="{y - 11}" height="13" '
            f'width="{scale * max(0.0, middle):.1f}"/>',
            f'<line class="w" x1="{low:.1f}" x2="{high:.1f}" y1="{y - 4}" y2="{y - 4}"/>',
            f'<text x="{high + 6:.1f}" y="{y}">{shown(middle)}</text>',
        ]
    return y + LINE // 2
