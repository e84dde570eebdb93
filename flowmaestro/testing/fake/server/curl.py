"""A request as a curl command for a POSIX shell, which takes the key from the environment. Pure."""

from __future__ import annotations

import shlex
from typing import Iterator

from flowmaestro_core.http.messages import Request

API_KEY = "FLOWMAESTRO_API_KEY"
"""The placeholder for the key: this text in the request, the shell variable in the command."""


def curl_lines(request: Request) -> Iterator[str]:
    """Yield the lines of a curl command that sends `request`.

    The placeholder of the API key becomes a shell variable.
    """
    # With `--request HEAD`, curl waits for the body of the response. But it refuses `--head` with a
    # body to send.
    is_head = request.method == "HEAD" and not request.body
    method = "--head" if is_head else f"--request {shlex.quote(request.method)}"
    yield f"curl {method} {shlex.quote(request.url)}"
    for name, value in request.headers.pairs:
        if name == "Accept-Encoding" and value != "identity":
            yield "--compressed"  # Otherwise curl would print the compressed bytes.
        else:
            yield f"--header {_field(name, value)}"
    if request.body:
        yield f"--data-raw {shlex.quote(request.body.decode())}"


def _field(name: str, value: str) -> str:
    """Return a header field, quoted for a shell, with a variable for the placeholder of the key."""
    if name in ("X-API-Key", "Authorization"):
        return f'"{name}: {value.replace(API_KEY, f"${API_KEY}")}"'
    return shlex.quote(f"{name}: {value}")
