"""A dict that keeps its secret back from whoever prints it, and from nobody else."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from flowmaestro_core.calls.call import Call
from flowmaestro_core.resources.webhooks import Webhooks
from flowmaestro_core.webhooks import SecretDict

PLAIN = {"id": "wh_1", "secret": "whsec_1"}


def test_in_all_else_it_is_the_plain_dict() -> None:
    guarded = SecretDict(PLAIN)
    assert guarded == PLAIN
    assert guarded["secret"] == "whsec_1"
    assert json.loads(json.dumps(guarded)) == PLAIN
    assert pickle.loads(pickle.dumps(guarded)) == PLAIN
    assert repr(SecretDict({"url": None, "headers": ["h"], "secret": None, "n": 1})) == (
        "{'url': None, 'headers': ['h'], 'secret': None, 'n': 1}"
    )


def test_repr_hides_url_and_header_secrets() -> None:
    guarded = SecretDict(
        url="https://user:s3cr3t@hooks.test/in?token=s3cr3t",
        headers={"Authorization": "Bearer s3cr3t", "X-Plain": "seen"},
        secret="s3cr3t",
    )
    for shown in (repr(guarded), str(guarded), f"{guarded}", repr({"data": guarded.copy()})):
        assert "s3cr3t" not in shown
        assert "https://hooks.test/in?token=***" in shown
        assert "'X-Plain': 'seen'" in shown
    assert guarded["headers"]["Authorization"] == "Bearer s3cr3t"


@pytest.mark.parametrize("data", [{**PLAIN}, None, []])
def test_a_new_webhook_keeps_its_secret_back(data: Any) -> None:
    body = {"data": data}
    shape = Webhooks.create("n", "https://h", []).shape
    assert shape is not None
    shape(body)
    assert "whsec_1" not in repr(body)


ANY = {**PLAIN, "headers": {"X-Token": "whsec_1"}}


@pytest.mark.parametrize(
    ("call", "data"),
    [
        (Webhooks.get("wh_1"), ANY),
        (Webhooks.update("wh_1", name="n"), ANY),
        (Webhooks.list(), [ANY, None, ANY]),
    ],
    ids=["get", "update", "list"],
)
def test_repr_hides_secret_that_server_repeats(call: Call[Any], data: Any) -> None:
    body = {"data": data}
    assert call.shape is not None
    call.shape(body)
    assert "whsec_1" not in repr(body)
    assert json.loads(json.dumps(body))["data"] == body["data"]


def test_a_call_does_not_show_its_body() -> None:
    call = Webhooks.create("n", "https://h", [], headers={"Authorization": "Bearer s3cr3t"})
    assert "s3cr3t" in call.body.decode()
    assert "s3cr3t" not in repr(call)
