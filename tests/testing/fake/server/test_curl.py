"""The curl command of a request, as the inspector shows it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from flowmaestro.testing.fake.server.curl import API_KEY, curl_lines
from flowmaestro_core.http.messages import Headers, Request

ROOT = "https://api.flowmaestro.io/api/v1"


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
    body = '{"text": "`$HOME` \'single\' \\\\ \u00e9"}\n'
    headers = Headers([("X-API-Key", API_KEY), ("Accept-Encoding", "gzip"), ("X-A", "$(id)'")])
    request = Request("POST", f"{ROOT}/x", headers, body.encode())
    ran = subprocess.run(
        ["sh", "-c", " \\\n  ".join(curl_lines(request))],
        env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "FLOWMAESTRO_API_KEY": "fm_7"},
        capture_output=True,
        check=True,
    )
    arguments = ran.stdout.decode().split("\0")[:-1]
    assert arguments == [
        *("--request", "POST", f"{ROOT}/x", "--header", "X-API-Key: fm_7", "--compressed"),
        *("--header", "X-A: $(id)'", "--data-raw", body),
    ]
