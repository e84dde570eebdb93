"""An adapter moves bytes: it retries nothing, decodes no JSON, and knows no FlowMaestro."""

import io
import re
import tokenize
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
FORBIDDEN = re.compile(
    r"retr(y|ies)|json|workflow|execution|agents|trigger|fm_|api.?key", re.IGNORECASE
)
TOLD_NOT_TO_RETRY = {"max_retries", "Retry", "retries", "_retry_connection"}
"""The stacks' own words, by which they are told not to try again of themselves."""
IMPORT = re.compile(r"^(from|import) flowmaestro_(core|transports)[.\w]*", re.MULTILINE)


def words_of(source: str) -> "list[str]":
    """Names and strings of the code; not its comments and docstrings."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    kept = []
    for before, token in zip([None, *tokens], tokens):
        docstring = token.type == tokenize.STRING and (
            before is None or before.type in (tokenize.INDENT, tokenize.NEWLINE, tokenize.NL)
        )
        if token.type in (tokenize.NAME, tokenize.STRING) and not docstring:
            kept.append(token.string)
    return kept


@pytest.mark.parametrize("path", ADAPTERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_adapters_do_not_mention_the_layers_above(path: Path) -> None:
    found = [word for word in words_of(path.read_text("utf-8")) if FORBIDDEN.search(word)]
    assert [word for word in found if word.strip('"') not in TOLD_NOT_TO_RETRY] == []


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


def test_the_search_would_find_something() -> None:
    assert [
        word for word in words_of("json.loads(x)\nretry = 'workflows'\n") if FORBIDDEN.search(word)
    ]
    assert ADAPTERS
