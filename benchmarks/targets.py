"""The targets, and the ratios that the documentation begins with, as data."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Dict, List, Optional, Tuple

from benchmarks.runner import Results

Measured = Tuple[float, float, float]
"""Median, smallest, largest."""


@dataclass(frozen=True)
class Target:
    """A limit for one row, as it is or as a multiple of another row's figure.

    `against` is a row of the same case, or a case and a row.
    """

    what: str
    at_most: float
    benchmark: str
    case: str
    row: str
    against: Optional[Tuple[str, str]] = None
    metric: str = "cpu_us"

    def measured(self, results: Dict[str, Results]) -> Optional[Measured]:
        """Over the rounds; `None` if the benchmark was not run with these rows."""
        found = results.get(self.benchmark, {})
        ours = found.get((self.case, self.row))
        if ours is None:
            return None
        values = [one[self.metric] for one in ours]
        if self.against is not None:
            other = found.get(self.against)
            if other is None:
                return None
            values = ratios(values, [one[self.metric] for one in other])
        return median(values), min(values), max(values)


@dataclass(frozen=True)
class Ratio:
    """The CPU time of a row of ours beside another row of the same case, named for readers."""

    what: str
    beside: str
    benchmark: str
    case: str
    row: str
    other: str

    def measured(self, results: Dict[str, Results]) -> Optional[Tuple[float, float, Measured]]:
        """Return the medians of both, and of the ratio; `None` if one of them was not run."""
        found = results.get(self.benchmark, {})
        if not {(self.case, self.row), (self.case, self.other)} <= set(found):
            return None
        ours, others = (
            [one["cpu_us"] for one in found[self.case, row]] for row in (self.row, self.other)
        )
        of = ratios(ours, others)
        return median(ours), median(others), (median(of), min(of), max(of))


def ratios(values: List[float], others: List[float]) -> List[float]:
    """Of each round: what slowed both does not show."""
    return [value / other for value, other in zip(values, others)]


def _ratio(
    benchmark: str, case: str, row: str, limits: Dict[str, float], metric: str = "cpu_us"
) -> List[Target]:
    return [
        Target(f"{case}: {row} / {other}", limit, benchmark, case, row, (case, other), metric)
        for other, limit in limits.items()
    ]


def _events(case: str, limits: Dict[str, float]) -> List[Target]:
    return _ratio("streams", case, "ours-sockets", {**limits, "ec6f533": 1})


def _events_async(case: str, limits: Dict[str, float]) -> List[Target]:
    return _ratio("streams-async", case, "ours-anyio-asyncio", {**limits, "ec6f533-async": 1})


def _decode(case: str, other: str, limit: float) -> Target:
    case += ", with JSON"
    return Target(f"{case}: ours / {other}", limit, "decode", case, "ours", (case, other))


RATIOS = (
    Ratio("sync call", "requests", "calls", "call", "ours-sockets", "bare-requests"),
    Ratio("async call", "aiohttp", "calls-async", "call", "ours-anyio-asyncio", "bare-aiohttp"),
    Ratio(
        *("event, sync", "a bare loop", "streams", "deployed events"),
        *("ours-sockets", "raw-socket"),
    ),
    Ratio(
        *("event, async", "a bare loop", "streams-async", "deployed events"),
        *("ours-anyio-asyncio", "raw-asyncio"),
    ),
    Ratio("import", "requests", "imports", "import", "ours", "requests"),
)
"""The ratios that `nox -s bench-quick` measures. The page about performance begins with them."""

ROWS = "100,000 rows"
DEFAULTS = ("ours-sockets", "ours-anyio-asyncio")

TARGETS = (
    *_ratio(
        *("calls", "call", "ours-sockets"),
        {"bare-requests": 0.21, "bare-urllib3": 0.75, "peer": 0.40},
    ),
    *_ratio("calls", "call", "ours-requests", {"bare-requests": 0.95}),
    *_ratio(
        *("calls-async", "call", "ours-anyio-asyncio"),
        {"bare-anyio-asyncio": 1.1, "ours-aiohttp": 1.05, "peer-async": 0.28},
    ),
    *_ratio("calls-async", "call", "ours-anyio-trio", {"bare-anyio-trio": 1.3}),
    *(
        target
        for case in ("64 in flight", "512 in flight")
        for target in _ratio("in-flight", case, "ours-anyio-asyncio", {"ours-aiohttp": 1.15})
    ),
    _decode("small events, 16384-byte chunks", "httpx-sse", 0.40),
    _decode("small events, 64-byte chunks", "httpx-sse", 0.40),
    _decode("50 KB events, 16384-byte chunks", "bare-split", 1.1),
    _decode("50 KB events, 64-byte chunks", "httpx-sse", 0.20),
    *_ratio("calls", "call", "ours-sockets", {"52f1d423": 1}),
    *_ratio(
        "calls-async", "call", "ours-anyio-asyncio", {"bare-aiohttp": 1.15, "52f1d423-async": 1}
    ),
    *_events("one event a chunk", {"raw-socket": 2.0, "peer": 0.27}),
    *_events("64 events a chunk", {"peer": 0.75}),
    *_events("deployed events", {}),
    *_events("one event a read", {}),
    *_events_async("one event a chunk", {"raw-asyncio": 2.6, "peer-async": 0.40}),
    *_events_async("64 events a chunk", {"peer-async": 0.85}),
    *_events_async("deployed events", {}),
    *_events_async("one event a read", {}),
    Target("the core's share of a call, µs", 25, "core", "call", "ours"),
    *_ratio("imports", "import", "ours", {"peer": 0.40}),
    *_ratio("imports", "import", "ours-anyio-made", {"peer": 0.75}),
    *_ratio("imports", "import", "ours-first-call", {"peer-first-call": 0.65}),
    *(
        Target(
            f"a client and its first call: {row}, {unit}", limit, "clients", case, row, None, key
        )
        for row, case, limit, key, unit in (
            ("ours-sockets", "time", 50, "cpu_us", "µs"),
            ("ours-sockets", "memory", 8, "held_kb", "KB"),
            ("ours-anyio-asyncio", "time", 60, "cpu_us", "µs"),
            ("ours-anyio-asyncio", "memory", 12, "held_kb", "KB"),
        )
    ),
    Target(
        "an idle stream: ours-anyio-asyncio, KB",
        *(18, "idle-streams", "open 500", "ours-anyio-asyncio", None, "held_kb"),
    ),
    *_ratio("idle-streams", "open 500", "ours-anyio-asyncio", {"bare-anyio-asyncio": 1.3}),
    *(
        Target(f"after the end of a run: {row}, ms", 20, "overshoot", "run", row, None, "late_ms")
        for row in DEFAULTS
    ),
    *(
        Target(f"{case}: late, of what is allowed", 1, "waiting", case, "ours", None, "of_allowed")
        for case in (f"runs of {seconds:g} s" for seconds in (0.3, 1, 2.2, 5, 10, 20))
    ),
    Target("runs of 2.2 s: requests", 10, "waiting", "runs of 2.2 s", "ours", None, "requests"),
    *(
        Target(f"{case}{spread}, {width} at a time: {what}", most, "requests", *at)
        for case, width, limits in (
            ("rows of 60 s", 100, (1.3, 3, 6)),
            ("rows of 60 s", 8, (3, 3, 6)),
            ("rows of 1 s", 8, (1.5,)),
        )
        for spread in ("", " ± 50 %")
        for most, what, metric in zip(
            limits,
            ("requests a row", "late, s, median", "late, s, at most"),
            ("a_row", "median_late_s", "latest_s"),
        )
        for at in ((f"{case}{spread}, {width} at a time", "ours", None, metric),)
    ),
    *(
        Target(f"{case}: {what}", most, "requests", case, "ours", None, metric)
        for case, most, what, metric in (
            ("100 runs of 20 s, no events", 0, "429s", "refused"),
            ("100 runs of 20 s, no events", 45, "late, s, at most", "latest_s"),
            ("100 runs of 20 s ± 50 %, no events", 0, "429s", "refused"),
            ("100 runs of 20 s ± 50 %, no events", 45, "late, s, at most", "latest_s"),
            ("wait_many of 1000 that have ended", 12, "requests", "requests"),
            ("a lookup behind 10,000 executions", 101, "requests", "requests"),
        )
    ),
    *(
        Target(
            f"a row of a batch: with a journal / without, {unit}",
            *(1.1, "batches", "row", "ours-journal", ("row", "ours"), metric),
        )
        for unit, metric in (("time", "wall_us"), ("CPU time", "cpu_us"))
    ),
    *(
        Target(f"a journal of 100,000 rows: {what}", most, "journal", ROWS, "ours", None, metric)
        for what, most, metric in (
            ("read again, s", 2.5, "replay_s"),
            # Beside the outcomes of one load, which are some hundred KB here.
            ("peak memory, written and read again, MB", 5, "grown_mb"),
            ("on disk beyond the executions' JSON, bytes a row", 150, "disk_bytes"),
        )
    ),
    *(
        Target(f"{what}: {row}, {most} / {least}", 1.1, name, most, row, (least, row), metric)
        for name, least, most in (
            ("growth-events", "1,000 events", "1,000,000 events"),
            ("growth-pages", "10 pages", "10,000 pages"),
        )
        for what, metric in (("cost", "cpu_us"), ("peak memory", "peak_kb"))
        for row in DEFAULTS
    ),
)
