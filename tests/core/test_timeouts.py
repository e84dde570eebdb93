from __future__ import annotations

import copy
import math
import pickle

import pytest

from flowmaestro_core.actions import Send
from flowmaestro_core.calls.call import Call, CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.options import ClientOptions
from flowmaestro_core.timeouts import Timeout, with_attempt


def phases(timeout: float) -> tuple[object, ...]:
    assert isinstance(timeout, Timeout)
    return float(timeout), timeout.connect, timeout.head, timeout.read


class TestTimeout:
    def test_a_timeout_is_the_limit_of_the_whole_attempt(self) -> None:
        timeout = Timeout(30, connect=5)
        assert timeout == 30.0
        assert isinstance(timeout, float)
        assert timeout + 1 == 31.0
        assert f"{timeout:g}" == "30"
        assert sorted([Timeout(2), 1.0, Timeout(0.5)]) == [0.5, 1.0, 2.0]

    def test_a_phase_has_no_limit_of_its_own_unless_it_is_given(self) -> None:
        assert phases(Timeout(30)) == (30.0, None, None, None)
        assert phases(Timeout(30, connect=1, head=2, read=3)) == (30.0, 1.0, 2.0, 3.0)
        assert phases(Timeout(1, connect=5)) == (1.0, 5.0, None, None)

    @pytest.mark.parametrize("name", ["attempt", "connect", "head", "read"])
    @pytest.mark.parametrize(
        ("value", "error"),
        [
            (0, ValueError),
            (-1, ValueError),
            (float("nan"), ValueError),
            (float("inf"), ValueError),
            (True, TypeError),
            ("5", TypeError),
        ],
    )
    def test_invalid_seconds_are_refused_by_name(
        self, name: str, value: object, error: type[Exception]
    ) -> None:
        with pytest.raises(error, match=f"^{name} must be"):
            Timeout(**{"attempt": 30.0, name: value})  # type: ignore[arg-type]

    def test_a_total_is_needed(self) -> None:
        with pytest.raises(TypeError, match="attempt"):
            Timeout(None)  # type: ignore[arg-type]

    def test_a_timeout_cannot_be_changed(self) -> None:
        timeout = Timeout(30, connect=5)
        with pytest.raises(AttributeError, match="make another with connect="):
            timeout.connect = 6
        with pytest.raises(AttributeError, match="cannot be changed"):
            del timeout.connect
        with pytest.raises(AttributeError, match="cannot be changed"):
            timeout.other = 6  # type: ignore[attr-defined]
        assert timeout.connect == 5

    def test_its_repr_makes_it_again(self) -> None:
        for timeout in (Timeout(30), Timeout(30, connect=5), Timeout(1, head=0.5, read=2)):
            assert phases(eval(repr(timeout))) == phases(timeout)
        assert repr(Timeout(30, connect=5)) == "Timeout(30.0, connect=5.0)"

    def test_copies_keep_the_phases(self) -> None:
        timeout = Timeout(30, connect=1, head=2, read=3)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert phases(pickle.loads(pickle.dumps(timeout, protocol))) == phases(timeout)
        assert phases(copy.copy(timeout)) == phases(copy.deepcopy(timeout)) == phases(timeout)


class TestAnotherTotal:
    def test_a_number_has_no_phases(self) -> None:
        assert type(with_attempt(30.0, 5.0)) is float

    def test_phases_are_kept(self) -> None:
        timeout = with_attempt(Timeout(30, connect=1, head=2, read=3), 60)
        assert phases(timeout) == (60.0, 1.0, 2.0, 3.0)

    def test_a_longer_minimum_of_an_endpoint(self) -> None:
        options = ClientOptions("k", timeout=Timeout(30, connect=5))
        assert phases(options.timeout_for(130.0)) == (130.0, 5.0, None, None)
        assert options.timeout_for(10.0) is options.timeout
        assert type(ClientOptions("k").timeout_for(130.0)) is float

    def test_a_call_with_a_deadline(self) -> None:
        call = Call("GET", "/x", repeatable=True)
        options = ClientOptions("k", timeout=Timeout(30, connect=5))
        for deadline, total in ((math.inf, 30.0), (100.0, 30.0), (3.0, 3.0)):
            machine = CallMachine(call, Context(options), "t", deadline=deadline)
            action = machine.start(0.0, 0.5)
            assert isinstance(action, Send)
            assert phases(action.timeout) == (total, 5.0, None, None)
