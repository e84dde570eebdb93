"""The slow tests: `nox` alone leaves them to `nox -s full`.

`tests/conftest.py` gives them the mark `slow`.
"""

from __future__ import annotations

import re
from typing import Dict, Tuple

AT_MOST = 700
"""Each test that only `nox -s full` runs is one that contributors see fail late."""

LONG_CHECKS = "|".join(
    (
        "a-failed-handshake",
        "a-request-sent-in-part",
        "bounded-connections",
        "call-timeout",
        "cancelled-in-any-phase",
        "close-wakes-a-call",
        "close-while-reading",
        "many-at-once",
        "no-secret-is-reachable-from-a-failure",
        "twenty-megabytes",
    )
)
"""The checks of the kit that take more than half of its time."""

SLOW: Dict[str, Tuple[str, ...]] = {
    "The kit runs on sockets, and on anyio with asyncio, in the quick run.": (
        "tests/transports/test_conformance.py::TestAiohttp",
        r"tests/transports/test_conformance.py::TestAnyio::test_conformance\[trio-",
        "tests/transports/test_conformance.py::TestRequests",
    ),
    "A check of drivers waits for retries, in real time.": (
        "tests/transports/test_driver_check.py::test_a_good_driver_passes",
        "tests/transports/test_examples.py::.*test_the_loop_passes_the_check",
    ),
    "Stopping a process takes longer than its time limit.": ("tests/transports/test_held_up.py",),
    "No code of the SDK uses the examples. The short checks of the fast ones are quick.": (
        rf"tests/transports/test_example.*[\[-]({LONG_CHECKS})\]",
        "tests/transports/test_examples.py::TestFetch",
    ),
    "A broken transport for each check: they test the kit, not a transport.": (
        "tests/testing/conformance/test_conformance_teeth.py",
        "tests/testing/conformance/test_conformance_kit.py::test_a_package_that_the_kit_needs",
        "tests/testing/conformance/test_conformance_kit.py::test_a_stranger_runs_it",
    ),
    "Megabytes, or a fault at each of many places. Single faults are quick.": (
        "tests/faults/test_fault_matrix.py",
        "tests/faults/test_long_streams.py",
        "tests/testing/fake/server/test_inspector.py::test_many_large_requests_that_fail",
    ),
    "Ten thousand workflows, most of the time in making their classes.": (
        "tests/workflow_types/test_source.py::test_ten_thousand_workflows",
    ),
    "Random networks and random replies: what they find becomes a test of its own.": (
        "tests/chaos/test_chaos.py",
        "tests/fuzz/test_fuzz.py",
    ),
    "Processes are forked or killed, or an exception is raised at every bytecode.": (
        "tests/batches/test_every_call.py",
        "tests/batches/test_killed_batches.py",
        "tests/batches/test_killed_tasks.py",
        "tests/transports/driving/test_journal_as_store.py",
        "tests/cli/test_serve.py::test_a_server_killed_amid_starts",
        "tests/transports/primitives/test_fork.py::test_a_child_does_not_disturb",
        "tests/transports/sockets/test_interruptions.py::test_an_exception_at_any_bytecode",
        "tests/transports/sockets/test_interruptions.py::test_no_bytes_of_an_interrupted_read",
    ),
    "They start programs that take seconds: type checkers, benchmarks, every shown command.": (
        "tests/benchmarks/test_benchmarks.py::test_one_of_ours_alone",
        "tests/contract/test_block_types.py",
        "tests/house/test_page_types.py",
        "tests/house/test_docs.py::test_tests_of_a_project_pass",
        "tests/house/test_docs.py::test_the_command_line_says_what_its_page_shows",
        "tests/workflow_types/test_with_type_checkers.py",
    ),
}
"""By the reason, patterns that the ids of slow tests begin with."""

IS_SLOW = re.compile("|".join(pattern for patterns in SLOW.values() for pattern in patterns)).match
