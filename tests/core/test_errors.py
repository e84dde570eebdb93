from __future__ import annotations

import builtins
import copy
import inspect
import json
import pickle
from typing import Any, List, Optional, Type

import pytest

from flowmaestro_core import errors
from flowmaestro_core.errors import Attempt, FlowMaestroError
from flowmaestro_core.http.messages import Phase, TransportClosedError, TransportFailure

CLASSES: List[Type[FlowMaestroError]] = sorted(
    (
        value
        for value in vars(errors).values()
        if inspect.isclass(value)
        and issubclass(value, FlowMaestroError)
        and not value.__name__.startswith("_")
    ),
    key=lambda kind: kind.__name__,
)

CAUSES: List[Optional[Exception]] = [
    None,
    TransportFailure(Phase.NOT_SENT, "no route"),
    TransportClosedError(),
    json.JSONDecodeError("no JSON", "<html>", 0),
    errors.TimeoutError("too slow"),
]

BY_STATUS = {
    errors.AuthenticationError: 401,
    errors.InsufficientCreditsError: 402,
    errors.AuthorizationError: 403,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.ValidationError: 400,
    errors.RateLimitError: 429,
    errors.ServerError: 500,
}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_can_be_made_without_arguments_and_says_something(
    kind: Type[FlowMaestroError],
) -> None:
    error = kind()
    assert isinstance(error, FlowMaestroError)
    assert error.message
    assert error.code
    assert error.args[0] == error.message
    assert str(error) == f"[{error.code}] {error.message}"
    assert error.status_code == BY_STATUS.get(kind)
    assert (error.request_id, error.details, error.attempts) == (None, None, ())
    assert (error.gave_up, error.execution_id) == (None, None)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_carries_what_it_is_given(kind: Type[FlowMaestroError]) -> None:
    error = kind(message="no", code="c", request_id="req_1", details={"a": 1})
    assert (error.message, error.code, error.request_id) == ("no", "c", "req_1")
    assert error.details == {"a": 1}
    assert str(error) == "[c] no (request_id: req_1)"
    assert repr(error) == (
        f"{kind.__name__}(message='no', code='c', status_code={error.status_code!r})"
    )
    assert error.request_id not in repr(error)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: type(cause).__name__)
def test_every_error_survives_a_pickle_and_a_copy(
    kind: Type[FlowMaestroError], cause: Optional[Exception]
) -> None:
    error: Any = kind("no", request_id="req_1", details=[1])
    error.attempts = (Attempt(1, Phase.NOT_SENT, delay=0.5), Attempt(2, 503, "code"))
    error.gave_up = "reason"
    error.execution_id = "exec_1"
    error.retry_after = 1.5
    error.last_execution = {"id": "exec_1"}
    error.__cause__ = cause
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is kind
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)
        assert repr(twin.__cause__) == repr(cause)
        assert twin.__suppress_context__ is (cause is not None)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_can_be_made_again_of_its_args_as_json(kind: Type[FlowMaestroError]) -> None:
    """Task queues keep no more of an exception."""
    error = kind("no", code="c", request_id="req_1", details={"a": [1]})
    twin = kind(*json.loads(json.dumps(error.args)))
    assert str(twin) == str(error) == "[c] no (request_id: req_1)"
    assert vars(twin) == vars(error)


def test_the_builtins_of_the_same_name_catch_ours() -> None:
    assert issubclass(errors.ConnectionError, builtins.ConnectionError)
    assert issubclass(errors.TimeoutError, builtins.TimeoutError)
    assert issubclass(errors.ClientClosedError, RuntimeError)
    for kind in (errors.ConnectionError, errors.TimeoutError):
        assert kind("message", "code").errno is None
        assert issubclass(kind, OSError)


def test_no_error_class_is_caught_as_another() -> None:
    leaves = [kind for kind in CLASSES if kind is not FlowMaestroError]
    for kind in leaves:
        assert [other for other in leaves if issubclass(kind, other)] == [kind]


def test_error_text_says_why_it_gave_up() -> None:
    error = errors.ServerError("down", "internal_error", 503, "req_1")
    error.attempts = (Attempt(1, 503, "internal_error", 0.5), Attempt(2, 503, "internal_error"))
    error.gave_up = "max_retries=1 is used up"
    assert str(error) == (
        "[internal_error] down (HTTP status 503) "
        "(gave up after attempt 2: max_retries=1 is used up) (request_id: req_1)"
    )


def test_an_attempt_is_a_value() -> None:
    attempt = Attempt(1, 503)
    assert attempt == Attempt(number=1, outcome=503, code=None, delay=None)
    assert hash(attempt) == hash(Attempt(1, 503))


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (errors.ServerError("connect ECONNREFUSED 127.0.0.1:5466"), " (HTTP status 500)"),
        (errors.ServerError("busy", status_code=503), " (HTTP status 503)"),
        (errors.ServerError("The server answered with status 502: no", status_code=502), ""),
        (errors.NotFoundError("no such workflow"), ""),
        (errors.ConnectionError("connection refused"), ""),
    ],
)
def test_an_error_of_the_server_shows_its_status(error: FlowMaestroError, shown: str) -> None:
    assert str(error) == f"[{error.code}] {error.message}", "made by hand"
    error.attempts = (Attempt(1, error.status_code or Phase.NOT_SENT),)
    assert str(error) == f"[{error.code}] {error.message}{shown}"
