"""The small parts of the model by themselves, and what importing the kit loads."""

from __future__ import annotations

import subprocess
import sys
import typing

import pytest

import flowmaestro.testing
from flowmaestro.testing.model.agents import tokens
from flowmaestro.testing.model.knowledge import KnowledgeBase, LexicalIndex
from flowmaestro.testing.model.replies import Answer, Later
from flowmaestro.testing.model.timeline import Timeline


def test_steps_run_in_order_each_at_its_own_time():
    timeline = Timeline(epoch=1000.0)
    seen = []
    timeline.schedule(2.0, lambda: seen.append(("b", timeline.now)))
    timeline.schedule(1.0, lambda: timeline.schedule(0.5, lambda: seen.append(("a", timeline.now))))
    timeline.schedule(2.0, lambda: seen.append(("c", timeline.now)))
    assert timeline.next_time() is None, "the world has not begun"
    timeline.observe(40.0)
    timeline.advance(45.0)
    timeline.begin(50.0)
    assert (timeline.next_time(), timeline.wall()) == (51.0, 1010.0)
    timeline.advance(60.0)
    assert seen == [("a", 1.5), ("b", 2.0), ("c", 2.0)]
    timeline.advance(55.0)
    assert (timeline.now, timeline.driver_now()) == (10.0, 60.0), "never backwards"
    assert timeline.http_date() == "Thu, 01 Jan 1970 00:17:00 GMT"
    assert timeline.iso(0.0015) == "1970-01-01T00:16:50.001Z"


@pytest.mark.parametrize("start", [0.0, 0.1, 1e-9, 12345.678, 9.9e6])
def test_a_driver_that_sleeps_until_the_very_time_always_gets_on(start):
    timeline = Timeline(0.0)
    timeline.begin(start)
    for number in range(1, 200):
        timeline.schedule(number * 0.1 + 1 / number, lambda: None)
    while timeline.next_time() is not None:
        upcoming = timeline.next_time()
        timeline.advance(upcoming)
        assert timeline.next_time() != upcoming


def test_the_first_answer_wins():
    later, heard = Later(), []
    later.resolve(Answer(200))
    later.resolve(Answer(500))
    later.then(heard.append)
    assert heard == [Answer(200)]


@pytest.mark.parametrize("text", ["", " ", "one", " a  b\n c ", "naïve café 🚲 ok"])
def test_tokens_are_the_text(text):
    assert "".join(tokens(text)) == text


def test_a_search_prefers_what_is_rare_and_short():
    texts = ["the cat sat", "the cat and the dog sat and sat and sat", "nothing here"]
    scores = LexicalIndex(texts).scores("cats")
    assert scores[0] > scores[1] > scores[2] == 0.0
    assert LexicalIndex([]).scores("cats") == []
    base = KnowledgeBase("kb", "Base", "", 0.0)
    base.add_document("d", "d.md", "\n\n".join(texts))
    assert [hit.chunk.id for hit in base.search("cat", 1)] == ["d_chunk_0"]
    assert base.search("", 5) == base.search("zebra", 5) == []


def test_public_names_exist_and_their_annotations_resolve():
    for name in flowmaestro.testing.__all__:
        value = getattr(flowmaestro.testing, name)
        if isinstance(value, type):
            for attribute in vars(value).values():
                function = getattr(attribute, "fget", attribute)
                if callable(function) and hasattr(function, "__annotations__"):
                    typing.get_type_hints(function)
        elif callable(value) and hasattr(value, "__annotations__"):
            typing.get_type_hints(value)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        flowmaestro.testing.nothing  # noqa: B018


def test_the_kit_loads_no_event_loop():
    code = (
        "import sys, flowmaestro.testing as kit; kit.FakeFlowMaestro();"
        "print([name for name in ('anyio', 'h11', 'asyncio', 'socket', 'ssl', 'requests',"
        " 'aiohttp', 'trio') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
