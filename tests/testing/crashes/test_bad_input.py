"""What cannot be explored is refused, with what to write instead."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from flowmaestro.testing import Effect, every_crash
from tests.harness.crashes.stores import JsonStore


def starts(client: Any) -> Any:
    return client.workflows.execute("wf_123")["data"]["status"]


def iterates(client: Any) -> Any:
    yield from client.workflows.iterate()


async def iterates_async(client: Any) -> Any:
    async for it in client.workflows.iterate():
        yield it


class Iterating:
    def __call__(self, client: Any) -> Any:
        yield client


SHARED = {"a": 1}


@pytest.mark.parametrize(
    ("task", "options", "text"),
    [
        ("starts", {}, "the task must be a function, not 'starts'"),
        (iterates, {}, r"generator.* such as one that returns list\(iterates\(\.\.\.\)\)"),
        (iterates_async, {}, "iterates_async is a generator"),
        (functools.partial(iterates), {}, "iterates is a generator"),
        (Iterating(), {}, "is a generator"),
        (starts, {"store": {}}, r"not a dict: write store=lambda: dict\(\.\.\.\)"),
        (starts, {"effects": ["billing.lost"]}, "there is no 'billing.lost'; write 'module.func"),
        (starts, {"effects": "post"}, r"must be a list, not 'post': write effects=\['post'\]"),
        (starts, {"effects": [7]}, "must be a function, a context manager, or the name"),
        (starts, {"effects": [lambda: 0]}, r"cannot reach <lambda>.* effects=\['module\.function'"),
        (starts, {"deaths": 0}, "without a death, nothing is tried; call the task itself"),
        (starts, {"deaths": True}, "deaths must be at least 1, not True"),
        (starts, {"processes": 3}, "processes must be 1 or 2, not 3"),
        (starts, {"faults": ["disk"]}, "a fault must be one of network, list, not 'disk'"),
        (starts, {"budget": 1.5}, r"write budget=500 or budget=timedelta\(seconds=30\)"),
        (starts, {"backend": "curio"}, "backend must be one of asyncio, trio"),
        (starts, {"rows": 0}, "rows must be at least 1"),
        (starts, {"seed": 7}, "seed must be a plain function"),
        (lambda order: order, {}, "needs a value for 'order': pass it in args= or kwargs="),
        (lambda store: store, {}, "needs a value for 'store': pass it in store="),
        (lambda: None, {}, "the task made no request to the fake, so nothing was tried"),
        (lambda store: store, {"store": lambda: SHARED}, "made no request"),
        (
            lambda client, store: starts(client),
            {"store": lambda: SHARED},
            r"returned the same dict for two runs.* store=lambda: dict\(\.\.\.\)",
        ),
        (eval("lambda client: client"), {"lines": True}, "lines=True needs a task in a file"),
    ],
)
def test_it_says_what_to_write_instead(task: Any, options: Any, text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        every_crash(task, **options)


def test_a_lambda_without_a_file_is_explored() -> None:
    task = eval("lambda client: client.workflows.run('wf_123')['outputs']")
    report = every_crash(task, deaths=1)
    assert "2 executions for one row" in str(report.findings[0])
    assert report.findings[0].place.startswith("<string>:1 in <lambda>")


def test_a_store_in_a_folder_that_runs_share_is_reported(tmp_path: Any) -> None:
    def task(client: Any, store: Any) -> Any:
        if store.get("begun") is None:
            store.put("begun", True)
            return client.workflows.execute("wf_123")["data"]["status"]
        return client.workflows.list()["data"]

    report = every_crash(task, store=lambda: JsonStore(tmp_path))
    assert "make it anew for each: store=lambda folder: ..." in report.difference
    with pytest.raises(AssertionError, match="not deterministic"):
        report.check()


def test_an_effect_of_an_object_with_slots_must_be_named() -> None:
    class Crm:
        __slots__ = ()

        def post(self) -> None:
            pass

    crm = Crm()
    with pytest.raises(ValueError, match=r"post cannot be replaced in .*'module\.Crm\.post'"):
        every_crash(lambda client: crm.post(), effects=[Effect(crm.post)])
