"""A call of the task in a simulated process: its arguments, its event loop, and how it ended."""

from __future__ import annotations

import gc
import inspect
import sys
import threading
import time
import warnings
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Callable, Dict, Generator, NamedTuple, Optional
from unittest import mock

import anyio

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing.crashes.lines import dying_at_lines
from flowmaestro.testing.crashes.plan import Plan, arguments_of, opens_folder
from flowmaestro.testing.crashes.process import Process, Stopped, current
from flowmaestro.testing.crashes.steps import ProcessDied
from flowmaestro.testing.crashes.stores import WatchedStore
from flowmaestro.testing.crashes.wire import Network


class Ended(NamedTuple):
    """How a call of the task ended: it returned `value`, raised `error`, or its process died."""

    value: Any = None
    error: Optional[BaseException] = None
    died: bool = False


def call(plan: Plan, process: Process, network: Network, store: Any) -> Ended:
    """Call the task once, in a process. Return how that ended.

    `store` is that of the run; `None` if each process opens its own.
    """
    is_async = is_async_task(plan.task)

    def client() -> Any:
        transport = network.async_transport() if is_async else network.transport()
        kind: Any = AsyncFlowMaestroClient if is_async else FlowMaestroClient
        return kind(network.api_key, transport=transport)

    def opened() -> Any:
        made = store
        if plan.store is not None and opens_folder(plan.store):
            made = plan.store(process.folder)
        return made if made is None else WatchedStore(made, process, "store")

    offered: Dict[str, Callable[[], Any]] = {
        "client": client,
        "folder": lambda: process.folder,
        "fake": lambda: process.run.fake,
        "attempt": lambda: process.attempt,
    }
    if plan.store is not None:
        offered["store"] = opened
    token = current.set(process)
    try:
        args, kwargs = arguments_of(plan, offered, plan.args, plan.kwargs)
        with dying_at_lines(process) if plan.lines else nullcontext():
            value = plan.task(*args, **kwargs)
            if inspect.isawaitable(value):
                value = _awaited(value, plan.backend)
        with process.step("end", "returns", acts=False):
            pass
        process.run.alive -= 1
        return Ended(value)
    except Stopped:
        raise
    except BaseException as error:
        if process.run.refused is not None:
            raise Stopped from None
        if process.is_dead and not isinstance(error, KeyboardInterrupt):
            return Ended(died=True)
        if not _is_failure(error):
            raise
        process.run.alive -= 1
        return Ended(error=error)
    finally:
        current.reset(token)


def is_async_task(task: Any) -> bool:
    """Return whether a task is a coroutine function, or an object that is called as one."""
    inner: Any = task
    while hasattr(inner, "func"):
        inner = inner.func
    kind: Any = inner.__class__
    method = getattr(kind, "__call__", None)  # noqa: B004 - it is not called
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(method)


def _is_failure(error: BaseException) -> bool:
    """Return whether a task that raises this has failed. Ctrl+C and such end the whole test."""
    if isinstance(error, (Exception, SystemExit)):
        return True
    return "Cancelled" in type(error).__name__ or hasattr(error, "exceptions")


def _awaited(value: Any, backend: str) -> Any:
    """Return the result of an awaitable, in an event loop of its own."""

    async def main() -> Any:
        if backend == "asyncio":
            _quiet()
        return await value

    try:
        return anyio.run(main, backend=backend)
    finally:
        if inspect.iscoroutine(value):
            value.close()


def _quiet() -> None:
    """Do not log the tasks of a dead process: nobody is left to see what they raise."""
    import asyncio

    loop = asyncio.get_running_loop()

    def handle(loop: Any, context: Dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), (ProcessDied, Stopped)):
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)


@contextmanager
def virtual_sleep() -> Generator[None, None, None]:
    """In a `with` block, let `time.sleep` of a simulated process wait on its virtual clock."""
    really = time.sleep

    def sleep(seconds: float) -> None:
        process = current.get()
        if process is None:
            really(seconds)
        else:
            process.run.fake.clock.advance(seconds)
            process.check_alive()

    with mock.patch("time.sleep", sleep):
        yield


@contextmanager
def quiet() -> Generator[None, None, None]:
    """In a `with` block, let what a dead process leaves behind be collected without a word.

    That are threads and objects that would do something more, and files that nobody closes.
    """
    in_thread, in_collector = threading.excepthook, sys.unraisablehook

    def of_thread(args: Any) -> None:
        if not issubclass(args.exc_type, (ProcessDied, Stopped)):
            in_thread(args)

    def of_collector(args: Any) -> None:
        if not issubclass(args.exc_type, (ProcessDied, Stopped)):
            in_collector(args)

    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore", ResourceWarning)
        stack.enter_context(mock.patch("threading.excepthook", of_thread))
        stack.enter_context(mock.patch("sys.unraisablehook", of_collector))
        yield
        gc.collect()
