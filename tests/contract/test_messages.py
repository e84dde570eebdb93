"""Every message about a bad argument, in one place, so that they can be read together.

Each names the argument, what was given unless that may be secret, and what would be right.
"""

from __future__ import annotations

import ast
import math
import re
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Iterator, List, Tuple

import pytest

import flowmaestro
from flowmaestro import (
    AsyncFlowMaestroClient,
    Checkpoint,
    FlowMaestroClient,
    StreamTimes,
    Timeout,
    webhooks,
)
from flowmaestro.input_files import read_rows
from flowmaestro.timeline import timeline_of, timeline_svg
from flowmaestro_core.context import Context
from flowmaestro_core.http.messages import Request, Response, TransportFailure
from flowmaestro_core.options import ClientOptions
from flowmaestro_core.payloads.encode import encode_json
from flowmaestro_core.store import HEADER_KEY

KEY = "fm_live_0123456789"
ANY: Any = None
ITSELF: List[Any] = []
ITSELF.append(ITSELF)


def client(**options: Any) -> Any:
    return FlowMaestroClient(KEY, transport=lambda request: Response(200, {}), **options)


def wait(**options: Any) -> Any:
    return client().executions.wait_for_completion("e", **options)


def run_many(rows: Any, **options: Any) -> Any:
    return client().workflows.run_many("w", rows, **options)


def keyed(made: Any) -> Any:
    with TemporaryDirectory() as folder:
        return list(run_many([{}], journal=f"{folder}/journal", key=lambda row: made))


class DataFrame:
    """Like a data frame of pandas: iterating over it gives the names of its columns."""

    def __iter__(self) -> Iterator[str]:
        return iter(["name"])


def execute(inputs: Any) -> Any:
    return client().workflows.execute("wf_1", inputs=inputs)


def fields(**headers: Any) -> Any:
    return client(headers={name.replace("_", "-"): value for name, value in headers.items()})


def in_environment(name: str, value: str) -> Callable[[], Any]:
    def make() -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name, value)
            return FlowMaestroClient(KEY if name.endswith("URL") else None)

    return make


def rows_in(name: str, data: bytes) -> Callable[..., Any]:
    def read(**options: Any) -> Any:
        with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            Path(name).write_bytes(data)
            return read_rows(name, **options)

    return read


async def later(row: Any) -> str:
    return "k"


Row = Tuple[Callable[[], Any], str]
BASE_URL = (
    "base_url must be an http:// or https:// URL with a host, without a query, and with its path "
    "percent-encoded, such as 'https://api.flowmaestro.io'"
)
PATH = (
    "path must begin with '/', be percent-encoded and stay below the API root, without the query "
    "parameters, which go into params=, not "
)
ASCII = " must consist of visible ASCII characters, without white space or line breaks"
MESSAGES: List[Row] = [
    # The client
    (
        in_environment("OTHER", ""),
        "no API key: pass api_key= or set FLOWMAESTRO_API_KEY",
    ),
    (
        in_environment("FLOWMAESTRO_API_KEY", "fm_live\n"),
        "api_key, from FLOWMAESTRO_API_KEY," + ASCII,
    ),
    (
        in_environment("FLOWMAESTRO_BASE_URL", "host"),
        "FLOWMAESTRO_BASE_URL: " + BASE_URL,
    ),
    (lambda: FlowMaestroClient(7), "api_key must be a str, not int"),  # type: ignore[arg-type]
    (lambda: FlowMaestroClient(""), "api_key must not be empty"),
    (lambda: FlowMaestroClient("fm live"), "api_key" + ASCII),
    (lambda: client(base_url="host"), BASE_URL),
    (lambda: client(base_url=b"https://h"), "base_url must be a str, not bytes"),
    (
        lambda: client(base_url="https://me:pw@h"),
        "base_url must not contain credentials; pass them as headers=",
    ),
    (
        lambda: client(timeout="5"),
        "timeout must be a number of seconds or a flowmaestro.Timeout, not str",
    ),
    (lambda: client(timeout=-1), "timeout must be a positive number of seconds, not -1"),
    (lambda: client(max_retries=1.5), "max_retries must be an int, not float"),
    (lambda: client(max_retries=-1), "max_retries must be at least 0, not -1"),
    (lambda: client(headers=[]), "headers must be a dict of str to str, not list"),
    (lambda: fields(A=1), "headers: the name 'A' and its value must both be str"),
    (
        lambda: client(headers={"A B": ""}),
        "headers: 'A B' is not a field name; use letters, digits and hyphens (RFC 9110, 5.6.2)",
    ),
    (
        lambda: fields(Content_Length="5"),
        "headers: leave out 'Content-Length'; the transport sends its own",
    ),
    (
        lambda: fields(Expect="100-continue"),
        "headers: leave out 'Expect'; a request is sent whole, without waiting for 100 (Continue)",
    ),
    (
        lambda: fields(X_Token="s3cr3t\n"),
        "headers: the value of 'X-Token' must consist of ASCII characters, without line breaks "
        "and other controls",
    ),
    (
        lambda: client(stream_times={"event_idle": 1}),
        "stream_times must be a StreamTimes, not dict",
    ),
    (lambda: client(stream_times=()), "stream_times must be a StreamTimes, not tuple"),
    (lambda: StreamTimes(event_idle=0), "event_idle must be a positive number of seconds, not 0"),
    (
        lambda: StreamTimes(reconnect_base=1e-4),
        "reconnect_base must be at least 0.001 seconds, not 0.0001",
    ),
    (
        lambda: Timeout(5, connect=math.nan),
        "connect must be a positive number of seconds, not nan",
    ),
    # Ids, pages, filters
    (lambda: client().workflows.get(7), "workflow_id must be a str, not int"),
    (lambda: client().workflows.get(".."), "workflow_id must be an id, not '..'"),
    (
        lambda: client().workflows.get("\ud800"),
        "workflow_id holds a lone surrogate, which UTF-8 cannot express",
    ),
    (lambda: client().workflows.list(page=0), "page must be at least 1, not 0"),
    (
        lambda: client().executions.iterate(status=""),
        "status must not be empty: leave it out to get every row",
    ),
    # What is sent
    (lambda: execute("text"), "inputs must be a dict, not str"),
    (
        lambda: execute({"a": [math.nan]}),
        "inputs['a'][0] is nan, which JSON cannot express; use None",
    ),
    (
        lambda: execute({"a": math.inf}),
        "inputs['a'] is inf, which JSON cannot express; use None or a str",
    ),
    (
        lambda: execute({"a": date(2026, 1, 2)}),
        "inputs['a'] is a date, which JSON cannot express; use its .isoformat()",
    ),
    (
        lambda: execute({"a": 10**400}),
        "inputs['a'] is beyond the range of a float: send it as a str",
    ),
    (
        lambda: execute({"a": {1}}),
        "inputs['a'] is a set, which JSON cannot express; "
        "use dict, list, str, int, float, bool or None",
    ),
    (lambda: execute({1: "a"}), "inputs has the key 1; JSON keys must be str"),
    (lambda: execute({"a": ITSELF}), "inputs refers to itself or is nested too deep"),
    (
        lambda: execute({"a": "\ud800"}),
        "inputs holds a lone surrogate, which UTF-8 cannot express",
    ),
    (lambda: encode_json("\ud800"), "the body holds a lone surrogate, which UTF-8 cannot express"),
    (
        lambda: client().threads.send_message("t", "Hi", stream="yes"),
        "stream must be a bool, not str",
    ),
    (
        lambda: client().agents.search_memory("a", "q", similarity_threshold="0.5"),
        "similarity_threshold must be a number, not str",
    ),
    (
        lambda: client().workflows.execute("w", idempotency_key="a b"),
        "idempotency_key" + ASCII,
    ),
    (
        lambda: client().webhooks.create("n", "https://h", "execution.completed"),
        "events must be a list or another iterable of event names, not str",
    ),
    # Waiting, and many at once
    (lambda: wait(timeout=math.inf), "timeout must be a positive number of seconds, not inf"),
    (lambda: wait(on_poll=7), "on_poll must be a function, not int"),
    (
        lambda: client().workflows.run_many("w", {"a": 1}),
        "inputs must be a list or another iterable of dicts, not dict; pass list(inputs) for its "
        "keys",
    ),
    (
        lambda: client().workflows.run_many("w", DataFrame()),
        "inputs must be a list or another iterable of dicts, not DataFrame; pass "
        'inputs.to_dict(orient="records")',
    ),
    (
        lambda: keyed(1.5),
        "key must make a str or an int of inputs[0], not float",
    ),
    (
        lambda: run_many([], rerun=["failed"]),
        "key, rerun, redo, on_unknown and settle_after are for a journal; pass journal= as well",
    ),
    (
        lambda: run_many([], journal="j", on_unknown="stop"),
        'on_unknown must be "error" or "start", not \'stop\'',
    ),
    (
        lambda: run_many([], journal="j", rerun=["running"]),
        'rerun must hold "failed" and "cancelled" only, not \'running\'',
    ),
    (
        lambda: run_many([{}], journal="j", redo=[1]),
        "redo holds 1, but inputs ends at index 0",
    ),
    (
        lambda: run_many([], journal=7),
        "journal must be a path or a store, not int: it has no method load()",
    ),
    (
        lambda: run_many([], journal=Checkpoint(dict, print)),
        "journal must be a path or a store; a Checkpoint is for one run",
    ),
    (
        lambda: run_many([], journal=Checkpoint),
        "journal must be a path or a store, not the class Checkpoint",
    ),
    (
        lambda: keyed("k" * 2000),
        "the key of inputs[0] has 2000 bytes; at most 1000 are allowed: pass a digest of it",
    ),
    (lambda: keyed(HEADER_KEY), f"the key of inputs[0] must not be {HEADER_KEY!r}: it is reserved"),
    (
        lambda: client(call_timeout=Timeout(3)),
        "call_timeout must be a number of seconds, not a Timeout, which limits an attempt; "
        "pass a Timeout as timeout",
    ),
    (
        lambda: AsyncFlowMaestroClient(KEY).__enter__(),
        "AsyncFlowMaestroClient is async: write `async with`",
    ),
    (lambda: run_many([], journal=b"j"), "journal must be a path, not bytes"),
    (lambda: run_many([], journal=""), "journal must not be empty"),
    (lambda: run_many([], journal="a\0b"), "journal must not hold a null character"),
    (
        lambda: client().workflows.run_many("w", [], concurrency=0),
        "concurrency must be at least 1, not 0",
    ),
    # Any endpoint
    (
        lambda: client().request("GET /x", "/x"),
        "method must be an HTTP method such as 'GET', not 'GET /x'",
    ),
    (lambda: client().request("GET", "/x?token=s3cr3t"), PATH + "'/x'"),
    (
        lambda: client().request("GET", "/api/v1/x"),
        "path must be below the API root: leave out '/api/v1' of '/api/v1/x'",
    ),
    (
        lambda: client().request("GET", "/x", params={"a": {}}),
        "the query parameter 'a' must be a str, int, float or bool, or a list of these, not dict",
    ),
    (
        lambda: client().request("GET", "/x", params={"a": math.inf}),
        "the query parameter 'a' must be finite, not inf",
    ),
    (
        lambda: client().request("GET", "/x", params={"a": "\ud800"}),
        "a query parameter holds a lone surrogate, which UTF-8 cannot express",
    ),
    # Webhooks
    (
        lambda: webhooks.verify(b"", "v1=", ""),
        "secret must be the webhook's secret, a non-empty str, or a list of such secrets",
    ),
    (
        lambda: webhooks.verify(ANY, "v1=", "whsec"),
        "payload must be the body's bytes as they came, not NoneType",
    ),
    (lambda: wait(poll_interval="1"), "poll_interval must be a number of seconds, not str"),
    (lambda: run_many([{}], key=later), "key must be a plain function, not a coroutine function"),
    # Checkpoints
    (lambda: Checkpoint(ANY, print), "load must be a function, not NoneType"),
    (
        lambda: client().workflows.run("w", checkpoint=7),
        "checkpoint must be a Checkpoint, not int",
    ),
    (
        lambda: run_many([{}], checkpoint=Checkpoint(dict, print)),
        "checkpoint is for one run; a batch keeps a file: pass journal=path",
    ),
    (
        lambda: client().triggers.execute("t", checkpoint=Checkpoint(dict, print)),
        "checkpoint is for workflows: pass it to workflows.execute or workflows.run, "
        "or journal=path to workflows.run_many",
    ),
    (
        lambda: client().workflows.execute(
            "w", checkpoint=Checkpoint(dict, print), idempotency_key="k"
        ),
        "idempotency_key must be left out: the checkpoint keeps its own",
    ),
    # Files of inputs
    (lambda: read_rows("rows.txt"), "rows.txt must be a .csv, .tsv, .jsonl or .json file"),
    (rows_in("a.csv", b"\xff"), "a.csv: it is not UTF-8; save it as UTF-8"),
    (lambda: read_rows("absent/a.csv"), "absent/a.csv: No such file or directory"),
    (rows_in("a.csv", b"n,\n1,2\n"), "a.csv: column 2 has no name"),
    (
        rows_in("a.csv", b"n;m\n1;2\n"),
        "a.csv: its one column is named 'n;m'; commas must separate columns, "
        "or --delimiter ';' must say so",
    ),
    (rows_in("a.json", b"{}"), "a.json: it must be a JSON array of objects"),
    (lambda: rows_in("a.json", b"[]")(delimiter=";"), "a.json is JSON, which has no delimiter"),
    (rows_in("a.jsonl", b'{"n": 1e999}\n'), "a.jsonl, line 1: the number 1e999 is too large"),
    (
        rows_in("a.jsonl", b'{"n": ' + b"1" * 5000 + b"}\n"),
        "a.jsonl, line 1: an integer of 5000 digits is too large",
    ),
    (rows_in("a.csv", b"n,m\n1\n"), "a.csv, row 1: 1 cell, but 2 columns: column 2 is missing"),
    (
        rows_in("a.csv", b'n\n"1'),
        "a.csv, line 2: unexpected end of data in column 1",
    ),
    (rows_in("a.jsonl", b"[]\n"), "a.jsonl, line 1: it must be a JSON object"),
    (rows_in("a.jsonl", b'{"n": NaN}\n'), "a.jsonl, line 1: this is not JSON, which has no NaN"),
    (
        rows_in("a.jsonl", b"{\n"),
        "a.jsonl, line 1: this is not JSON: Expecting property name enclosed in double quotes: "
        "column 2",
    ),
    (
        rows_in("a.jsonl", b'{"n": ' + b"[" * 100_000),
        "a.jsonl, line 1: this is nested too deeply",
    ),
    # A timeline
    (lambda: timeline_of(ANY), "run must be an execution or its stream, not NoneType"),
    (
        lambda: timeline_of({}),  # type: ignore[typeddict-item]
        "run must be an execution or its stream, not a mapping without a status",
    ),
    (lambda: timeline_svg([], width=9), "width must be at least 320, not 9"),
    (
        lambda: timeline_svg([1]),  # type: ignore[list-item]
        "events must be mappings; one of them is int",
    ),
    # A transport of one's own
    (
        lambda: FlowMaestroClient(KEY, owns_transport=False),
        "owns_transport=False needs a transport=, which its owner closes",
    ),
    (
        lambda: Request("GET", "https://h", "A: b"),  # type: ignore[arg-type]
        "headers must be Headers, a mapping of str to str, or pairs of str",
    ),
    (
        lambda: TransportFailure("refused", "refused"),  # type: ignore[arg-type]
        "TransportFailure takes a Phase, then a message as text",
    ),
    (lambda: Response("200", {}), "status must be an int, not str"),  # type: ignore[arg-type]
    (lambda: Response(200, {}, ""), "body must be bytes, not str"),  # type: ignore[arg-type]
    (
        lambda: Context(ClientOptions(KEY), stream_times=ANY),
        "stream_times must be a StreamTimes, not NoneType",
    ),
]


@pytest.mark.parametrize(("do", "message"), MESSAGES, ids=[message for _, message in MESSAGES])
def test_error_message_is_exact_and_without_secret(do: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        do()
    assert str(caught.value) == message
    assert "s3cr3t" not in message


def raised() -> Iterator[Tuple[str, str]]:
    """Where the source refuses something by `TypeError` or `ValueError`, and a pattern of it."""
    root = Path(flowmaestro.__file__).parents[1]
    for path in sorted([*root.glob("flowmaestro_core/**/*.py"), *root.glob("flowmaestro/*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            refusal = node.exc if isinstance(node, ast.Raise) else None
            if not (isinstance(refusal, ast.Call) and isinstance(refusal.func, ast.Name)):
                continue
            if refusal.func.id in ("TypeError", "ValueError"):
                words = refusal.args[0]
                parts = words.values if isinstance(words, ast.JoinedStr) else [words]
                texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
                pattern = "".join(".*" if text is None else re.escape(text) for text in texts)
                yield f"{path.relative_to(root)}:{node.lineno}", pattern


def test_every_refusal_in_the_source_is_in_the_table() -> None:
    """But those of JSON from elsewhere, which is no argument."""
    from_elsewhere = (".*", re.escape("JSON has no ") + ".*")
    missing = [
        place
        for place, pattern in raised()
        if pattern not in from_elsewhere
        and not any(re.fullmatch(pattern, message) for _, message in MESSAGES)
    ]
    assert missing == []
    assert len(list(raised())) > 40
