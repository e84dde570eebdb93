"""A missing key or attribute of a reply or an ended execution says what to write instead."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from flowmaestro_core.executions.outcome import EndedExecution, RunOutcome
from flowmaestro_core.payloads.hints import HintingDict, MissingKeyError
from flowmaestro_core.payloads.reply import Reply

EXECUTION = {
    "id": "exec_1",
    "workflow_id": "wf_1",
    "status": "completed",
    "inputs": {"name": "Ada"},
    "outputs": {"greeting": "Hello"},
    "error": None,
}
ENDED: Any = EndedExecution(EXECUTION)
FOUND: Any = Reply(data={"name": "Hello"}, meta={"request_id": "r"})
LISTED: Any = Reply(data=[{"name": "Hello"}], pagination={})
INNER_KEYS = 'its keys are "data", "meta"'


@pytest.mark.parametrize(
    ("found", "key", "hint"),
    [
        (FOUND, "name", 'use reply["data"]["name"]'),
        (FOUND, "nam", INNER_KEYS),
        (LISTED, "name", 'reply["data"] is a list; use reply["data"][0]["name"]'),
        (LISTED, "nam", 'its keys are "data", "pagination"'),
        (Reply(data=[]), "name", 'its keys are "data"'),
        (Reply(data=None), "name", 'its keys are "data"'),
        (Reply(data=["name"]), "name", 'its keys are "data"'),
        (Reply(), "name", "its keys are none"),
        (ENDED, "greeting", 'use execution["outputs"]["greeting"]'),
        (ENDED, "name", 'use execution["inputs"]["name"]'),
        (HintingDict.fromkeys(map(str, range(20))), "x", '"11", ...'),
    ],
)
def test_missing_key_and_attribute_hint_at_the_right_one(found: Any, key: str, hint: str) -> None:
    with pytest.raises(KeyError) as of_key:
        found[key]
    assert of_key.value.args == (key,)
    assert str(of_key.value).startswith(f"{key!r}; ")
    with pytest.raises(AttributeError) as of_attribute:
        getattr(found, key)
    assert f"{type(found).__name__!r} object has no attribute {key!r}; " in str(of_attribute.value)
    for error in (of_key.value, of_attribute.value):
        assert str(error).endswith(hint)


def test_attribute_that_is_a_key_hints_at_the_key() -> None:
    with pytest.raises(AttributeError, match=r'; use reply\["data"\]$'):
        FOUND.data  # noqa: B018
    with pytest.raises(AttributeError, match=r'; use execution\["workflow_id"\]$'):
        ENDED.workflow_id  # noqa: B018


def test_a_hint_escapes_and_shortens_keys_of_the_server() -> None:
    hostile = Reply({"\x1b[2J\n" + "x" * 500: 1})
    with pytest.raises(KeyError) as caught:
        hostile["data"]
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_a_hint_shows_no_values() -> None:
    with pytest.raises(KeyError) as caught:
        Reply(data={"api_key": "s3cr3t"})["other"]
    assert "s3cr3t" not in str(caught.value) + repr(caught.value)


def test_a_key_that_is_no_text_is_missing_too() -> None:
    with pytest.raises(KeyError, match=r"^0; its keys are"):
        FOUND[0]


def test_a_missing_key_error_keeps_its_hint_when_copied() -> None:
    with pytest.raises(MissingKeyError) as caught:
        FOUND["name"]
    for copied in (copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):
        assert str(copied) == str(caught.value)
    assert str(MissingKeyError("a")) == "'a'"


@pytest.mark.parametrize("made", [FOUND, ENDED])
def test_hints_leave_the_dict_as_it_is(made: Any) -> None:
    for copied in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert type(copied) is type(made)
        assert copied == made
    assert json.loads(json.dumps(made)) == made
    assert made.get("name") is None
    assert "name" not in made
    assert not hasattr(made, "_ipython_canary_method_should_not_exist_")
    assert getattr(made, "name", "absent") == "absent"
    with pytest.raises(KeyError, match="; use "):
        ("{greeting}" if made is ENDED else "{name}").format_map(made)


def test_special_methods_are_missing_without_a_hint() -> None:
    with pytest.raises(AttributeError, match=r"^__deepcopy__$"):
        FOUND.__deepcopy__  # noqa: B018


def test_an_ended_execution_has_attributes() -> None:
    assert (ENDED.id, ENDED.status, ENDED.error) == ("exec_1", "completed", None)
    assert ENDED.outputs == {"greeting": "Hello"}
    failed = EndedExecution({**EXECUTION, "status": "failed", "outputs": None, "error": "no"})
    assert (failed.status, failed.outputs, failed.error) == ("failed", None, "no")


def test_an_outcome_has_the_status_of_its_execution() -> None:
    assert RunOutcome(0).status is None
    assert RunOutcome(0, execution=ENDED).status == "completed"
    assert RunOutcome(0, execution=ENDED).result().outputs == {"greeting": "Hello"}
