"""A dict that keeps its secret back from whoever prints it, and from nobody else."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from flowmaestro_core.resources.webhooks import Webhooks
from flowmaestro_core.with_secret import WithSecret

PLAIN = {"id": "wh_1", "secret": "whsec_1"}


def test_printing_does_not_show_the_secret() -> None:
    guarded = WithSecret(PLAIN)
    for shown in (repr(guarded), str(guarded), f"{guarded}", "%s" % {"data": guarded}):  # noqa: UP031
        assert "whsec_1" not in shown
        assert "wh_1" in shown


def test_in_all_else_it_is_the_plain_dict() -> None:
    guarded = WithSecret(PLAIN)
    assert guarded == PLAIN
    assert guarded["secret"] == "whsec_1"
    assert json.loads(json.dumps(guarded)) == PLAIN
    assert pickle.loads(pickle.dumps(guarded)) == PLAIN


@pytest.mark.parametrize("data", [{**PLAIN}, None, []])
def test_a_new_webhook_keeps_its_secret_back(data: Any) -> None:
    body = {"data": data}
    shape = Webhooks.create("n", "https://h", []).shape
    assert shape is not None
    shape(body)
    assert "whsec_1" not in repr(body)


def test_a_call_does_not_show_its_body() -> None:
    call = Webhooks.create("n", "https://h", [], headers={"Authorization": "Bearer s3cr3t"})
    assert "s3cr3t" in call.body.decode()
    assert "s3cr3t" not in repr(call)
