"""The types of one reply agree with each other.

That they have all that the server sends is in `tests/testing/fake/model/test_api_replies.py`.
"""

from __future__ import annotations

import typing

from flowmaestro_core import types


def test_all_executions_have_the_same_keys() -> None:
    kinds = typing.get_args(types.Execution)
    assert {kind.__required_keys__ for kind in kinds} == {frozenset(kinds[0].__annotations__)}
    said = [typing.get_args(typing.get_type_hints(kind)["status"]) for kind in kinds]
    assert sorted(sum(said, ())) == sorted(typing.get_args(types.ExecutionStatus))
