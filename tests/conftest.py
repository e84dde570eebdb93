"""No test judges the speed of the machine that runs it, or sees the settings of its user.

Hypothesis tries few examples; continuous integration tries others each time.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from typing import Callable, List, Optional

import pytest
from hypothesis import HealthCheck, settings

from tests.slow import AT_MOST, IS_SLOW

pytest.register_assert_rewrite("tests.harness")

FOR_TESTS = ("FLOWMAESTRO_FAULTS", "FLOWMAESTRO_INTERRUPTS", "FLOWMAESTRO_TEST_")
for name in list(os.environ):
    if name.startswith("FLOWMAESTRO_") and not name.startswith(FOR_TESTS):
        del os.environ[name]  # A key or an address of the user would reach clients of the tests.

settings.register_profile(
    "patient",
    settings.default,
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("patient")


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Mark the tests that `tests/slow.py` lists."""
    slow = [item for item in items if IS_SLOW(item.nodeid)]
    if len(slow) > AT_MOST:
        raise pytest.UsageError(f"tests/slow.py: {len(slow)} tests are slow, not {AT_MOST}")
    for item in slow:
        item.add_marker("slow")


def pytest_collection_finish() -> None:
    """Have no collection of garbage walk through the thousands of tests that were collected."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def little_to_collect() -> None:
    """Have collections walk through what this module makes, not through what earlier ones left."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: Optional[pytest.Item]) -> None:
    """No test leaves a key or an installed fake behind: a later test would use it."""
    left = {name for name in os.environ if name.startswith(("FLOWMAESTRO_API", "FLOWMAESTRO_BASE"))}
    module = sys.modules.get("flowmaestro_transports.override")
    if nextitem is None or nextitem.module is not item.module:  # Fixtures may span a module.
        for name in left:
            del os.environ[name]  # Only the first module is at fault.
        assert not left, f"the tests of {item.module.__name__} leave {sorted(left)} set"
        assert module is None or not module.current_override(), (
            f"{item.module.__name__} leaves a fake"
        )


@pytest.fixture
def takes_linear_time() -> Callable[[Callable[[int], object], int], None]:
    """A check that sixteen times the work takes no more than 64 times the CPU time.

    Linear work takes 16 times as long, and quadratic work 256 times. Of each size the fastest of
    several runs counts, and no run is compared with a clock: what slows the machine slows both.
    """

    def seconds(work: Callable[[int], object], size: int) -> float:
        begun = time.process_time()
        work(size)
        return time.process_time() - begun

    def check(work: Callable[[int], object], size: int) -> None:
        few = min(seconds(work, size // 16) for _ in range(5))
        assert any(seconds(work, size) < 64 * few for _ in range(5))

    return check
