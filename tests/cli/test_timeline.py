"""A run's timeline as SVG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport, Node
from flowmaestro.timeline import MOST_ROWS, NO_NODE_EVENTS, timeline_svg

SVG = "{http://www.w3.org/2000/svg}"


def run(fake, workflow_id):
    """The events of one execution, and the execution."""
    transport = MemoryTransport(fake)
    with FlowMaestroClient(fake.api_key, transport=transport) as client:
        execution_id = client.workflows.execute(workflow_id)["data"]["execution_id"]
        events = list(client.executions.stream(execution_id))
        return events, client.executions.get(execution_id)["data"]


def texts(svg):
    root = ElementTree.fromstring(svg)
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def bars(svg):
    """Class, left and width of each bar."""
    root = ElementTree.fromstring(svg)
    found = [rect for rect in root.iter(f"{SVG}rect") if rect.get("class") != "page"]
    return [(rect.get("class"), float(rect.get("x")), float(rect.get("width"))) for rect in found]


@pytest.mark.parametrize("shapes", ["deployed", "documented"])
def test_each_node_is_a_bar_on_one_axis(shapes):
    fake = FakeFlowMaestro(shapes)
    nodes = [Node("a", name="First", seconds=1), Node("b", name="Second", seconds=3, error="no")]
    fake.workflow("wf_two", nodes=nodes)
    svg = timeline_svg(run(fake, "wf_two")[0])
    (first, x1, width1), (second, x2, width2) = bars(svg)
    assert (first, second) == ("completed", "failed")
    assert x2 == pytest.approx(x1 + width1, abs=0.2)
    assert width2 == pytest.approx(3 * width1, rel=0.01)
    assert [text for text in texts(svg) if text in ("First", "Second", "1.00 s", "3.00 s")]
    assert any(text.startswith("total 4.00 s") for text in texts(svg))


def test_retries_and_lost_streams_are_marked():
    events = [
        {"type": "node:started", "node_id": "a", "timestamp": 1000},
        {"type": "node:retry", "node_id": "a", "timestamp": 1500},
        {"type": "stream:reconnected", "attempt": 1},
        {"type": "node:completed", "node_id": "a", "node_name": "Fetch", "timestamp": 2000},
    ]
    svg = timeline_svg(events)
    assert len(re.findall('<line class="retry"', svg)) == 1
    assert len(re.findall('<line class="lost"', svg)) == 1
    assert "total 1.00 s, stream lost and resumed 1 x" in texts(svg)


def test_a_server_without_node_events_gives_one_bar_and_says_so():
    fake = FakeFlowMaestro("deployed", "silent")
    events, execution = run(fake, "wf_123")
    svg = timeline_svg(events, execution=execution)
    assert [kind for kind, _, _ in bars(svg)] == ["completed"]
    assert texts(svg)[-1] == f"total 0.30 s, {NO_NODE_EVENTS}"


def test_a_run_of_many_nodes_says_how_many_are_left_out():
    events = [
        {"type": "node:started", "node_id": str(number), "timestamp": number}
        for number in range(MOST_ROWS + 5)
    ]
    svg = timeline_svg(events)
    assert len(bars(svg)) == MOST_ROWS
    assert texts(svg)[-1].endswith("and 5 more nodes")


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "type": st.sampled_from(["node:started", "node:failed", "node:retry", "x", "a:b"]),
                "node_id": st.text(max_size=40) | st.none(),
                "node_name": st.text(max_size=300) | st.none(),
                "timestamp": st.integers(0, 10**12) | st.text(max_size=5) | st.none(),
                "duration_ms": st.integers(0, 10**6) | st.none(),
            }
        )
    )
)
def test_whatever_comes_it_is_xml_and_stays_within_its_page(events):
    svg = timeline_svg(events)
    root = ElementTree.fromstring(svg)
    assert {element.tag for element in root.iter()} <= {
        SVG + tag for tag in ("svg", "style", "rect", "line", "text", "title")
    }
    for _, x, width in bars(svg):
        assert 216 <= x <= x + width <= 216 + 520 + 2.1


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "x" * 10_000, "😀" * 50, "\u202eabc"]
)
def test_hostile_names_are_harmless(name):
    svg = timeline_svg(
        [{"type": "node:started", "node_id": "a", "node_name": name, "timestamp": 1}]
    )
    assert "<script" not in svg
    assert "\u202e" not in svg
    assert len(svg) < 5000
