"""What an ended execution offers beside its keys: `raise_for_status` and `outputs_as`."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

from flowmaestro_core.errors import ExecutionError
from flowmaestro_core.executions.outcome import EndedExecution, ended

KEY = "fm_live_" + "0123456789abcdef" * 2


def an_execution(**changes: Any) -> EndedExecution:
    return ended(
        {
            "id": "exec_1",
            "status": "completed",
            "inputs": {"name": "private input"},
            "outputs": {"total": "7", "note": "private output"},
            "error": None,
            **changes,
        }
    )


def refused(**changes: Any) -> ExecutionError:
    with pytest.raises(ExecutionError) as caught:
        an_execution(**changes).raise_for_status()
    return caught.value


class TestRaiseForStatus:
    def test_a_completed_execution_returns_itself(self) -> None:
        execution = an_execution()
        assert execution.raise_for_status() is execution

    @pytest.mark.parametrize(
        ("status", "reason", "text"),
        [
            ("failed", "No connection", "Execution exec_1 failed: No connection"),
            ("failed", None, "Execution exec_1 failed"),
            ("cancelled", None, "Execution exec_1 was cancelled"),
            ("expired", None, "Execution exec_1 has the status expired"),
        ],
    )
    def test_another_status_is_an_error_that_says_why(
        self, status: str, reason: Any, text: str
    ) -> None:
        error = refused(status=status, error=reason)
        assert (error.message, error.code, error.status) == (text, "not_completed", status)
        assert error.execution_id == "exec_1"

    def test_it_leads_to_the_execution_but_shows_no_inputs_or_outputs(self) -> None:
        error = refused(status="failed", error="Broken")
        assert error.execution.outputs == {"total": "7", "note": "private output"}
        assert "private" not in f"{error!s} {error!r}"

    def test_credentials_and_escape_sequences_in_the_reason_are_not_shown(self) -> None:
        text = str(refused(status="failed", error=f"\x1b[31mbad key {KEY}"))
        assert KEY not in text
        assert "\\x1b[31mbad key" in text

    def test_it_survives_pickling(self) -> None:
        error = refused(status="failed", error="Broken")
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.status, again.execution) == (
            str(error),
            "failed",
            error.execution,
        )


class TestOutputsAs:
    def test_it_returns_what_the_function_makes_of_the_outputs(self) -> None:
        assert an_execution().outputs_as(lambda it: int(it["total"])) == 7

    def test_an_execution_that_failed_is_not_read(self) -> None:
        with pytest.raises(ExecutionError):
            an_execution(status="failed").outputs_as(pytest.fail)

    def test_an_exception_of_the_function_is_raised_as_it_is(self) -> None:
        own = ValueError("no total")

        def make(outputs: Any) -> None:
            raise own

        with pytest.raises(ValueError, match="no total") as caught:
            an_execution().outputs_as(make)
        assert caught.value is own
        notes = getattr(own, "__notes__", None)
        expected = ["These are the outputs of execution exec_1"]
        assert notes == (expected if sys.version_info >= (3, 11) else None)

    def test_an_exception_without_notes_is_raised_as_it_is(self) -> None:
        class Bare(Exception):
            add_note: Any = None

        def make(outputs: Any) -> None:
            raise Bare

        with pytest.raises(Bare):
            an_execution().outputs_as(make)
