"""Each Python block of the contract runs, as unchanged text, on every runner of its own kind.

Blocking blocks also run as awaiting code, by a rewrite that only inserts `await` and `async`.
Both dialects of the service; blocks that stream also against a service that streams otherwise.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import inspect
import io
from dataclasses import dataclass
from types import CodeType
from typing import Any, Dict, Iterator, List, Optional

import pytest

import flowmaestro
from tests.harness.contract.blocks import CLIENTS, Block, blocks, is_coroutine
from tests.harness.contract.expectations import EXPECTED, SILENT, Expected, Names
from tests.harness.contract.grid import AS_IS, NOT_APPLICABLE, REWRITTEN
from tests.harness.contract.worlds import (
    KEY,
    SPEED,
    WatchedFake,
    World,
    in_loop,
)
from tests.harness.runners import IN_MEMORY, RUNNERS, Runner

BLOCKS = blocks()


@dataclass(frozen=True)
class Service:
    """How the service behaves; `name` is empty for the plain dialect."""

    shapes: str
    name: str = ""
    events: str = "live"
    messages: Optional[str] = None

    def fake(self) -> WatchedFake:
        return WatchedFake(self.shapes, self.events, messages=self.messages)


DIALECTS = (Service("deployed"), Service("documented"))


def services(block: Block) -> List[Service]:
    """The dialects, and the other ways in which a service may stream."""
    found = list(DIALECTS)
    if "executions.stream(" in block.text:
        found += [Service(dialect.shapes, "silent", "silent") for dialect in DIALECTS]
    if "send_message_stream(" in block.text:
        found += [
            Service(dialect.shapes, way, messages=way)
            for way in ("refused", "sse")
            for dialect in DIALECTS
        ]
    return found


def mark_of(block: Block, runner: Runner) -> str:
    """How a block gets onto a runner, if it does."""
    if block.awaits:
        off = runner.backend is None or (block.runs_asyncio and runner.backend != "asyncio")
        return NOT_APPLICABLE if off else AS_IS
    return AS_IS if runner.backend is None or not block.uses_a_client else REWRITTEN


@dataclass(frozen=True)
class Case:
    block: Block
    runner: Runner
    service: Service

    @property
    def mark(self) -> str:
        return mark_of(self.block, self.runner)

    @property
    def row(self) -> str:
        return f"{self.block.id} {self.service.name}".rstrip()

    @property
    def column(self) -> str:
        return f"{self.runner.name} {self.service.shapes}"

    @property
    def expected(self) -> Expected:
        if self.service.events == "silent":
            return SILENT[self.block.title]
        return EXPECTED[self.block.title]


CASES = [
    Case(block, runner, service)
    for block in BLOCKS
    for service in services(block)
    for runner in (*RUNNERS.values(), *IN_MEMORY)
]
APPLICABLE = [case for case in CASES if case.mark != NOT_APPLICABLE]


def execute(code: CodeType, names: Names) -> Any:
    """Run a block's code; an awaitable comes back from one that awaits at the top level."""
    return eval(code, names)


@contextlib.contextmanager
def importable(names: Names) -> Iterator[None]:
    """Have `from flowmaestro import ...` give the clients of this world, too."""
    with pytest.MonkeyPatch.context() as patch:
        for name in CLIENTS:
            patch.setattr(flowmaestro, name, names[name])
        yield


def run_blocking(case: Case, world: World) -> str:
    names: Names = {name: getattr(world, _MAKERS[name]) for name in CLIENTS}
    if case.block.is_given_a_client:
        names["client"] = world.client(KEY)
    printed = io.StringIO()
    with importable(names), contextlib.redirect_stdout(printed):
        execute(case.block.code(), names)
        case.expected.after(names, world)
    return printed.getvalue()


def run_awaiting(case: Case, world: World) -> str:
    """Run a block in a loop of the runner's kind, unless the block makes a loop of its own."""
    block, rewritten = case.block, case.mark == REWRITTEN
    code = block.rewritten_code() if rewritten else block.code()
    names: Names = {name: getattr(world, _MAKERS[name]) for name in CLIENTS}
    if rewritten:  # awaiting code calls for the async client, by whatever name
        names["FlowMaestroClient"] = world.async_client
    printed = io.StringIO()

    async def main() -> None:
        if block.is_given_a_client:
            names["client"] = world.async_client(KEY)
        done = execute(code, names)
        if inspect.isawaitable(done):
            await done
        seen = case.expected.after(names, world)
        if inspect.isawaitable(seen):
            await seen
        await world.close_in_loop()
        gc.collect()  # what a block has dropped must not be missed by its loop

    with importable(names), contextlib.redirect_stdout(printed):
        if block.runs_asyncio:
            execute(code, names)
            case.expected.after(names, world)
        else:
            assert case.runner.backend is not None
            in_loop(case.runner.backend, main)
    return printed.getvalue()


_MAKERS = {"FlowMaestroClient": "client", "AsyncFlowMaestroClient": "async_client"}


@pytest.fixture(scope="module", autouse=True)
def young_garbage() -> None:
    """Let `gc.collect` look only at what is made here; everything else makes it slow."""
    gc.collect()
    gc.freeze()


@pytest.mark.parametrize(
    "case", APPLICABLE, ids=lambda case: f"{case.row}-{case.column}".replace(" ", "-")
)
def test_contract_block_runs_unchanged(case: Case, cell: Any) -> None:
    cell(case.row, case.column, case.mark)
    assert is_coroutine(case.block.code()) <= case.block.awaits
    with World(case.runner, case.service.fake(), SPEED) as world:
        run = run_blocking if case.runner.backend is None else run_awaiting
        printed = run(case, world)
    case.expected.check(printed, case.service.shapes)
    gc.collect()  # what a block left open must warn here


def test_every_block_is_there() -> None:
    assert len(BLOCKS) == 29
    assert {block.title for block in BLOCKS} == set(EXPECTED)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.id)
def test_the_rewrite_only_inserts_await_and_async(block: Block) -> None:
    rewritten = ast.unparse(block.rewritten())
    original = ast.unparse(block.tree)
    if block.awaits:
        return
    assert rewritten.replace("await ", "").replace("async ", "") == original
    assert (rewritten != original) == ("client." in block.text or "as client" in block.text)


def test_inapplicable_blocks_are_exactly_the_known_ones(cell: Any) -> None:
    """Three blocks are async code: no sync runner takes them, and trio takes no `asyncio.run`."""
    off: Dict[str, set[str]] = {}
    for case in CASES:
        if case.mark == NOT_APPLICABLE:
            cell(case.row, case.column, NOT_APPLICABLE)
            off.setdefault(case.block.title, set()).add(case.runner.name)
    blocking = {case.runner.name for case in CASES if case.runner.backend is None}
    trio = {case.runner.name for case in CASES if case.runner.backend == "trio"}
    assert off == {
        "Async Client": blocking | trio,
        "Async Streaming": blocking,
        "Context Managers": blocking,
    }
