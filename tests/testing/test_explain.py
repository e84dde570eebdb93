from __future__ import annotations

import inspect
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from flowmaestro import resources
from flowmaestro.resources import (
    AsyncWorkflows,
    SyncAgents,
    SyncExecutions,
    SyncThreads,
    SyncWorkflows,
)
from flowmaestro.testing import MemoryCheckpoint, explain
from flowmaestro.testing.explain import curl_lines
from flowmaestro_core.http.messages import Headers, Request

ROOT = "https://api.flowmaestro.io/api/v1"
FIRST: List[Any] = [
    (lambda: SyncWorkflows.get("wf_1"), "GET", "/workflows/wf_1"),
    (lambda: AsyncWorkflows.execute("wf_1"), "POST", "/workflows/wf_1/execute"),
    (lambda: SyncWorkflows.run("wf_1"), "POST", "/workflows/wf_1/execute"),
    (lambda: SyncWorkflows.run_many("wf_1", [{}]), "POST", "/workflows/wf_1/execute"),
    (lambda: SyncAgents.iterate(per_page=5), "GET", "/agents?page=1&per_page=5"),
    (lambda: SyncExecutions.stream("e 1"), "GET", "/executions/e%201/events"),
    (lambda: SyncExecutions.wait_for_completion("e"), "GET", "/executions/e"),
    (lambda: SyncExecutions.wait_many(["e"]), "GET", "/executions/e"),
    (lambda: SyncThreads.send_message_stream("t", "hi"), "POST", "/threads/t/messages"),
]


@pytest.mark.parametrize(("build", "method", "path"), FIRST, ids=[first[2] for first in FIRST])
def test_explain_returns_the_first_request(
    build: Callable[[], Any], method: str, path: str
) -> None:
    request = explain(build()).request
    assert (request.method, request.url) == (method, ROOT + path)


STAND_INS = {"events": ["test"], "execution_ids": ["e"], "inputs": [{}], "url": "https://h"}


def every_method() -> Iterator[Any]:
    for resource_name in resources.__all__:
        resource = getattr(resources, resource_name)
        for name, build in inspect.getmembers(resource, callable):
            if not name.startswith("_"):
                yield pytest.param(build, id=f"{resource_name}.{name}")


@pytest.mark.parametrize("build", list(every_method()))
def test_explain_takes_every_method(build: Callable[..., Any]) -> None:
    needed = [
        parameter.name
        for parameter in inspect.signature(build).parameters.values()
        if parameter.default is parameter.empty
    ]
    explanation = explain(build(**{name: STAND_INS.get(name, "x") for name in needed}))
    method, url = explanation.request.method, explanation.request.url
    assert url.startswith(ROOT + "/")
    assert str(explanation).startswith(f"curl --request {method} ")
    assert "IDEMPOTENCY_KEY" not in str(explanation)


def test_curl_command_sends_the_request() -> None:
    operation = SyncWorkflows.execute("wf_1", inputs={"name": "D'Arcy"}, idempotency_key="mine")
    assert str(explain(operation, base_url="https://host/flow")) == "\n".join(
        [
            "curl --request POST https://host/flow/api/v1/workflows/wf_1/execute \\",
            '  --header "X-API-Key: $FLOWMAESTRO_API_KEY" \\',
            '  --header "Authorization: Bearer $FLOWMAESTRO_API_KEY" \\',
            f"  --header 'User-Agent: {explain(operation).request.headers['User-Agent']}' \\",
            "  --header 'Accept: application/json' \\",
            "  --compressed \\",
            "  --header 'Content-Type: application/json' \\",
            "  --header 'Idempotency-Key: mine' \\",
            """  --data-raw '{"inputs":{"name":"D'"'"'Arcy"}}'""",
        ]
    )


def test_curl_sends_a_head_without_waiting_for_a_body() -> None:
    assert list(curl_lines(Request("HEAD", f"{ROOT}/x", Headers()))) == [f"curl --head {ROOT}/x"]


def test_curl_sends_the_body_of_a_head() -> None:
    """It refuses `--head` with a body: "You can only select one HTTP request method!"."""
    lines = list(curl_lines(Request("HEAD", f"{ROOT}/x", Headers(), b"a=1")))
    assert lines == [f"curl --request HEAD {ROOT}/x", "--data-raw a=1"]


def test_a_shell_sends_the_very_request(tmp_path: Path) -> None:
    """A stand-in for curl writes down what the shell made of the command."""
    curl = tmp_path / "curl"
    curl.write_text("""#!/bin/sh\nprintf '%s\\0' "$@"\n""")
    curl.chmod(0o755)
    (tmp_path / "uuidgen").write_text("#!/bin/sh\necho drawn\n")
    (tmp_path / "uuidgen").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    inputs = {"text": "`$HOME` \"double\" 'single' \\ é\nnew line", "n": [1, None]}
    explanation = explain(SyncWorkflows.execute("wf_1", inputs=inputs))
    ran = subprocess.run(
        ["sh", "-c", str(explanation)],
        env={"PATH": path, "FLOWMAESTRO_API_KEY": "fm_live_7"},
        capture_output=True,
        check=True,
    )
    arguments = ran.stdout.decode().split("\0")
    assert arguments[:3] == ["--request", "POST", ROOT + "/workflows/wf_1/execute"]
    assert "X-API-Key: fm_live_7" in arguments
    assert "Authorization: Bearer fm_live_7" in arguments
    assert "Idempotency-Key: drawn" in arguments
    assert json.loads(arguments[arguments.index("--data-raw") + 1]) == {"inputs": inputs}


def test_a_key_of_ones_own_is_quoted() -> None:
    key = 'IDEMPOTENCY_KEY"$(id)'
    command = explain(SyncWorkflows.execute("wf", idempotency_key=key))
    assert """--header "Idempotency-Key: $(uuidgen)"'"$(id)'""" in str(command)


def test_a_performed_call_is_not_explained() -> None:
    performed: Any = {"data": {}}
    with pytest.raises(TypeError, match=r"builds, such as SyncWorkflows\.execute\('wf_1'\)"):
        explain(performed)


def test_explain_refuses_an_operation_without_a_request() -> None:
    with pytest.raises(ValueError, match="the operation has nothing to send"):
        explain(SyncExecutions.wait_many([]))
    with pytest.raises(ValueError, match="base_url"):
        explain(SyncExecutions.get("e"), base_url="host")


KEPT: List[Any] = [
    ("checkpoint", lambda path: SyncWorkflows.execute("wf_1", checkpoint=MemoryCheckpoint())),
    ("checkpoint", lambda path: AsyncWorkflows.run("wf_1", checkpoint=MemoryCheckpoint())),
    ("journal", lambda path: SyncWorkflows.run_many("wf_1", [{}], journal=path)),
    ("journal", lambda path: SyncWorkflows.run_many("wf_1", [], journal=path)),
]


@pytest.mark.parametrize(("name", "build"), KEPT)
def test_explain_says_to_leave_out_what_is_read_before_the_first_request(
    name: str, build: Callable[[Path], Any], tmp_path: Path
) -> None:
    said = f"does not begin with a request: it reads its {name} first; leave out {name}="
    with pytest.raises(ValueError, match=said):
        explain(build(tmp_path / "journal"))
