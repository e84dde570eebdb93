"""Which errors of a start are the server's own answer to its row."""

from __future__ import annotations

import pytest

from flowmaestro_core.errors import FlowMaestroError, NotFoundError, ServerError
from flowmaestro_core.executions.start import failure_digest
from flowmaestro_core.http.messages import Headers, Response
from flowmaestro_core.payloads.reply import NonJsonBody, error_from_response


def test_equal_errors_of_the_api_have_equal_digests() -> None:
    first = failure_digest(ServerError("no\x00", "internal_error", 500, "req_1"))
    assert first == failure_digest(ServerError("no\x00", "internal_error", 500, "req_2"))
    assert first != failure_digest(ServerError("other", "internal_error", 500))
    assert len(first) == 32


@pytest.mark.parametrize(
    "error",
    [
        None,
        NotFoundError("no"),
        ServerError("away", "service_unavailable", 503),
        ServerError("no JSON", "invalid_response", 500),
        ServerError("a page", "internal_error", 500, details=NonJsonBody("<html>")),
        error_from_response(Response(500, Headers())),
    ],
    ids=["none", "404", "503", "invalid response", "page of a gateway", "empty body of a gateway"],
)
def test_any_other_error_has_no_digest(error: FlowMaestroError) -> None:
    assert failure_digest(error) == ""
