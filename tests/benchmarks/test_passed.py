"""The functions that a call passes are counted, and are no more than the page says."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Generator

import pytest

from benchmarks import report
from benchmarks.passed import Passed, awaiting, blocking
from benchmarks.runner import serving


@pytest.fixture(scope="module")
def url() -> Generator[str, None, None]:
    with serving() as started:
        yield started


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_call_passes_no_more_than_the_page_says(kind: str, url: str) -> None:
    page = " ".join(report.PAGE.read_text("utf-8").split())
    said = re.search(rf"{kind} call passes (\d+) functions of ours in (\d+) files", page)
    assert said is not None
    passed = blocking(url) if kind == "sync" else asyncio.run(awaiting(url))
    assert len(passed.functions) <= int(said[1])
    assert len(passed.files) <= int(said[2])


def test_two_counts_of_the_same_call_are_equal(url: str) -> None:
    first, second = blocking(url), blocking(url)
    assert first.functions == second.functions


def test_a_function_counts_each_time_and_a_resumed_generator_once(url: str) -> None:
    names = [code.co_name for code in blocking(url).functions]
    assert names.count("guarded") == 2, "each of the two events of a call"
    assert names.count("read_response") == 1, "although it waits"


def test_functions_of_others_do_not_count() -> None:
    passed = Passed()
    passed.begin()
    json.loads("[1]")
    passed.end()
    assert passed.functions == []
