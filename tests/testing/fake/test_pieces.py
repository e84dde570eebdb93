"""The small parts of the model by themselves, and what importing the kit loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

import flowmaestro.testing
from flowmaestro.testing.fake.model.agents import tokens
from flowmaestro.testing.fake.model.knowledge import KnowledgeBase, similarity
from flowmaestro.testing.fake.model.model_time import ModelTime


def test_steps_run_in_order_each_at_its_own_time():
    model_time = ModelTime(epoch=1000.0)
    seen = []
    model_time.schedule(0.0, lambda: seen.append(("begun", model_time.now)))
    model_time.advance(5.0)
    assert (model_time.next_time(), seen) == (None, []), "the world has not begun"
    model_time.begin(10.0)
    model_time.schedule(2.0, lambda: seen.append(("b", model_time.now)))
    model_time.schedule(
        1.0, lambda: model_time.schedule(0.5, lambda: seen.append(("a", model_time.now)))
    )
    model_time.schedule(2.0, lambda: seen.append(("c", model_time.now)))
    assert (model_time.next_time(), model_time.wall()) == (11.0, 1010.0)
    model_time.advance(20.0)
    assert seen == [("begun", 10.0), ("a", 11.5), ("b", 12.0), ("c", 12.0)]
    model_time.advance(15.0)
    assert model_time.now == 20.0, "never backwards"
    assert model_time.http_date() == "Thu, 01 Jan 1970 00:17:00 GMT"
    assert model_time.iso(10.0015) == "1970-01-01T00:16:50.001Z"


@pytest.mark.parametrize("text", ["", " ", "one", " a  b\n c ", "naïve café 🚲 ok"])
def test_tokens_are_the_text(text):
    assert "".join(tokens(text)) == text


def test_a_search_prefers_what_is_short():
    texts = ["the cat sat", "the cat and the dog sat down", "nothing here"]
    scores = [similarity({"cat"}, text) for text in texts]
    assert 1 > scores[0] > scores[1] > scores[2] == 0.0
    base = KnowledgeBase("kb", "Base", "", 0.0)
    base.add_document("d", "d.md", "\n\n".join(texts))
    assert [hit.chunk.id for hit in base.search("cat", 1)] == ["d_chunk_0"]
    assert base.search("", 5) == base.search("zebra", 5) == []


@pytest.mark.parametrize(
    "between", ["\n\n", "\r\n\r\n", "\n \t\n", "\n\n\n", "\n \n \n\n", " \n\n "]
)
def test_blank_lines_separate_paragraphs_whatever_the_white_space_in_them(between):
    base = KnowledgeBase("kb", "Base", "", 0.0)
    base.add_document("d", "d.md", f"{between}one\r\nmore{between}two{between}")
    assert [chunk.content for chunk in base.chunks] == ["one\r\nmore", "two"]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        flowmaestro.testing.nothing  # noqa: B018


def test_the_kit_loads_no_event_loop():
    code = (
        "import sys, flowmaestro.testing as kit; kit.FakeFlowMaestro();"
        "print([name for name in ('anyio', 'h11', 'asyncio', 'socket', 'ssl', 'requests',"
        " 'aiohttp', 'trio', 'pytest', 'trustme') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
