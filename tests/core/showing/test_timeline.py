"""A run's timeline as SVG."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import example, given
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
    return [
        (rect.get("class").split()[0], float(rect.get("x")), float(rect.get("width")))
        for rect in found
    ]


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
    assert any(text.startswith("total ≥ 4.00 s") for text in texts(svg))


def test_retries_and_lost_streams_are_marked():
    events = [
        {"type": "node:started", "node_id": "a", "timestamp": 1000},
        {"type": "node:retry", "node_id": "a", "timestamp": 1500},
        {"type": "node:stream", "node_id": "a", "timestamp": 1600},
        {"type": "stream:reconnected", "attempt": 1},
        {"type": "node:completed", "node_id": "a", "node_name": "Fetch", "timestamp": 2000},
    ]
    svg = timeline_svg(events)
    in_the_picture_and_its_legend = 2
    assert len(re.findall('<line class="retry"', svg)) == in_the_picture_and_its_legend
    assert len(re.findall('<line class="lost"', svg)) == in_the_picture_and_its_legend
    assert texts(svg)[-3:] == [
        "retry",
        "stream lost and resumed",
        "total ≥ 1.00 s, running, stream lost and resumed 1 x",
    ]


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


def test_execution_without_times_has_a_bar():
    for execution in (None, {}, {"started_at": "soon", "completed_at": 10**30, "status": []}):
        assert [kind for kind, _, _ in bars(timeline_svg(None, execution=execution))] == ["running"]


@pytest.mark.parametrize(
    ("events", "status", "kinds", "said"),
    [
        ([("execution:cancelled", 3000)], None, ["completed", "cancelled"], "3.00 s, cancelled"),
        ([("execution:failed", 3000)], None, ["completed", "failed"], "3.00 s, failed"),
        ([("execution:completed", 3000)], None, ["completed", "completed"], "3.00 s"),
        ([("execution:failed", None)], "x", ["completed", "failed"], "1.00 s, failed"),
        ([], "cancelled", ["completed", "cancelled"], "≥ 1.00 s, cancelled"),
        ([], "running", ["completed", "running"], "≥ 1.00 s, running"),
    ],
)
def test_running_node_ends_with_its_execution(events, status, kinds, said):
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


def test_node_running_beside_a_failed_one_is_cancelled():
    events = [
        node("started", "a", 0),
        node("started", "b", 0),
        node("failed", "a", 1000),
        {"type": "execution:failed", "timestamp": 2000},
    ]
    svg = timeline_svg(events)
    assert [kind for kind, _, _ in bars(svg)] == ["failed", "cancelled"]
    assert texts(svg)[-1] == "total 2.00 s, failed"
    assert {"\N{BALLOT X} a", "\N{CIRCLED DIVISION SLASH} b"} <= set(texts(svg))


def test_a_node_that_began_before_the_first_event_is_drawn_whole():
    svg = timeline_svg([node("completed", "a", 5000, duration_ms=4000), node("started", "b", 5000)])
    assert texts(svg)[-1] == "total ≥ 4.00 s, running"
    assert bars(svg)[0] == ("completed", 216, 520)


def test_a_clock_that_goes_back_makes_no_time_negative():
    svg = timeline_svg([node("started", "a", 5000), node("completed", "a", 1000)])
    assert "0.00 s" in texts(svg)
    assert not any("-" in text for text in texts(svg))


def test_unknown_total_is_left_out():
    gone = {"status": "cancelled", "started_at": "2026-01-01T00:00:00Z", "completed_at": None}
    assert texts(timeline_svg([], execution=gone))[-1] == f"cancelled, {NOT_FOLLOWED}"


def test_running_node_is_drawn_until_now():
    svg = timeline_svg([node("started", "a", 1000)], now=3.5)
    assert bars(svg) == [("running", 216, 520)]
    assert "≥ 2.50 s" in texts(svg)
    assert texts(svg)[-1] == "total ≥ 2.50 s, running"
    started = {"status": "running", "started_at": 1000}
    assert texts(timeline_svg([], execution=started, now=3.5))[-1] == "total ≥ 2.50 s, running"
    assert texts(timeline_svg([], execution={"status": "running"}, now=3.5))[-1] == "running"
    ended = [node("started", "a", 1000), {"type": "execution:completed", "timestamp": 2000}]
    assert texts(timeline_svg(ended, now=3.5))[-1] == "total 1.00 s"


def test_pending_execution_has_no_axis():
    waiting = {"status": "pending", "created_at": 1000, "started_at": None}
    svg = timeline_svg(None, execution=waiting, now=3.5)
    assert texts(svg) == ["execution", "not started"]
    assert bars(svg) == []
    assert "Timeline of an execution: pending, not started" in svg


@pytest.mark.parametrize("events", [[1], 7, "ab", {"type": "connected"}, [{}, None]])
def test_events_that_are_not_mappings_are_refused(events):
    with pytest.raises(TypeError, match=r"^events must "):
        timeline_svg(events)


def test_running_execution_without_events_says_that_it_runs():
    assert texts(timeline_svg([], execution={"status": "running"}))[-1] == "running"


def test_event_without_a_time_has_that_of_the_previous_one():
    untimed = {"type": "node:completed", "node_id": "a"}
    svg = timeline_svg([untimed, node("started", "a", 1000), untimed, node("started", "a", 2000)])
    assert [kind for kind, _, _ in bars(svg)] == ["completed", "running"]


def many(names, failed=(), seconds=0.01):
    """The events of a run whose nodes, by their names, run one after another."""
    events = []
    for number, name in enumerate(names):
        about = {"node_id": str(number), "node_name": name}
        at = 1000 * seconds * number
        what = "failed" if number in failed else "completed"
        events.append({"type": "node:started", "timestamp": at, **about})
        events.append({"type": f"node:{what}", "timestamp": at + 1000 * seconds, **about})
    return events


def labels(svg):
    """The labels of the rows."""
    root = ElementTree.fromstring(svg)
    return [it.text for it in root.iter(f"{SVG}text") if it.get("x") == "12.0"][:-1]


def height(svg):
    return int(ElementTree.fromstring(svg).get("height"))


def test_two_hundred_nodes_fit_into_1600_pixels():
    words = ["Read", "Check", "Send", "Store", "Tell"]
    svg = timeline_svg(many([f"{words[at % 5]} {'abcde'[at // 40]}{at}" for at in range(200)]))
    assert len(labels(svg)) <= MOST_ROWS
    assert height(svg) <= 1600
    assert sum(int(it) for it in re.findall(r"\((\d+)\)</text>", svg)) >= 200 - MOST_ROWS
    assert len(bars(svg)) == 200
    assert [it.get("y") for it in ElementTree.fromstring(svg).iter(f"{SVG}text")].count("20") > 1
    assert svg.count(">0.0 s</text>") == 2, "the axis is at both ends"


def test_nodes_that_are_alike_are_folded_and_failed_ones_are_not():
    names = [f"Fetch page {number}" for number in range(80)]
    assert labels(timeline_svg(many(names))) == ["Fetch page 0 … 79 (80)"]
    svg = timeline_svg(many(names, failed=[40]))
    assert [label for label in labels(svg) if not label.startswith("✗ Fetch page 40: ")] == [
        "Fetch page 0 … 39 (40)",
        "✗ Fetch page 40",
        "Fetch page 41 … 79 (39)",
    ]
    assert "0.40 s" in texts(svg), "from the first to the last of the group"


def test_up_to_sixty_nodes_have_rows_of_their_own():
    assert len(labels(timeline_svg(many(["Fetch"] * 60)))) == 60


@pytest.mark.parametrize("nodes", [61, 150, 1000])
@pytest.mark.parametrize("every", [1, 2, 3, 50])
def test_many_failed_nodes_fit_too(nodes, every):
    names = [f"{'abcdefgh'[number % 8]} {number}" for number in range(nodes)]
    svg = timeline_svg(many(names, failed=range(0, nodes, every)))
    assert height(svg) <= 1600
    assert len(bars(svg)) == nodes


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
def test_any_events_give_valid_xml_within_the_page(events):
    svg = timeline_svg(events)
    root = ElementTree.fromstring(svg)
    assert {element.tag for element in root.iter()} <= {
        SVG + tag
        for tag in (
            *("svg", "style", "defs", "pattern", "rect", "line"),
            *("text", "title", "desc"),
        )
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
    assert len(svg) < 10_000


def test_a_key_in_a_name_is_hidden():
    svg = timeline_svg([node("started", 1, 0.0, node_name="fm_live_0123456789")])
    assert "0123456789" not in svg
    assert "***" in svg


def axis(svg):
    """Return the labels of the ticks: number and unit."""
    root = ElementTree.fromstring(svg)
    ticks = [it for it in root.iter(f"{SVG}text") if it.get("text-anchor") == "middle"]
    return [(float(number), unit) for number, unit in (it.text.split() for it in ticks)]


@given(st.floats(0.001, 1e7), st.integers(320, 2000))
@example(4.8, 360)
def test_an_axis_has_one_unit_and_round_ticks(span, width):
    svg = timeline_svg([node("completed", "a", span * 1000, duration_ms=span * 1000)], width=width)
    ticks = axis(svg)
    assert 2 <= len(ticks) <= 8
    assert {unit for _, unit in ticks} == {ticks[0][1]}
    step = ticks[1][0]
    assert f"{step:e}".partition("e")[0] in ("1.000000", "2.000000", "5.000000")
    assert [number for number, _ in ticks] == pytest.approx(
        [step * count for count in range(len(ticks))]
    )


@pytest.mark.parametrize(
    ("span", "labels"),
    [
        (0.018, ["0 ms", "5 ms", "10 ms", "15 ms"]),
        (4.8, ["0 s", "1 s", "2 s", "3 s", "4 s"]),
        (90.0, ["0 s", "20 s", "40 s", "60 s", "80 s"]),
        (1800.0, ["0 min", "5 min", "10 min", "15 min", "20 min", "25 min", "30 min"]),
        (1.2, ["0.0 s", "0.2 s", "0.4 s", "0.6 s", "0.8 s", "1.0 s", "1.2 s"]),
    ],
)
def test_ticks_and_labels_of_typical_spans(span, labels):
    svg = timeline_svg([node("completed", "a", span * 1000, duration_ms=span * 1000)])
    assert [f"{text}" for text in texts(svg)][: len(labels)] == labels


@pytest.mark.parametrize("name", ["x" * 100, "\N{CJK UNIFIED IDEOGRAPH-65E5}" * 60])
def test_a_long_name_is_cut_in_its_middle_and_whole_in_its_title(name):
    svg = timeline_svg([node("started", "a", 1, node_name=name)])
    root = ElementTree.fromstring(svg)
    (label,) = [it for it in root.iter(f"{SVG}text") if it.find(f"{SVG}title") is not None]
    first, _, last = label.text.partition("\N{HORIZONTAL ELLIPSIS}")
    assert (name.startswith(first), name.endswith(last), len(first)) == (True, True, len(last))
    assert label.find(f"{SVG}title").text == name
    columns = len(label.text) * (1 if name[0] == "x" else 2)
    assert 20 <= columns <= 29


def test_the_error_of_a_node_is_in_its_title_and_at_the_top():
    svg = timeline_svg([node("failed", "a", 1000, node_name="Send", error="No connection")])
    titles = [it.text for it in ElementTree.fromstring(svg).iter(f"{SVG}title")]
    assert "Send: failed: No connection" in titles
    assert "\N{BALLOT X} Send: No connection" in texts(svg)
    key = "fm_live_0123456789"
    assert key not in timeline_svg([node("failed", "a", 1, error=key)])


def test_an_error_stands_above_the_bars():
    svg = timeline_svg([node("failed", "a", 1000, error="No connection")])
    root = ElementTree.fromstring(svg)
    (error,) = [it for it in root.iter(f"{SVG}text") if "No connection" in "".join(it.itertext())]
    (bar,) = [it for it in root.iter(f"{SVG}rect") if it.get("class") == "failed"]
    assert int(error.get("y")) < int(bar.get("y"))
    assert error.get("class") == "bad"


@pytest.mark.parametrize("transparent", [False, True])
def test_a_failed_node_is_red_and_wide_enough_to_be_seen(transparent):
    events = [
        node("completed", "a", 600_000, duration_ms=600_000),
        node("failed", "b", 600_001, duration_ms=1),
    ]
    svg = timeline_svg(events, transparent=transparent)
    _, (kind, x, width) = bars(svg)
    assert (kind, width) == ("failed", 6)
    assert x + width == pytest.approx(216 + 520)
    (label,) = [
        it for it in ElementTree.fromstring(svg).iter(f"{SVG}text") if it.text == "\N{BALLOT X} b"
    ]
    assert label.get("class") == "bad"
    drawn = colours(re.search("<style>(.*)</style>", svg, re.DOTALL)[1].partition("@media")[0])
    for name in ("failed", "bad"):
        red, green, blue = (int(drawn[name][at : at + 2], 16) for at in (1, 3, 5))
        assert red > 2 * max(green, blue), name


NODE = {"node_id": "ask", "node_name": "Approve"}
PAUSE = [
    {"type": "execution:started", "timestamp": 1000},
    {"type": "node:started", "timestamp": 1000, **NODE},
    {"type": "node:completed", "timestamp": 1500, "metadata": {"paused": True}, **NODE},
    {"type": "execution:paused", "timestamp": 2000, "reason": "Waiting for human review: Ok?"},
]


@pytest.mark.parametrize("events", [PAUSE, PAUSE[:1] + PAUSE[2:]])
def test_a_paused_run_is_open_at_its_end_and_shows_the_question(events):
    svg = timeline_svg(events)
    assert [kind for kind, _, _ in bars(svg)] == ["paused"]
    assert texts(svg)[-1] == "total ≥ 1.00 s, paused: Waiting for human review: Ok?"
    assert "\N{DOUBLE VERTICAL LINE} Approve" in texts(svg)
    assert svg.count('class="paused edge"') >= 3, "above, below and at the left"
    resumed = [*events, {"type": "execution:resumed", "timestamp": 3000}]
    assert [kind for kind, _, _ in bars(timeline_svg(resumed))] == ["running"]
    ended = timeline_svg(events, execution={"status": "completed", "completed_at": 3000})
    assert texts(ended)[-1] == "total 1.00 s"


def test_a_pause_that_was_polled_is_open_too():
    about = {"status": "paused", "started_at": 1000}
    svg = timeline_svg([node("started", "a", 1000), node("started", "b", 2000)], execution=about)
    assert [kind for kind, _, _ in bars(svg)] == ["paused", "paused"]
    assert texts(timeline_svg(None, execution=about, now=4.0))[-1] == "total ≥ 3.00 s, paused"


def test_a_cancelled_run_without_an_end_is_open():
    svg = timeline_svg(
        [node("started", "a", 1000), node("started", "b", 2000)],
        execution={"status": "cancelled", "completed_at": None},
    )
    assert texts(svg)[-1] == "total ≥ 1.00 s, cancelled"
    assert "≥ 1.00 s" in texts(svg)
    assert re.findall(r'rect class="(.*?)"', svg)[-2:] == ["cancelled box open"] * 2
    assert "≥ 0.00 s" not in texts(svg), "nothing is known of the second node but its beginning"
    assert "b: cancelled." in svg
    known = timeline_svg(
        [node("started", "a", 1000), node("started", "b", 2000)],
        execution={"status": "cancelled", "completed_at": 2000},
    )
    assert "≥" not in known


def test_nodes_that_ran_at_the_same_time_are_joined():
    def joined(*spans):
        events = []
        for number, (begin, end) in enumerate(spans):
            events.append(node("started", number, begin))
            events.append(node("completed", number, end))
        return re.findall(
            r'class="once edge" x1="5" x2="5" y1="(\d+)" y2="(\d+)"', timeline_svg(events)
        )

    assert joined((0, 1000), (1000, 2000), (2001, 3000)) == []
    assert joined((0, 100), (100, 900), (101, 500), (102, 300), (950, 960)) == [("56", "114")]
    assert joined((0, 10), (1, 9), (20, 30), (21, 29)) == [("34", "70"), ("78", "114")]


def test_the_head_says_which_execution_it_is_and_when_it_began():
    began = 1_796_099_856_274
    events = [{"type": "execution:started", "timestamp": began, "workflow_name": "Greeting"}]
    svg = timeline_svg(events, execution={"id": "exec_1", "workflow_id": "wf_1"})
    assert texts(svg)[0] == "Greeting  exec_1  2026-12-01 04:37:36 UTC"
    about = {"id": "exec_1", "workflow_id": "wf_1"}
    assert texts(timeline_svg(None, execution=about))[0] == "wf_1  exec_1"
    named = {**about, "workflow_name": "Greet"}
    assert texts(timeline_svg(None, execution=named))[0] == "Greet  exec_1"


@pytest.mark.parametrize(
    ("name", "width", "head"),
    [
        ("New order", 828, "New order  935ddd72-5129-4b7c-a288-e1a5cc457821  "),
        ("New order", 360, "New order  935d…7821  "),
        ("Send the monthly reports to all", 360, "Send… all  935d…7821  "),
        ("注文を処理する", 360, "注文…する  935d…7821  "),
        ("", 360, "935ddd72-5…a5cc457821  "),
    ],
)
def test_a_narrow_head_cuts_the_id_and_then_the_name_but_not_the_date(name, width, head):
    event = {"type": "execution:started", "timestamp": 1_796_099_856_274, "workflow_name": name}
    about = {"id": "935ddd72-5129-4b7c-a288-e1a5cc457821"}
    shown = texts(timeline_svg([event], execution=about, width=width))[0]
    assert shown.partition(" UTC")[0] == f"{head}2026-12-01 04:37:36"


def test_durations_are_aligned_at_their_right():
    svg = timeline_svg(many(["a", "b"], seconds=93))
    ends = [it for it in ElementTree.fromstring(svg).iter(f"{SVG}text") if it.text == "1.6 min"]
    assert [(it.get("x"), it.get("text-anchor")) for it in ends] == [("816.0", "end")] * 2


def test_the_error_of_an_execution_is_at_the_top():
    failed = {"type": "execution:failed", "timestamp": 3000, "error": "Out of credits"}
    assert "\N{BALLOT X} Out of credits" in texts(timeline_svg([failed]))
    about = {"status": "failed", "error": "Out of credits"}
    assert "\N{BALLOT X} Out of credits" in texts(timeline_svg(None, execution=about))
    about = {"status": "completed", "error": "old"}
    assert not any("old" in text for text in texts(timeline_svg(None, execution=about)))


def test_the_picture_says_in_words_what_it_shows():
    svg = timeline_svg(
        [
            node("started", "a", 0, node_name="Fetch"),
            node("retry", "a", 500),
            node("completed", "a", 1000),
            node("failed", "b", 3000, node_name="Send", duration_ms=2000, error="No connection"),
            {"type": "execution:failed", "timestamp": 3000},
            *(node("completed", f"n{number}", 3000) for number in range(25)),
        ]
    )
    root = ElementTree.fromstring(svg)
    assert root.find(f"{SVG}title").text == "Timeline of an execution: failed, total 3.00 s, failed"
    assert root.find(f"{SVG}desc").text.startswith(
        "Fetch: completed, 1.00 s, retried 1 x. Send: failed, 2.00 s: No connection. n0: "
    )
    assert root.find(f"{SVG}desc").text.endswith("And 7 more.")


def test_the_description_counts_the_rows_that_it_does_not_name() -> None:
    svg = timeline_svg(many(["Fetch"] * 50))
    root = ElementTree.fromstring(svg)
    assert root.find(f"{SVG}desc").text.endswith("And 30 more.")


def test_the_description_names_the_error_of_an_execution_without_nodes():
    svg = timeline_svg(None, execution={"status": "failed", "error": "Out of credits"})
    said = ElementTree.fromstring(svg).find(f"{SVG}desc").text
    assert said == "execution: failed, 0.00 s. Error: Out of credits."


def test_a_running_bar_is_hatched_and_open_at_its_end():
    svg = timeline_svg([node("started", "a", 1000)], now=3.0)
    assert 'fill="url(#hatch)"' in svg
    (_, left, width) = bars(svg)[0]
    # The rule for `.running` colours its edges, and wins over an attribute of the bar.
    assert "rect.running,rect.paused,rect.open{stroke:none}" in svg
    upright = re.findall(r'<line class="running edge" x1="(\S+)" x2="\1" y1="34"', svg)
    assert upright == [f"{left:.1f}"]
    assert f"{left + width:.1f}" not in upright


# Colours, as WCAG 2.1 measures them (1.4.3, relative luminance), and as a person with
# deuteranopia sees them (Machado, Oliveira and Fernandes 2009, severity 1.0).
DEUTERANOPIA = (
    (0.367322, 0.860646, -0.227968),
    (0.280085, 0.672501, 0.047413),
    (-0.011820, 0.042940, 0.968881),
)
NORMAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def luminance(colour, sight):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in parts]
    seen = [sum(a * b for a, b in zip(row, linear)) for row in sight]
    red, green, blue = (min(max(it, 0.0), 1.0) for it in seen)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other, sight):
    darker, lighter = sorted((luminance(one, sight), luminance(other, sight)))
    return (lighter + 0.05) / (darker + 0.05)


def colours(style):
    """Return the colour of each class, with six digits."""
    found = re.findall(r"\.(\w+)\{(?:fill:none;)?(?:fill|stroke):#([0-9a-f]+)", style)
    return {
        name: "#" + (digits if len(digits) > 3 else "".join(each * 2 for each in digits))
        for name, digits in found
    }


def test_a_mark_is_seen_on_every_bar():
    svg = timeline_svg(
        [node("started", "a", 0), node("retry", "a", 500), node("failed", "a", 1000)]
    )
    halo, mark = re.findall('<line class="(?:halo|retry)" (.*?)/>', svg)[:2]
    assert halo == mark
    for transparent in (False, True):
        svg = timeline_svg([], transparent=transparent)
        style = re.search("<style>(.*)</style>", svg, re.DOTALL)[1]
        for part in style.split("@media"):
            drawn = colours(part)
            assert contrast(drawn["retry"], drawn["halo"], NORMAL) >= 3
            assert contrast(drawn["lost"], drawn["halo"], NORMAL) >= 3


@pytest.mark.parametrize("sight", [NORMAL, DEUTERANOPIA], ids=["normal", "deuteranopia"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_neighbours_differ_by_3_to_1(scheme, sight):
    style = re.search("<style>(.*)</style>", timeline_svg([]), re.DOTALL)[1]
    light, _, dark = style.partition("@media(prefers-color-scheme:dark)")
    drawn = colours(light if scheme == "light" else dark)
    for part in ("completed", "failed", "cancelled", "running", "retry", "lost"):
        assert contrast(drawn[part], drawn["page"], sight) >= 3, part
    assert contrast(drawn["completed"], drawn["failed"], sight) >= 3
    for part in ("dim", "bad"):
        assert contrast(drawn[part], drawn["page"], NORMAL) >= 4.5, part


@pytest.mark.parametrize("sight", [NORMAL, DEUTERANOPIA], ids=["normal", "deuteranopia"])
@pytest.mark.parametrize("page", ["#ffffff", "#000000"])
def test_a_transparent_picture_is_readable_on_white_and_on_black(page, sight):
    svg = timeline_svg([], transparent=True)
    assert 'class="page"' not in svg
    drawn = colours(re.search("<style>(.*)</style>", svg, re.DOTALL)[1])
    for part in ("completed", "failed", "cancelled", "running", "dim"):
        assert contrast(drawn[part], page, sight) >= 3, part
    for part in ("dim", "bad"):
        assert contrast(drawn[part], page, NORMAL) >= 4.495, part
    for part in ("retry", "lost"):  # the mark, or its halo
        assert max(contrast(drawn[it], page, sight) for it in (part, "halo")) >= 3, part


@pytest.mark.parametrize("width", [319, math.nan, math.inf, -math.inf])
def test_a_width_that_is_too_small_or_not_finite_is_refused(width):
    with pytest.raises(ValueError, match="width must be"):
        timeline_svg([], width=width)
    assert 'width="320"' in timeline_svg([], width=320)
