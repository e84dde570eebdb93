"""Each Python block of the contract runs, as unchanged text, on every runner of its own kind.

Blocking blocks also run as awaiting code, by a rewrite that only inserts `await` and `async`.
Both dialects of the service; blocks that stream also against a service that streams otherwise.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import io
from dataclasses import dataclass
from types import CodeType
from typing import Any, Iterator, List, Optional

import pytest

import flowmaestro
from flowmaestro.testing import FakeFlowMaestro
from tests.harness.contract.blocks import CLIENTS, Block, blocks, is_coroutine
from tests.harness.contract.expectations import EXPECTED, SILENT, Expected, Names
from tests.harness.contract.worlds import (
    KEY,
    SPEED,
    World,
    in_loop,
)
from tests.harness.runners import IN_MEMORY, RUNNERS, Runner

BLOCKS = blocks()
pytestmark = pytest.mark.usefixtures("little_to_collect")


@dataclass(frozen=True)
class Service:
    """How the service behaves; `name` is empty for the plain dialect."""

    shapes: str
    name: str = ""
    events: str = "live"
    messages: Optional[str] = None

    def fake(self) -> FakeFlowMaestro:
        return FakeFlowMaestro(self.shapes, self.events, messages=self.messages)


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


def can_carry(runner: Runner, block: Block) -> bool:
    """Return whether a block, as it is or as async code, runs on a runner."""
    if not block.awaits:
        return True
    return runner.backend is not None and (not block.runs_asyncio or runner.backend == "asyncio")


@dataclass(frozen=True)
class Case:
    block: Block
    runner: Runner
    service: Service

    def __str__(self) -> str:
        parts = self.block.id, self.service.name, self.runner.name, self.service.shapes
        return "-".join(part for part in parts if part)

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
    if can_carry(runner, block)
]


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
    block = case.block
    rewritten = block.uses_a_client and not block.awaits
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


@pytest.mark.parametrize("case", CASES, ids=str)
def test_contract_block_runs_unchanged(case: Case) -> None:
    assert is_coroutine(case.block.code()) <= case.block.awaits
    with World(case.runner, case.service.fake(), SPEED) as world:
        run = run_blocking if case.runner.backend is None else run_awaiting
        printed = run(case, world)
    case.expected.check(printed, case.service.shapes)
    gc.collect()  # what a block left open must warn here


def test_every_block_is_there() -> None:
    assert len(BLOCKS) == 29
    assert {block.title for block in BLOCKS} == set(EXPECTED)


def test_inapplicable_blocks_are_exactly_the_known_ones() -> None:
    """Three blocks are async code: no sync runner takes them, and trio takes no `asyncio.run`."""
    runners = {case.runner for case in CASES}
    blocking = {it for it in runners if it.backend is None}
    trio = {it for it in runners if it.backend == "trio"}
    on = {title: {case.runner for case in CASES if case.block.title == title} for title in EXPECTED}
    assert {title: runners - some for title, some in on.items() if some != runners} == {
        "Async Client": blocking | trio,
        "Async Streaming": blocking,
        "Context Managers": blocking,
    }
