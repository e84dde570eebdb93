"""Runs pytest on the test file of a user: in this process, or where it matters, in its own."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import textwrap
import warnings

import pytest

OTHERS = (
    "anyio",
    "asyncio",
    "cacheprovider",
    "cov",
    "hypothesispytest",
    "requests_mock",
    "trio",
    "xdist",
)
IN_HERE = ("-pno:faulthandler", "-pno:timeout", "-pno:unraisableexception", "--capture=sys")
"""What the pytest around it does, it does not do a second time."""


@pytest.fixture
def run_pytest(tmp_path, monkeypatch):
    """Run pytest on a test file; the lines that tell what came of each test, and all it said.

    `alone`: in a process of its own, so that nothing is imported yet.
    """

    def run(text, *options, beside=(), passed=0, failed=0, errors=0, alone=False):
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        (tmp_path / "test_user.py").write_text(textwrap.dedent(text))
        left_out = [f"-pno:{other}" for other in OTHERS if other not in beside]
        arguments = ["-q", *left_out, *options, "test_user.py"]
        said = in_its_own_process(arguments) if alone else in_this_process(arguments)
        summary = said.strip().splitlines()[-1]
        for count, word in ((passed, "passed"), (failed, "failed"), (errors, "error")):
            assert (f"{count} {word}" in summary) is (count > 0), said
        return said

    def in_its_own_process(arguments):
        command = [sys.executable, "-m", "pytest", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        return done.stderr + done.stdout

    def in_this_process(arguments):
        said = io.StringIO()
        monkeypatch.chdir(tmp_path)
        monkeypatch.delitem(sys.modules, "test_user", raising=False)
        with (
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            warnings.catch_warnings(record=True),
        ):
            warnings.simplefilter("always")
            pytest.main([*IN_HERE, "--import-mode=importlib", *arguments])
        sys.modules.pop("test_user", None)
        return said.getvalue()

    return run
