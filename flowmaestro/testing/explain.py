"""Show the request that an SDK method would send, also as a curl command, without a client."""

from __future__ import annotations

import shlex
from typing import Any, Iterator, NamedTuple

from flowmaestro_core.actions import LoadState, Open, Record, Send
from flowmaestro_core.context import Context
from flowmaestro_core.defaults import DEFAULT_BASE_URL
from flowmaestro_core.http.messages import Request
from flowmaestro_core.machines import machine_for
from flowmaestro_core.operation import Operation
from flowmaestro_core.options import ClientOptions

API_KEY = "FLOWMAESTRO_API_KEY"
"""The placeholder for the key: this text in the request, the shell variable in the command."""

IDEMPOTENCY_KEY = "IDEMPOTENCY_KEY"
"""The placeholder for the idempotency key that a driver draws for a POST without one."""


class Explanation(NamedTuple):
    """The first request of an operation; `str` of it is a curl command that sends the request.

    The command is for a POSIX shell and takes the key from the environment.

    Attributes:
        request: what a client would send; with placeholders for the key and for the
            idempotency key that a client draws.

    """

    request: Request

    def __str__(self) -> str:
        return " \\\n  ".join(curl_lines(self.request))


def explain(operation: Operation[Any, Any], *, base_url: str = DEFAULT_BASE_URL) -> Explanation:
    """Return the request that an operation begins with, as an `Explanation`.

    Args:
        operation: what a method returns when it is called on a resource's class, such as
            `SyncWorkflows.execute("wf_1", inputs={"name": "Ada"})` (see
            `flowmaestro.resources`). Of a wait, a walk through pages or a stream, the first
            request is returned.
        base_url: the URL of the server.

    Raises:
        TypeError: `operation` is not an operation, for example the result of a client's method,
            which has been sent already.
        ValueError: the operation does not begin with a request. A wait for no executions sends
            none; an operation with a journal or a checkpoint reads that first. Also for a
            `base_url` that is not usable.

    """
    if not isinstance(operation, Operation):
        raise TypeError(
            "explain takes what a method of a resource's class builds, such as "
            f"SyncWorkflows.execute('wf_1'), not {type(operation).__name__}"
        )
    machine = machine_for(operation, Context(ClientOptions(API_KEY, base_url)), IDEMPOTENCY_KEY)
    action = machine.start(0.0, 0.0)
    if isinstance(action, (LoadState, Record)):
        kept = "checkpoint" if isinstance(action, LoadState) else "journal"
        raise ValueError(
            f"the operation does not begin with a request: it reads its {kept} first; "
            f"leave out {kept}="
        )
    if not isinstance(action, (Send, Open)):
        raise ValueError("the operation has nothing to send")
    return Explanation(action.request)


def curl_lines(request: Request) -> Iterator[str]:
    """Yield the lines of a curl command that sends `request`.

    The placeholder of the API key becomes a shell variable, and that of an idempotency key becomes
    a call of `uuidgen`.
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
    """Return a header field, quoted for a shell command.

    A shell variable replaces the placeholder of the API key, and a call of `uuidgen` replaces that
    of an idempotency key.
    """
    if name in ("X-API-Key", "Authorization"):
        return f'"{name}: {value.replace(API_KEY, f"${API_KEY}")}"'
    # The key of a row of a batch ends with the number of the row.
    if name == "Idempotency-Key" and value.startswith(IDEMPOTENCY_KEY):
        number = value[len(IDEMPOTENCY_KEY) :]
        return f'"{name}: $(uuidgen)"{shlex.quote(number) if number else ""}'
    return shlex.quote(f"{name}: {value}")
