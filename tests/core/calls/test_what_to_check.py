"""Hints of a 401 and of a 404: the server, the source and the form of the key, and the ids."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from flowmaestro_core.calls.call import Call
from flowmaestro_core.errors import NotFoundError
from flowmaestro_core.http.urls import path
from flowmaestro_core.resources import Agents, Workflows
from tests.harness.core.calls import GET, started
from tests.harness.core.stepping import an_error


def refused(call: Call[Any], status: int, message: str = "No", **options: Any) -> Any:
    stepper = started(call, options)
    stepper.replies(status, an_error("refused", message))
    return stepper.error


class TestUnauthorised:
    @pytest.mark.parametrize(
        ("key", "form"),
        [
            ("fm_live_0123456789", "has the form fm_live_..."),
            ("fm_test_0123456789", "has the form fm_test_..., which the deployed server refuses"),
            ("sk-0123456789", "does not have the form fm_live_..."),
        ],
    )
    def test_it_names_server_source_and_form_but_no_character_of_the_key(
        self, key: str, form: str
    ) -> None:
        context_key = {"api_key": key, "key_source": "the drawer"}
        error = refused_with(context_key, 401)
        assert error.hint == f"sent to api.test; the key from the drawer {form}"
        assert key not in str(error)
        assert f"({error.hint})" in str(error)

    def test_a_port_is_part_of_the_server(self) -> None:
        error = refused_with({"base_url": "http://localhost:8000/flow"}, 401)
        assert error.hint.startswith("sent to localhost:8000; the key from the argument api_key")

    def test_another_key_comes_from_the_argument(self) -> None:
        from flowmaestro_core.options import ClientOptions

        options = ClientOptions("fm_live_1", key_source="the drawer")
        assert options.with_changes(max_retries=1).key_source == "the drawer"
        assert options.with_changes(api_key="fm_live_2").key_source == "the argument api_key"


class TestNotFound:
    @pytest.mark.parametrize(
        ("message", "hint"),
        [
            ("Not found", "workflow_id='wf_gone'"),
            ('invalid input syntax for type uuid: "wf_gone"', "workflow_id='wf_gone'"),
            ("Workflow with id 'wf_gone' not found", None),
        ],
    )
    def test_it_names_the_kind_and_the_id_unless_the_server_does(
        self, message: str, hint: Optional[str]
    ) -> None:
        status = 500 if "syntax" in message else 404
        error = refused(Workflows.get("wf_gone"), status, message)
        assert isinstance(error, NotFoundError)
        assert error.hint == hint

    def test_it_names_every_id_of_the_path(self) -> None:
        error = refused(Agents.get_memory("ag_1", "us_1"), 404, "Not found")
        assert error.hint == "agent_id='ag_1', user_id='us_1'"

    def test_a_long_or_unprintable_id_stays_one_short_line(self) -> None:
        call = Call[Any](
            "GET", path("/workflows/{workflow_id}", workflow_id="\x1b[31m" + 500 * "x")
        )
        error = refused(call, 404, "Not found")
        assert error.hint.isprintable()
        assert len(error.hint) < 130

    def test_a_path_without_ids_has_no_hint(self) -> None:
        assert refused(GET, 404).hint is None


def test_another_error_has_no_hint() -> None:
    error = refused(Workflows.get("wf_gone"), 403, "Missing scope")
    assert error.hint is None


def refused_with(options: Any, status: int) -> Any:
    from flowmaestro_core.calls.call import CallMachine
    from flowmaestro_core.context import Context
    from flowmaestro_core.options import ClientOptions
    from tests.harness.core.stepping import Stepper

    given = {"api_key": "fm_live_key", "base_url": "https://api.test", **options}
    stepper = Stepper(CallMachine(GET, Context(ClientOptions(**given)), "token"))
    stepper.start()
    stepper.replies(status, an_error("refused", "No"))
    return stepper.error
