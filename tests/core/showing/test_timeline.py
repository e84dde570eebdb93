"""A run's timeline as SVG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro_core.showing.timeline import MOST_ROWS, NO_NODE_EVENTS, NOT_FOLLOWED, timeline_svg

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    root = ElementTree.fromstring(svg)
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def bars(svg):
    """Class, left and width of each bar."""
    root = ElementTree.fromstring(svg)
    found = [rect for rect in root.iter(f"{SVG}rect") if rect.get("class") != "page"]
    return [(rect.get("class"), float(rect.get("x")), float(rect.get("width"))) for rect in found]


def node(what, number, at, **more):
    return {"type": f"node:{what}", "node_id": number, "timestamp": at, **more}


def test_each_node_is_a_bar_on_one_axis():
    events = [
        node("started", 1, 0, node_name="First"),
        node("completed", 1, "1970-01-01T00:00:01Z"),
        node("failed", 2, 4000, node_name="Second", duration_ms=3000),
    ]
    svg = timeline_svg(events)
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
        {"type": "node:stream", "node_id": "a", "timestamp": 1600},
        {"type": "stream:reconnected", "attempt": 1},
        {"type": "node:completed", "node_id": "a", "node_name": "Fetch", "timestamp": 2000},
    ]
    svg = timeline_svg(events)
    assert len(re.findall('<line class="retry"', svg)) == 1
    assert len(re.findall('<line class="lost"', svg)) == 1
    assert "total 1.00 s, stream lost and resumed 1 x" in texts(svg)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([{"type": "connected", "status": "pending"}], f"total 90.0 s, {NO_NODE_EVENTS}"),
        ([{"type": "connected", "status": "running"}], f"total 90.0 s, {NO_NODE_EVENTS}"),
        ([{"type": "execution:started"}], f"total 90.0 s, {NO_NODE_EVENTS}"),
        ([{"type": "connected", "status": "completed"}], f"total 90.0 s, {NOT_FOLLOWED}"),
        ([{"type": "connected"}], f"total 90.0 s, {NOT_FOLLOWED}"),
        ([], f"total 90.0 s, {NOT_FOLLOWED}"),
        ([{"type": "node:started"}], "total 90.0 s"),
        (None, "total 90.0 s"),
    ],
)
def test_without_node_events_the_execution_is_one_bar(events, said):
    times = {"started_at": "2026-01-01T00:00:00Z", "completed_at": "2026-01-01T00:01:30.0Z"}
    svg = timeline_svg(events, execution={**times, "status": "completed"})
    assert [kind for kind, _, _ in bars(svg)] == ["completed"]
    assert texts(svg)[-1] == said.replace("90.0 s", "1.5 min")


def test_what_nobody_knows_the_times_of_is_a_bar_too():
    for execution in (None, {}, {"started_at": "soon", "completed_at": 10**30, "status": []}):
        assert [kind for kind, _, _ in bars(timeline_svg(None, execution=execution))] == ["running"]


@pytest.mark.parametrize(
    ("events", "status", "kinds", "said"),
    [
        ([("execution:cancelled", 3000)], None, ["completed", "cancelled"], "3.00 s, cancelled"),
        ([("execution:failed", 3000)], None, ["completed", "failed"], "3.00 s, failed"),
        ([("execution:completed", 3000)], None, ["completed", "completed"], "3.00 s"),
        ([("execution:failed", None)], "x", ["completed", "failed"], "1.00 s, failed"),
        ([], "cancelled", ["completed", "cancelled"], "1.00 s, cancelled"),
        ([], "running", ["completed", "running"], "1.00 s"),
    ],
)
def test_what_ran_when_the_execution_ended_does_not_go_on(events, status, kinds, said):
    svg = timeline_svg(
        [
            node("started", "a", 0),
            node("completed", "a", 1000),
            node("started", "b", 1000),
            *({"type": kind, "timestamp": at} for kind, at in events),
        ],
        execution={"status": status},
    )
    assert [kind for kind, _, _ in bars(svg)] == kinds
    assert texts(svg)[-1] == f"total {said}"


def test_a_node_that_another_one_failed_beside_was_stopped():
    events = [
        node("started", "a", 0),
        node("started", "b", 0),
        node("failed", "a", 1000),
        {"type": "execution:failed", "timestamp": 2000},
    ]
    svg = timeline_svg(events)
    assert [kind for kind, _, _ in bars(svg)] == ["failed", "cancelled"]
    assert texts(svg)[-1] == "total 2.00 s, failed"


def test_an_execution_that_failed_before_any_node_did_not_go_on():
    events = [
        {"type": "execution:started", "timestamp": 1000},
        {"type": "execution:failed", "timestamp": 3000},
    ]
    svg = timeline_svg(events)
    assert [kind for kind, _, _ in bars(svg)] == ["failed"]
    assert texts(svg)[-1] == f"total 2.00 s, failed, {NO_NODE_EVENTS}"


def test_a_node_that_began_before_the_first_event_is_drawn_whole():
    svg = timeline_svg([node("completed", "a", 5000, duration_ms=4000), node("started", "b", 5000)])
    assert texts(svg)[-1] == "total 4.00 s"
    assert bars(svg)[0] == ("completed", 216, 520)


def test_a_clock_that_goes_back_makes_no_time_negative():
    svg = timeline_svg([node("started", "a", 5000), node("completed", "a", 1000)])
    assert "0.00 s" in texts(svg)
    assert not any("-" in text for text in texts(svg))


def test_a_total_that_nobody_knows_is_not_said():
    gone = {"status": "cancelled", "started_at": "2026-01-01T00:00:00Z", "completed_at": None}
    assert texts(timeline_svg([], execution=gone))[-1] == f"cancelled, {NOT_FOLLOWED}"


def test_what_runs_is_drawn_until_now():
    svg = timeline_svg([node("started", "a", 1000)], now=3.5)
    assert bars(svg) == [("running", 216, 520)]
    assert "2.50 s" in texts(svg)
    assert texts(svg)[-1] == "total 2.50 s"
    started = {"status": "running", "started_at": 1000}
    assert texts(timeline_svg([], execution=started, now=3.5))[-1] == "total 2.50 s"
    assert texts(timeline_svg([], execution={"status": "running"}, now=3.5))[-1] == "total 0.00 s"
    ended = [node("started", "a", 1000), {"type": "execution:completed", "timestamp": 2000}]
    assert texts(timeline_svg(ended, now=3.5))[-1] == "total 1.00 s"


def test_what_has_not_begun_has_no_axis():
    waiting = {"status": "pending", "created_at": 1000, "started_at": None}
    assert texts(timeline_svg(None, execution=waiting, now=3.5)) == [
        "execution",
        "0.00 s",
        "total 0.00 s",
    ]


@pytest.mark.parametrize("events", [[1], 7, "ab", {"type": "connected"}, [{}, None]])
def test_events_are_mappings(events):
    with pytest.raises(TypeError, match=r"^events must "):
        timeline_svg(events)


def test_as_long_as_it_runs_node_events_may_still_come():
    assert texts(timeline_svg([], execution={"status": "running"}))[-1] == "total 0.00 s"


def test_an_event_without_a_time_stands_where_the_one_before_it_does():
    untimed = {"type": "node:completed", "node_id": "a"}
    svg = timeline_svg([untimed, node("started", "a", 1000), untimed, node("started", "a", 2000)])
    assert [kind for kind, _, _ in bars(svg)] == ["completed", "running"]


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
                "duration_ms": st.integers() | st.floats() | st.none(),
            }
        ),
        max_size=8,
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


def test_a_key_in_a_name_is_hidden():
    svg = timeline_svg([node("started", 1, 0.0, node_name="fm_live_0123456789")])
    assert "0123456789" not in svg
    assert "***" in svg
