"""Plots: one of each benchmark, and one of the ratios that the documentation begins with.

A bar is a median. The line on it goes from the smallest to the largest of the rounds.
"""

from __future__ import annotations

from html import escape
from statistics import median
from typing import Dict, List

from benchmarks.catalogue import BENCHMARKS, Benchmark, Case
from benchmarks.report import LABELS, rows_of, shown
from benchmarks.runner import Results
from benchmarks.targets import RATIOS

WIDTH, NAMES, BARS, LINE = 720, 170, 460, 18
RATIO_WIDTHS = {"ratios": 720, "ratios-narrow": 356}
"""The plot of the ratios, for a page and for a phone."""
STYLE = (
    "text{font:12px sans-serif;fill:#57606a}.t{font-weight:bold;font-size:14px}.b{fill:#fff}"
    ".o{fill:#1f7a8c}.p{fill:#b8c4ce}.w{stroke:#57606a}.r{stroke:#24292f;stroke-dasharray:3 2}"
)


def plots(results: Dict[str, Results]) -> Dict[str, str]:
    """Return all plots of these results, by name."""
    drawn = {
        benchmark.name: svg(benchmark, results[benchmark.name])
        for benchmark in BENCHMARKS
        if benchmark.name in results
    }
    return {**drawn, **{name: ratios(results, width) for name, width in RATIO_WIDTHS.items()}}


def svg(benchmark: Benchmark, results: Results) -> str:
    """Return the plot of a benchmark, with a scale of its own for each case."""
    drawn: List[str] = []
    y = 24
    for case in benchmark.cases:
        if rows_of(case, results):
            y = _case(drawn, y, case, results)
    return _whole(benchmark.title.replace("`", ""), drawn, WIDTH, y)


def ratios(results: Dict[str, Results], width: int) -> str:
    """Return the plot of the ratios that these results have. Dashes mark 1."""
    measured = [(one, it[2]) for one in RATIOS if (it := one.measured(results)) is not None]
    left, right = 8, 52
    most = max([1.0, *(high for _, (_, _, high) in measured)])
    scale = (width - left - right) / most
    at = f"{left + scale:.1f}"
    drawn: List[str] = []
    y = 26
    for one, (middle, low, high) in measured:
        y += 2 * LINE
        begin, end = (left + scale * it for it in (low, high))
        drawn += [
            f'<text x="{left}" y="{y - LINE}">{escape(f"{one.what}, beside {one.beside}")}</text>',
            f'<rect class="o" x="{left}" y="{y - 11}" height="13" width="{scale * middle:.1f}"/>',
            f'<line class="w" x1="{begin:.1f}" x2="{end:.1f}" y1="{y - 4}" y2="{y - 4}"/>',
            f'<line class="r" x1="{at}" x2="{at}" y1="{y - 13}" y2="{y + 4}"/>',
            f'<text class="t" x="{end + 6:.1f}" y="{y}">{middle:.2f}</text>',
        ]
        y += 6
    drawn.append(f'<text x="{at}" y="{y + LINE - 4}" text-anchor="middle">1</text>')
    return _whole("CPU time: the bare library is 1", drawn, width, y + LINE)


def _whole(title: str, drawn: List[str], width: int, height: int) -> str:
    """Return a plot on a ground of its own, which a dark page does not swallow."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height + 8}" '
        f'viewBox="0 0 {width} {height + 8}" role="img">\n<style>{STYLE}</style>\n'
        f'<rect class="b" width="{width}" height="{height + 8}" rx="6"/>\n'
        f'<text class="t" x="8" y="18">{escape(title)}</text>\n' + "\n".join(drawn) + "\n</svg>\n"
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
