"""Plots: one of each benchmark that compares, and one of the ratios that a page begins with.

A bar is a median. The line on it goes from the smallest to the largest of the rounds. The figure
stands before the bar, or above it, so that it is that of the bar and not of the line's end.
"""

from __future__ import annotations

from html import escape
from statistics import median
from typing import Dict, List

from benchmarks.catalogue import BENCHMARKS, Benchmark, Case
from benchmarks.report import LABELS, is_compared, rows_of, shown
from benchmarks.runner import Results
from benchmarks.targets import RATIOS

WIDTH, NAMES, FIGURES, LINE = 720, 170, 58, 18
BARS = WIDTH - NAMES - FIGURES - 8
RATIO_WIDTHS = {"ratios": 720, "ratios-narrow": 356}
"""The plot of the ratios, for a page and for a phone."""
STYLE = (
    "text{font:12px sans-serif;fill:#57606a}.t{font-weight:bold;font-size:14px}.b{fill:#fff}"
    ".o{fill:#1f7a8c}.p{fill:#b8c4ce}.r{stroke:#24292f;stroke-dasharray:3 2}"
    ".w,.h{fill:none;stroke:#24292f;stroke-width:1.5}.h{stroke:#fff;stroke-width:4}"
    "@media(prefers-color-scheme:dark){text{fill:#9198a1}.b{fill:#0d1117}.o{fill:#3fa7bb}"
    ".p{fill:#4d5864}.r,.w{stroke:#e6edf3}.h{stroke:#0d1117}}"
)


def plots(results: Dict[str, Results]) -> Dict[str, str]:
    """Return all plots of these results, by name."""
    drawn = {
        benchmark.name: svg(benchmark, results[benchmark.name])
        for benchmark in BENCHMARKS
        if is_compared(benchmark, results.get(benchmark.name, {}))
    }
    return {**drawn, **{name: ratios(results, width) for name, width in RATIO_WIDTHS.items()}}


def svg(benchmark: Benchmark, results: Results) -> str:
    """Return the plot of a benchmark, with a scale of its own for each case."""
    drawn: List[str] = []
    y = 24
    for case in benchmark.cases:
        if rows_of(case, results):
            y = _case(drawn, y, case, results)
    return _whole(f"{benchmark.title.replace('`', '')}: shorter is better", drawn, WIDTH, y)


def ratios(results: Dict[str, Results], width: int) -> str:
    """Return the plot of the ratios that these results have. Dashes mark 1."""
    measured = [(one, it[2]) for one in RATIOS if (it := one.measured(results))]
    margin = 8
    most = max([1.0, *(high for _, (_, _, high) in measured)])
    scale = (width - 2 * margin) / most
    at = f"{margin + scale:.1f}"
    drawn: List[str] = []
    y = 26
    for ratio, (middle, low, high) in measured:
        y += 2 * LINE
        figure = f'<tspan class="t">{middle:.2f}</tspan>'
        label = f"{figure}  {escape(f'{ratio.what}, beside {ratio.beside}')}"
        drawn += [
            f'<text x="{margin}" y="{y - LINE}">{label}</text>',
            f'<rect class="o" x="{margin}" y="{y - 11}" height="13" width="{scale * middle:.1f}"/>',
            f'<path class="r" d="M{at} {y - 13}V{y + 4}"/>',
            *_range(margin + scale * low, margin + scale * high, y - 4),
        ]
        y += 6
    one = f'<text x="{at}" y="{y + LINE - 4}" text-anchor="middle">1: the bare library</text>'
    return _whole("CPU time: shorter is better", [*drawn, one], width, y + LINE)


def _range(low: float, high: float, y: float) -> List[str]:
    """Return a line with ends, on a white one, without which it would not be seen on a bar."""
    line = f"M{low:.1f} {y - 3}v6m0-3H{high:.1f}m0-3v6"
    return [f'<path class="h" d="{line}"/>', f'<path class="w" d="{line}"/>']


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
    begin = NAMES + FIGURES
    scale = BARS / (max(map(max, values.values())) or 1)
    y += LINE
    label = escape(f"{case.name} ({LABELS[case.metric]})")
    drawn.append(f'<text x="{begin}" y="{y}">{label}</text>')
    for name, measured in values.items():
        y += LINE
        middle = median(measured)
        kind = "o" if name.startswith("ours") else "p"
        low, high = (begin + scale * max(0.0, end) for end in (min(measured), max(measured)))
        drawn += [
            f'<text x="{NAMES - 8}" y="{y}" text-anchor="end">{escape(name)}</text>',
            f'<text x="{begin - 8}" y="{y}" text-anchor="end">{shown(middle)}</text>',
            f'<rect class="{kind}" x="{begin}" y="{y - 11}" height="13" '
            f'width="{scale * max(0.0, middle):.1f}"/>',
            *_range(low, high, y - 4),
        ]
    return y + LINE // 2
