"""Sync and async forms of one loop are compared: `async`, `await` and names may differ alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, Dict, Union

import pytest

ROOT = Path(__file__).parents[2]
DRIVING = "transports/flowmaestro_transports/driving"
CASSETTES = "flowmaestro/testing/cassettes"
VIRTUAL = "flowmaestro/testing/virtual/memory.py"
FUNCTIONS = "transports/flowmaestro_transports/functions.py"
CONTRACT = "transports/flowmaestro_transports/contract.py"
TWINS = [
    (f"{DRIVING}/drivers.py", "SyncDriver", "AsyncDriver"),
    (f"{DRIVING}/stores.py", "SyncKeeper", "AsyncKeeper"),
    (f"{DRIVING}/executors.py", "SyncExecutor", "AsyncExecutor"),
    (f"{DRIVING}/iterators.py", "SyncHandle", "AsyncHandle"),
    (f"{DRIVING}/iterators.py", "_Text", "_AsyncText"),
    (f"{DRIVING}/iterators.py", "SyncItems", "AsyncItems"),
    (f"{DRIVING}/iterators.py", "EventStream", "AsyncEventStream"),
    (f"{DRIVING}/iterators.py", "MessageEventStream", "AsyncMessageEventStream"),
    (f"{DRIVING}/runs.py", "RunOutcomes", "AsyncRunOutcomes"),
    ("transports/flowmaestro_transports/observing/reporters.py", "SyncReporter", "AsyncReporter"),
    (FUNCTIONS, "FunctionTransport", "AsyncFunctionTransport"),
    (FUNCTIONS, "_SyncBody", "_AsyncBody"),
    (f"{CASSETTES}/recorder.py", "RecordingTransport", "AsyncRecordingTransport"),
    (f"{CASSETTES}/recorder.py", "RecordedBody", "AsyncRecordedBody"),
    (VIRTUAL, "MemoryTransport", "AsyncMemoryTransport"),
    (VIRTUAL, "MemoryBody", "AsyncMemoryBody"),
    (VIRTUAL, "_carry_out", "_carry_out_async"),
    ("flowmaestro/testing/virtual/scripted.py", "ScriptedTransport", "AsyncScriptedTransport"),
    ("flowmaestro/client.py", "FlowMaestroClient", "AsyncFlowMaestroClient"),
    (CONTRACT, "OpenResponse", "AsyncOpenResponse"),
    (CONTRACT, "Transport", "AsyncTransport"),
]
"""A file, and the two forms in it."""

NO_TWINS = {
    ("Runner", "AsyncRunner"): "its base",
    ("SyncRunner", "AsyncRunner"): "threads here, a task group there",
    ("_Calls", "_AsyncCalls"): "threads here, a task group there",
    ("TransportConformance", "AsyncTransportConformance"): "one is run on each event loop",
}
"""Names of a pair that is not one loop written twice, and why."""

CALLBACK = "a sync client refuses a coroutine of a callback, an async one awaits it"
ACLOSE = "contextlib.aclosing calls this name"
THREADS = "threads need a lock where tasks need a flag"
LOOP = "an async handle releases its body on its own event loop"

DIFFERENT = {
    "FlowMaestroClient.aclose": ACLOSE,
    "FlowMaestroClient.request": "mypy needs to be told the type of what is awaited",
    "SyncDriver.advance": "only a coroutine can be dropped while it waits",
    "SyncDriver.deliver": CALLBACK,
    "SyncDriver._release": "only a task can be cancelled while its body closes",
    "SyncDriver.drop": LOOP,
    "SyncDriver._opened": LOOP,
    "SyncDriver._home": LOOP,
    "SyncExecutor.method": "a coroutine function shows itself as one, so it needs an `async def`",
    "SyncExecutor.perform": LOOP,
    "SyncExecutor.iterate": "an operation has a type for each kind of client",
    "SyncHandle.__init__": f"{THREADS}; every async transport can be interrupted",
    "SyncHandle._next_item": THREADS,
    "SyncHandle.aclose": ACLOSE,
    "SyncHandle.__del__": LOOP,
    "_Text.__next__": "Python 3.9 has no anext()",
    "_Text.close": ACLOSE,
    "_Text.aclose": ACLOSE,
    "RunOutcomes.close": THREADS,
    "RunOutcomes.aclose": ACLOSE,
    "RunOutcomes.__next__": "only a coroutine can be dropped while it waits",
    "RunOutcomes.__del__": "AsyncHandle.__del__ does not close, so the journal is closed before it",
    "RunOutcomes._drop_journal": "only an async handle may have to be released without waiting",
    "SyncReporter._tell": CALLBACK,
    "SyncKeeper._call": CALLBACK,
    "FlowMaestroClient.": "only the async client may be entered by mistake with a plain `with`",
    "FunctionTransport.send": "an async client takes a coroutine function and a plain one",
    "FunctionTransport.sleep": "each has the sleep of its world",
    "RecordingTransport.open": "only an async body may have to be released without waiting",
    "MemoryBody.close": "only an async body may have to be released without waiting",
    "MemoryBody.release": "only an async body may have to be released without waiting",
    "_carry_out.": "an async call lets other tasks run once",
}
"""Methods that differ all the same, and why they must."""

NAMES = [
    (r"(?<![A-Za-z0-9])(?:Sync|Async)(?=[A-Z])", ""),
    (r"__a(enter|exit|iter|next)__", r"__\1__"),
    (r"StopAsyncIteration", "StopIteration"),
    (r"\ba?sync_(?=(?:reporter|executor)\b)|_async\b", ""),
    (r"\baclose\b", "close"),
    (r"\b[AC]\b", "Self"),
]
"""Patterns of names that may differ, and what both are compared as."""


class _Plain(ast.NodeTransformer):
    """The sync form of a tree, without docstrings."""

    def visit_Await(self, node: ast.Await) -> Any:
        return self.visit(node.value)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        node.names.sort(key=lambda it: re.sub(*NAMES[3], it.name))
        return node

    def visit_Expr(self, node: ast.Expr) -> Any:
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)


def plain(node: ast.AST) -> str:
    """Return the source of a function or statement, as both forms should have it."""
    source = ast.unparse(_Plain().visit(node))
    source = re.sub(r"^(\s*)async (def|for|with)\b", r"\1\2", source, flags=re.MULTILINE)
    source = re.sub(r"\basync for\b", "for", source)
    for pattern, name in NAMES:
        source = re.sub(pattern, name, source)
    return source


def parts_of(node: Union[ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef]) -> Dict[str, str]:
    """Return the methods and attributes of a class by name; a function is its only part."""
    if not isinstance(node, ast.ClassDef):
        return {"": plain(node)}
    parts: Dict[str, str] = {}
    for member in node.body:
        if isinstance(member, ast.Expr):  # a docstring
            continue
        if isinstance(member, ast.Assign):
            name = ast.unparse(member.targets[0])
        elif isinstance(member, ast.AnnAssign):
            name = ast.unparse(member.target)
        else:
            name = re.sub(*NAMES[1], getattr(member, "name", ""))
        parts[name] = plain(member)
    return parts


@pytest.mark.parametrize(("path", "sync", "other"), TWINS, ids=[twin[1] for twin in TWINS])
def test_twins_differ_in_async_and_await_alone(path: str, sync: str, other: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    nodes: Dict[str, Any] = {getattr(node, "name", ""): node for node in tree.body}
    ours, theirs = parts_of(nodes[sync]), parts_of(nodes[other])
    known = {name for name in DIFFERENT if name.partition(".")[0] == sync}
    different = {}
    for name in {*ours, *theirs}:
        if ours.get(name) != theirs.get(name):
            different[f"{sync}.{name}"] = (ours.get(name), theirs.get(name))
    new = {name: forms for name, forms in different.items() if name not in known}
    assert not new, f"bring them into line, or name the reason in DIFFERENT: {new}"
    assert not known - set(different), "these agree now: take them off DIFFERENT"


def test_every_pair_of_names_is_compared() -> None:
    found = set()
    for package in ("transports/flowmaestro_transports", "flowmaestro"):
        for path in (ROOT / package).rglob("*.py"):
            names = [getattr(node, "name", "") for node in ast.parse(path.read_text("utf-8")).body]
            for name in names:
                bare = re.sub(r"^(_?)Async(?=.)|_async$", r"\1", name)
                for other in {bare, re.sub(r"^(_?)", r"\1Sync", bare)} & {*names}:
                    if bare != name and (other, name) not in NO_TWINS:
                        found.add((path.relative_to(ROOT).as_posix(), other, name))
    assert found == set(TWINS)


def test_a_difference_is_seen() -> None:
    def part(source: str) -> str:
        return plain(ast.parse(source).body[0])

    sync = part("def close(self):\n    with self.lock:\n        self.inner.close()")
    assert sync == part(
        "async def aclose(self):\n"
        "    'Text.'\n"
        "    async with self.lock:\n"
        "        await self.inner.aclose()"
    )
    assert sync != part("async def close(self):\n    await self.inner.close()")
