"""An adapter moves bytes: of the core, it knows the HTTP modules alone."""

import re
from pathlib import Path

import pytest

import flowmaestro_transports

PACKAGE = Path(flowmaestro_transports.__file__).parent
FOLDERS = ("aiohttp", "anyio", "http11", "requests", "sockets")
ADAPTERS = sorted(
    [
        PACKAGE / "functions.py",
        *(path for folder in FOLDERS for path in PACKAGE.glob(f"{folder}/*.py")),
    ]
)
IMPORT = re.compile(r"^(from|import) flowmaestro_(core|transports)[.\w]*", re.MULTILINE)


@pytest.mark.parametrize("path", ADAPTERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_adapters_import_only_http_modules_of_the_core(path: Path) -> None:
    allowed = {
        "flowmaestro_core.http.messages",
        "flowmaestro_core.http.secrets",
        "flowmaestro_core.http.urls",
        "flowmaestro_core.timeouts",
    }
    used = {match.group().split()[1] for match in IMPORT.finditer(path.read_text("utf-8"))}
    assert {name for name in used if name.startswith("flowmaestro_core")} <= allowed
