"""The rows (who), the cases (what), and the benchmarks that join them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, Tuple


@dataclass(frozen=True)
class Row:
    """One competitor: a worker script, the environment that it runs in, and its arguments."""

    name: str
    environment: str
    script: str
    arguments: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One piece of work: a worker's task, how often it is done in a round, and its options.

    The `label` may have a place for that number: a case is never called what it has not done.
    `metric` is what the plot and the ratios are about: `cpu_us` (of one operation, like
    `wall_us`, in microseconds), or another that the task reports.
    """

    label: str
    task: str
    count: int
    options: Dict[str, Any] = field(default_factory=dict[str, Any])
    metric: str = "cpu_us"

    @property
    def name(self) -> str:
        """The label with the number in its place."""
        return self.label.format(count=self.count)

    def scaled(self, scale: float) -> Case:
        """So much of the work, but as much at once."""
        count = max(self.options.get("width", 1), round(self.count * scale))
        return replace(self, count=count)


@dataclass(frozen=True)
class Benchmark:
    """Cases, each done by every row in turn.

    Attributes:
        rows: the first of them is done once more, as `(again)`, to show the noise.
        against: the row that ratios are to.
        fresh: a new process for each round, where a task leaves its mark on memory.
        rounds: how many.

    """

    name: str
    title: str
    rows: Tuple[Row, ...]
    cases: Tuple[Case, ...]
    against: str
    fresh: bool = False
    rounds: int = 5

    def scaled(self, scale: float) -> Benchmark:
        """So much of the work in so many of the rounds, two at least where there are several."""
        rounds = max(2, round(self.rounds * scale)) if self.rounds > 1 else 1
        return replace(self, rounds=rounds, cases=tuple(it.scaled(scale) for it in self.cases))

    def short(self) -> Benchmark:
        """Return the part of it that `nox -s bench-quick` runs, with all rows."""
        cases = tuple(case for case in self.cases if case.label in QUICK_CASES)
        return replace(self, rounds=min(self.rounds, QUICK_ROUNDS), cases=cases)


def _ours(name: str, script: str, *arguments: str) -> Row:
    return Row(name, "ours", script, arguments)


OURS_SOCKETS = _ours("ours-sockets", "flowmaestro_blocking", "SocketTransport")
OURS_REQUESTS = _ours("ours-requests", "flowmaestro_blocking", "RequestsTransport")
OURS_AIOHTTP = _ours("ours-aiohttp", "flowmaestro_awaiting", "AiohttpTransport", "asyncio")
OURS_ANYIO = _ours("ours-anyio-asyncio", "flowmaestro_awaiting", "AnyioTransport", "asyncio")
OURS_TRIO = _ours("ours-anyio-trio", "flowmaestro_awaiting", "AnyioTransport", "trio")
PEER = Row("peer", "peer", "flowmaestro_blocking")
PEER_AWAITING = Row("peer-async", "peer", "flowmaestro_awaiting", ("", "asyncio"))
REQUESTS = Row("bare-requests", "requests", "bare_requests")
URLLIB3 = Row("bare-urllib3", "requests", "bare_urllib3")
AIOHTTP = Row("bare-aiohttp", "aiohttp", "bare_aiohttp")
ANYIO = Row("bare-anyio-asyncio", "anyio", "bare_anyio", ("asyncio",))
TRIO = Row("bare-anyio-trio", "anyio", "bare_anyio", ("trio",))
SOCKET = Row("raw-socket", "bare", "raw_socket")
STREAMS = Row("raw-asyncio", "bare", "raw_asyncio")
HTTPX = Row("httpx", "httpx", "httpx_blocking", ("httpx",))
HTTPX_AWAITING = Row("httpx-async", "httpx", "httpx_awaiting", ("httpx",))
HTTPX2 = Row("httpx2", "httpx2", "httpx_blocking", ("httpx2",))
HTTPX2_AWAITING = Row("httpx2-async", "httpx2", "httpx_awaiting", ("httpx2",))
OPENAI = Row("openai", "openai", "openai_blocking")
OPENAI_AWAITING = Row("openai-async", "openai", "openai_awaiting")

FORMER_EVENTS = Row("ec6f533", "ec6f533", "flowmaestro_blocking", ("SocketTransport",))
FORMER_EVENTS_AWAITING = Row(
    "ec6f533-async", "ec6f533", "flowmaestro_awaiting", ("AnyioTransport", "asyncio")
)
FORMER_CALLS = Row("52f1d423", "52f1d423", "flowmaestro_blocking", ("SocketTransport",))
FORMER_CALLS_AWAITING = Row(
    "52f1d423-async", "52f1d423", "flowmaestro_awaiting", ("AnyioTransport", "asyncio")
)

BLOCKING = (
    *(OURS_SOCKETS, OURS_REQUESTS, REQUESTS, URLLIB3),
    *(PEER, HTTPX, HTTPX2, OPENAI, SOCKET, FORMER_CALLS),
)
AWAITING = (
    *(OURS_AIOHTTP, AIOHTTP, OURS_ANYIO, ANYIO, OURS_TRIO, TRIO),
    *(
        PEER_AWAITING,
        HTTPX_AWAITING,
        HTTPX2_AWAITING,
        OPENAI_AWAITING,
        STREAMS,
        FORMER_CALLS_AWAITING,
    ),
)
CALLS = (
    Case("call", "call", 200),
    Case("list page", "list_page", 200),
    Case("execute", "execute", 200),
)
EVENTS = (
    Case("one event a chunk", "events", 20_000),
    Case("64 events a chunk", "events", 20_000, {"kind": "packed"}),
    Case("deployed events", "events", 20_000, {"kind": "deployed"}),
    # Few, because the server waits for a millisecond before each.
    Case("one event a read", "events", 250, {"kind": "paced"}),
)


def _decoder(name: str, environment: str) -> Row:
    return Row(name, environment, "decoders", (name,))


def _import(name: str, environment: str, line: str) -> Row:
    return Row(name, environment, "imports", (line,))


def _growing(what: str, task: str, counts: Tuple[int, ...], at_least: int) -> Tuple[Case, ...]:
    """Ever more in one go; few are taken several times, so that the clock can tell."""
    return tuple(
        Case(f"{{count:,}} {what}", task, count, {"times": max(1, at_least // count)})
        for count in counts
    )


QUICK_BENCHMARKS = ("streams", "streams-async", "calls", "calls-async", "imports")
QUICK_ROWS = (
    *("raw-socket", "ours-sockets", "peer", "ec6f533", "bare-requests", "52f1d423"),
    *("raw-asyncio", "ours-anyio-asyncio", "peer-async", "ec6f533-async", "bare-aiohttp"),
    *("52f1d423-async", "ours", "requests"),
)
"""The rows of `nox -s bench-quick`: a call and an event on the default transports, an import, and
what they are compared with."""
QUICK_CASES = ("call", "import", *(case.label for case in EVENTS))
"""A page and a start cost about what a call does, and would take a minute more."""
QUICK_ROUNDS = 15
"""With more rounds of calls, it would take more than two minutes."""

CLIENTS = "from flowmaestro import FlowMaestroClient, AsyncFlowMaestroClient"
FIRST_CALL = (
    "from flowmaestro import FlowMaestroClient; "
    "FlowMaestroClient(api_key='fm_live_k', base_url='{URL}').workflows.get('wf_1')"
)
MADE = "AsyncFlowMaestroClient(api_key='fm_live_k', transport=AnyioTransport())"

BENCHMARKS = (
    Benchmark("calls", "One sync call", BLOCKING, CALLS, "bare-requests", rounds=25),
    Benchmark("calls-async", "One awaited call", AWAITING, CALLS, "bare-aiohttp", rounds=25),
    Benchmark(
        "in-flight",
        "Many calls at once",
        (OURS_AIOHTTP, AIOHTTP, OURS_ANYIO, OURS_TRIO, PEER_AWAITING),
        (
            Case("64 in flight", "in_flight", 1024, {"width": 64}),
            Case("512 in flight", "in_flight", 1024, {"width": 512}),
        ),
        "bare-aiohttp",
        rounds=3,
    ),
    Benchmark(
        "decode",
        "Decoding events that are there",
        (
            _decoder("ours", "ours"),
            _decoder("ours-events", "ours"),
            _decoder("bare-split", "bare"),
            _decoder("httpx-sse", "httpx"),
            _decoder("openai", "openai"),
        ),
        tuple(
            Case(
                f"{label}, {chunk}-byte chunks, {'with' if decode else 'no'} JSON",
                "decode",
                count,
                {"size": size, "chunk": chunk, "decode": decode},
            )
            for label, size, count in (("small events", 120, 5000), ("50 KB events", 50_000, 100))
            for chunk in (65_536, 16_384, 64)
            for decode in (True, False)
        ),
        "httpx-sse",
    ),
    Benchmark(
        "streams",
        "An event of a stream, for a sync client",
        (OURS_SOCKETS, OURS_REQUESTS, PEER, FORMER_EVENTS, SOCKET),
        EVENTS,
        "raw-socket",
        rounds=9,
    ),
    Benchmark(
        "streams-async",
        "An event of a stream, for an async client",
        (OURS_ANYIO, OURS_AIOHTTP, OURS_TRIO, PEER_AWAITING, FORMER_EVENTS_AWAITING, STREAMS),
        EVENTS,
        "raw-asyncio",
        rounds=9,
    ),
    Benchmark(
        "imports",
        "Import, beyond the interpreter's own start",
        (
            _import("ours", "ours", CLIENTS),
            _import(
                "ours-anyio-made",
                "ours",
                f"{CLIENTS}; from flowmaestro_transports import AnyioTransport; {MADE}",
            ),
            _import("peer", "peer", CLIENTS),
            _import("ours-first-call", "ours", FIRST_CALL),
            _import("peer-first-call", "peer", FIRST_CALL),
            _import("openai", "openai", "import openai"),
            _import("requests", "requests", "import requests"),
            _import("aiohttp", "aiohttp", "import aiohttp"),
            _import("anyio", "anyio", "import anyio, h11"),
        ),
        (Case("import", "run", 2),),
        "peer",
    ),
    Benchmark(
        "clients",
        "Making a client, and what its first call sets up",
        (OURS_SOCKETS, OURS_REQUESTS, OURS_AIOHTTP, OURS_ANYIO, PEER, PEER_AWAITING),
        (Case("time", "make", 100), Case("memory", "make", 100, {"trace": True}, "held_kb")),
        "peer",
    ),
    Benchmark(
        "idle-streams",
        "Streams that are open and silent",
        (OURS_AIOHTTP, AIOHTTP, OURS_ANYIO, ANYIO, PEER_AWAITING),
        (Case("open {count}", "idle", 500),),
        "bare-aiohttp",
        fresh=True,
        rounds=3,
    ),
    Benchmark(
        "overshoot",
        "From an execution's end to the result in hand",
        (OURS_SOCKETS, OURS_REQUESTS, OURS_AIOHTTP, OURS_ANYIO, PEER, PEER_AWAITING),
        (Case("run", "overshoot", 4, metric="late_ms"),),
        "peer",
        rounds=3,
    ),
    Benchmark(
        "waiting",
        "The result of wait_for_completion, on a virtual clock, at the worst",
        (_ours("ours", "machines"),),
        tuple(
            Case(f"runs of {seconds:g} s", "wait", 1000, {"seconds": seconds}, "late_ms")
            for seconds in (0.3, 1, 2.2, 5, 10, 20)
        ),
        "ours",
        rounds=1,
    ),
    Benchmark(
        "requests",
        "Requests of a pro key that waiting for many costs, on a virtual clock",
        (_ours("ours", "waiting_for_many"),),
        (
            *(
                Case(
                    f"rows of {seconds} s{' ± 50 %' if spread else ''}, {concurrency} at a time",
                    "rows",
                    count,
                    {"seconds": seconds, "spread": spread, "concurrency": concurrency},
                    "a_row",
                )
                for seconds, count, concurrency in ((60, 2000, 100), (60, 2000, 8), (1, 1000, 8))
                for spread in (0.0, 0.5)
            ),
            *(
                Case(
                    f"{{count:,}} rows of 60 s, {concurrency} at a time, a store of 50 ms",
                    "stored",
                    2000,
                    {"seconds": 60, "store": 0.05, "concurrency": concurrency},
                    "saves",
                )
                for concurrency in (100, 8)
            ),
            *(
                Case(
                    f"{{count}} runs of 20 s{' ± 50 %' if spread else ''}, no events",
                    "runs",
                    100,
                    {"seconds": 20, "spread": spread},
                    "requests",
                )
                for spread in (0.0, 0.5)
            ),
            Case("wait_many of {count} that have ended", "known", 1000, metric="requests"),
            Case("a lookup behind {count:,} executions", "lookup", 10_000, metric="requests"),
        ),
        "ours",
        rounds=1,
    ),
    Benchmark(
        "core",
        "The core's own share of a call",
        (_ours("ours", "machines"),),
        (Case("call", "call", 2000),),
        "ours",
    ),
    Benchmark(
        "batches",
        "A row of a batch against `flowmaestro serve`, with a journal and without",
        (_ours("ours", "batches"), _ours("ours-journal", "batches", "journal")),
        (Case("row", "loopback", 200),),
        "ours",
    ),
    Benchmark(
        "journal",
        "The finished journal of a batch, read again",
        (_ours("ours", "batches"),),
        (Case("{count:,} rows", "journal", 100_000),),
        "ours",
        rounds=1,
    ),
    Benchmark(
        "growth-events",
        "An event of ever longer streams",
        (OURS_SOCKETS, OURS_REQUESTS, OURS_AIOHTTP, OURS_ANYIO),
        _growing("events", "long_streams", (10**3, 10**4, 10**5, 10**6), at_least=10**4),
        "ours-requests",
        rounds=2,
    ),
    Benchmark(
        "growth-pages",
        "A page of ever longer walks",
        (OURS_SOCKETS, OURS_REQUESTS, OURS_AIOHTTP, OURS_ANYIO),
        _growing("pages", "pages", (10, 10**2, 10**3, 10**4), at_least=10**3),
        "ours-requests",
        rounds=2,
    ),
)
