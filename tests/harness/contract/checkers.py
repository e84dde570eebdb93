"""mypy and pyright, run once each over a folder, with what they complain of as plain lines."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import pytest

_MYPY_CONFIG = """\
[mypy]
strict = true
"""
# Documentation imports more than it uses, and gives names to what it drops.
_PYRIGHT_CONFIG = {
    "typeCheckingMode": "strict",
    "reportUnusedImport": False,
    "reportUnusedVariable": False,
}
_MYPY_LINE = re.compile(r"(?P<file>[^:]+):(?P<line>\d+):(\d+:)? error: .*\[(?P<rule>[a-z-]+)\]")


class Complaint(NamedTuple):
    file: str
    line: int
    rule: str
    text: str


def mypy(folder: Path) -> List[Complaint]:
    """What `mypy --strict` says of the Python files in `folder`; skips where it is missing."""
    _need("mypy")
    (folder / "mypy.ini").write_text(_MYPY_CONFIG)
    command = ["--config-file", "mypy.ini", "--no-error-summary", "--no-pretty"]
    output = _run(folder, "mypy", "--cache-dir", "mypy-cache", *command, *_files(folder))
    found: List[Complaint] = []
    for text in output.splitlines():
        line = _MYPY_LINE.fullmatch(text)
        if line is None:
            assert "note:" in text, output
        else:
            found.append(Complaint(line["file"], int(line["line"]), line["rule"], text))
    return found


def pyright(folder: Path) -> List[Complaint]:
    """What pyright, strict, says of the Python files in `folder`; skips where it is missing."""
    _need("pyright")
    (folder / "pyrightconfig.json").write_text(json.dumps(_PYRIGHT_CONFIG))
    output = _run(folder, "pyright", "--pythonpath", sys.executable, "--outputjson")
    report: Dict[str, Any] = json.loads(output)
    assert report["summary"]["filesAnalyzed"] == len(_files(folder))
    return [
        Complaint(
            Path(item["file"]).name,
            item["range"]["start"]["line"] + 1,
            item.get("rule", "syntax"),
            f"{Path(item['file']).name}: {item['message']}",
        )
        for item in report["generalDiagnostics"]
        if item["severity"] == "error"
    ]


def _files(folder: Path) -> List[str]:
    return sorted(path.name for path in folder.glob("*.py"))


def _need(checker: str) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} IS NOT INSTALLED: types are not checked here")


def _run(folder: Path, module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout
