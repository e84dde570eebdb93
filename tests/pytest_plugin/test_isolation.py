"""The pytest plugin loads nothing of the SDK until a test asks for it, and can be left out."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.metadata import entry_points


def test_it_is_an_entry_point():
    found = entry_points()
    plugins = found.select(group="pytest11") if hasattr(found, "select") else found["pytest11"]
    assert [it.value for it in plugins if it.name == "flowmaestro"] == ["flowmaestro.pytest_plugin"]


def test_loading_it_imports_nothing_but_pytest():
    script = """
        import sys, pytest
        before = set(sys.modules)
        import flowmaestro.pytest_plugin
        print(sorted(set(sys.modules) - before))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['flowmaestro', 'flowmaestro.pytest_plugin']"


def test_a_session_that_does_not_use_it_loads_nothing_and_the_guard_lets_libraries_be_imported(
    run_pytest,
):
    run_pytest(
        """
        import sys

        def test_nothing_of_it_is_there(request):
            assert request.config.pluginmanager.hasplugin("flowmaestro")
            for name in ("flowmaestro.client", "flowmaestro.testing", "flowmaestro_core"):
                assert name not in sys.modules
            for name in ("requests", "aiohttp", "anyio", "trio"):
                assert name not in sys.modules

        def test_the_guard(flowmaestro_no_network):
            import urllib3

        def test_the_guard_again(flowmaestro_no_network):
            import requests
        """,
        passed=3,
        alone=True,
    )


def test_it_can_be_left_out(run_pytest):
    said = run_pytest("def test_it(flowmaestro_fake): ...", "-pno:flowmaestro", errors=1)
    assert "fixture 'flowmaestro_fake' not found" in said
