"""States that a store returned: what is read of them, and how garbage is named."""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any, Dict, List

import pytest

from flowmaestro_core.errors import JournalError
from flowmaestro_core.executions.saved_states import (
    BatchIdentity,
    read_header,
    read_known,
    read_rows,
)
from flowmaestro_core.store import HEADER_KEY, Loaded
from tests.harness.stores.states import a_header, a_state

IDENTITY = BatchIdentity("https://api.test", "wf_1", False)


def refused(states: List[Any], keys: Any = ("1",), *, outcomes: bool = True) -> str:
    with pytest.raises(JournalError) as caught:
        read_rows(Loaded(tuple(states)), keys, outcomes=outcomes)
    assert caught.value.code == "journal_unusable"
    assert str(caught.value).startswith(
        "[journal_unusable] The journal cannot be used: the store returned "
    )
    return str(caught.value)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ([None], "a NoneType in place of a state"),
        (["{}"], "a str in place of a state"),
        ([{"key": "alien"}], "a state with another key than it was asked for"),
        ([{"key": ["1"]}], "a state with another key than it was asked for"),
        ([a_state("1", "open")] * 2, "a state with another key than it was asked for"),
        ([{"key": "1"}], 'a state without a version "v"'),
        ([a_state("1", "open", v=2)], "a state of version 2, and this SDK reads 1: update it"),
    ],
)
def test_what_is_not_a_state_of_these_keys_is_refused(states: List[Any], said: str) -> None:
    assert said in refused(states)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("state", "lost"),
        ("digest", None),
        ("number", -1),
        ("number", 10**400),
        ("reruns", True),
        ("refusal", 5),
        ("execution_id", None),
        ("execution_id", ".."),
        ("outcome", {"id": "x"}),
        ("outcome", "completed"),
    ],
)
def test_malformed_row_is_refused(name: str, value: Any) -> None:
    assert repr(name) in refused([{**a_state("1", "ended"), name: value}])


def ended(key: str, **more: Any) -> Dict[str, Any]:
    outcome = {"id": "ex_1", "status": "completed", "outputs": {}, "error": None}
    return a_state(key, "ended", outcome=outcome, **more)


def test_outcome_may_be_left_out_but_not_of_all_rows() -> None:
    first, second = ended("1"), ended("2")
    del second["outcome"]
    rows = read_rows(Loaded((first, second)), ("1", "2"), outcomes=True)
    assert (rows["1"].outcome, rows["2"].outcome) == (first["outcome"], None)
    assert "no 'outcome' of the rows that have ended" in refused([second], ("2",))
    assert read_rows(Loaded((first,)), ("1",), outcomes=False)["1"].outcome is None


def test_row_is_read_as_it_was_saved() -> None:
    for state in ("open", "starting", "started"):
        made = a_state("1", state, reruns=2, refusal="ab" * 16)
        assert read_rows(Loaded((made,)), ("1",), outcomes=True)["1"].as_dict() == made
    assert read_rows(Loaded((ended("1"),)), ("1",), outcomes=True)["1"].as_dict() == ended("1")


@pytest.mark.parametrize(
    ("name", "value"),
    [("serial", 0), ("token", "a\r\nX: 1"), ("rows", None), ("at", "now"), ("keyed", 1)],
)
def test_malformed_header_is_refused(name: str, value: Any) -> None:
    with pytest.raises(JournalError) as caught:
        read_header(Loaded(({**a_header(1), name: value},)), IDENTITY)
    assert f"a header whose {name!r} is missing or malformed" in str(caught.value)


class Text(str):
    """As `numpy.str_` and SQLAlchemy's `quoted_name` are."""


class Float(float):
    """As `numpy.float64` is."""


def test_values_may_be_of_a_subclass_of_a_json_type() -> None:
    kinds: Dict[type, type] = {str: Text, float: Float, int: IntEnum("Number", {"ONE": 1})}  # type: ignore[misc]

    def of_subclasses(state: Dict[str, Any]) -> Dict[str, Any]:
        return {name: kinds.get(type(value), type(value))(value) for name, value in state.items()}

    header = a_header(1, rows=1, last_number=1, at=5.5, after="ex_0")
    read = read_header(Loaded((of_subclasses(header),)), IDENTITY)
    assert read is not None
    assert json.loads(json.dumps(read.as_dict(IDENTITY))) == header
    state = a_state("1", "started", reruns=1)
    row = read_rows(Loaded((of_subclasses(state),)), ("1",), outcomes=True)["1"]
    assert json.loads(json.dumps(row.as_dict())) == state


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("workflow_id", "wf_2", "its workflow id: wf_2, not wf_1"),
        ("api_root", "https://x.test", "its api root: https://x.test, not https://api.test"),
        ("keyed", True, "its rows: known by a key, not known by their index"),
    ],
)
def test_header_of_another_batch_is_refused(name: str, value: Any, said: str) -> None:
    with pytest.raises(JournalError) as caught:
        read_header(Loaded((a_header(1, **{name: value}),)), IDENTITY)
    assert caught.value.code == "journal_mismatch"
    assert said in str(caught.value)


def test_header_is_read_as_it_was_saved() -> None:
    header = read_header(Loaded((a_header(3, after="ex_0"),)), IDENTITY)
    assert header is not None
    assert header.as_dict(IDENTITY) == a_header(3, after="ex_0")
    assert read_header(Loaded(), IDENTITY) is None
    with pytest.raises(JournalError):
        read_header(Loaded((a_state("1", "open"),)), IDENTITY)
    assert HEADER_KEY == "flowmaestro:header", "it is the key in every store"


@pytest.mark.parametrize("known", [{"nobody": 1}, {"ex": "1"}, {"ex": -1}])
def test_garbage_of_known_is_refused(known: Any) -> None:
    with pytest.raises(JournalError, match="what is not an execution id that it was asked for"):
        read_known(Loaded(known=known), ("ex",))
