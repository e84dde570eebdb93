"""What objects show in a notebook."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import re
from html.parser import HTMLParser
from typing import Any, Dict, List
from unittest import mock

import pytest

from flowmaestro_core.errors import InsufficientCreditsError, ServerError
from flowmaestro_core.executions.outcome import (
    BatchProgress,
    EndedExecution,
    RunOutcome,
    ended,
)
from flowmaestro_core.http.secrets import is_secret_member
from flowmaestro_core.payloads.json_values import hidden_member
from flowmaestro_core.payloads.reply import Reply
from flowmaestro_core.showing.html import MOST_ROWS, batch_html, reply_html, stream_html

HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "x" * 10_000,
    "\N{GRINNING FACE}" * 50,
    "\N{RIGHT-TO-LEFT OVERRIDE}abc",
]
KEY = "fm_live_0123456789abcdef"


def execution(**changed: Any) -> Any:
    return {
        "id": "exec_1",
        "workflow_id": "wf_1",
        "status": "completed",
        "outputs": {"n": 1},
        "error": None,
        "started_at": "2026-01-01T00:00:00Z",
        "completed_at": "2026-01-01T00:00:00.300Z",
        **changed,
    }


class _Reader(HTMLParser):
    """The text, the elements and the attributes of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: List[str] = []
        self.attributes: Dict[str, Any] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes.update(attrs)

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def read(shown: Any) -> _Reader:
    """What a notebook shows, checked to be static."""
    reader = _Reader(shown if isinstance(shown, str) else shown._repr_html_())
    assert set(reader.tags) <= {
        *("p", "b", "bdi", "table", "tr", "th", "td", "pre", "img"),
        *("details", "summary"),
    }
    assert set(reader.attributes) <= {"alt", "style", "src"}
    return reader


def picture(reader: _Reader) -> str:
    kind, _, data = reader.attributes["src"].partition(";base64,")
    assert kind == "data:image/svg+xml"
    return base64.b64decode(data).decode()


class TestEndedExecution:
    def test_an_ended_execution_is_a_dict(self) -> None:
        made: Any = ended(execution(), [{"type": "node:started"}])
        assert made == execution()
        assert json.loads(json.dumps(made)) == execution()
        for copied in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
            assert copied == made
            assert copied.seen_events == ({"type": "node:started"},)
        assert str(made) == str(execution())

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({}, "completed in 0.30 s, outputs {'n': 1}"),
            ({"status": "failed", "outputs": None, "error": "no"}, "failed in 0.30 s, error 'no'"),
            ({"status": "cancelled", "outputs": None, "completed_at": None}, "cancelled"),
        ],
    )
    def test_repr_says_how_the_execution_ended(self, changed: Any, said: str) -> None:
        assert repr(EndedExecution(execution(**changed))) == f"<Execution exec_1: {said}>"

    def test_repr_reads_only_the_values_that_it_shows(self) -> None:
        made = EndedExecution(execution(outputs={"rows": [{"n": "x"}] * 1000}))
        looks = mock.Mock(wraps=is_secret_member)
        with mock.patch("flowmaestro_core.payloads.json_values.is_secret_member", looks):
            assert "'n': 'x'}, ..." in repr(made)
        assert looks.call_count < 100

    @pytest.mark.parametrize("kind", ["list", "dict", "tuple"])
    def test_repr_shows_deeply_nested_outputs(self, kind: str) -> None:
        deep: Any = "x"
        for _ in range(5000):
            deep = {"list": [deep], "dict": {"a": deep}, "tuple": (deep,)}[kind]
        made = EndedExecution(execution(outputs={"a": deep}))
        assert "..." in repr(made)
        assert "completed" in read(made).text
        assert "..." in str(hidden_member("", deep))

    @pytest.mark.parametrize("hostile", [*HOSTILE, "\x1b[2J"])
    def test_repr_is_one_printable_line(self, hostile: str) -> None:
        said = repr(EndedExecution(execution(id=hostile, status=hostile, error=hostile)))
        assert said.isprintable()
        assert len(said) < 500


class TestHtml:
    def test_an_execution_shows_status_outputs_and_timeline(self) -> None:
        reader = read(EndedExecution(execution()))
        for part in ("completed", "exec_1", "wf_1", "0.30 s", '"n": 1'):
            assert part in reader.text
        svg = picture(reader)
        assert 'class="page"' not in svg, "a notebook's theme may be dark on a light system"
        assert "node events" not in svg

    def test_a_run_whose_server_sends_no_node_events_says_so(self) -> None:
        assert "sends no node events" in picture(
            read(ended(execution(), [{"type": "execution:started"}]))
        )

    def test_a_reply_shows_the_execution_in_it(self) -> None:
        reader = read(Reply({"data": execution(status="failed", outputs=None, error="no way")}))
        assert "no way" in reader.text
        assert Reply({"data": {}})._repr_html_() is None

    def test_a_resource_is_a_table_of_its_members(self) -> None:
        workflow = {
            "id": "wf_1",
            "name": "Report",
            "description": None,
            "secret": "hush",
            "headers": {"X": "covert"},
            "inputs": {f"n{number}": {"type": "string"} for number in range(10)},
        }
        reader = read(Reply({"data": workflow}))
        for part in ("Reply", "Report", "wf_1", "***", "inputs", "32 lines"):
            assert part in reader.text
        for part in ("description", "hush", "covert"):
            assert part not in reader.text
        assert "details" in reader.tags

    def test_the_results_of_a_query_are_a_table(self) -> None:
        rows = [{"similarity": 0.9, "document_name": "Manual", "content": "Turn it off."}]
        reader = read(Reply({"data": {"query": "reset", "results": rows}}))
        for part in ("1 for reset", "similarity", "0.9", "Manual", "Turn it off."):
            assert part in reader.text
        assert "0" in read(Reply({"data": {"results": []}})).text

    def test_an_error_shows_what_is_known_about_its_call(self) -> None:
        error = ServerError("no luck", "internal_error", 500, "req_1")
        error.execution_id = "exec_1"
        reader = read(error)
        for part in ("ServerError", "no luck", "internal_error", "500", "req_1", "exec_1"):
            assert part in reader.text

    def test_long_outputs_are_folded_and_short_ones_are_not(self) -> None:
        short = read(EndedExecution(execution(outputs={str(n): n for n in range(18)})))
        assert "details" not in short.tags
        long = read(EndedExecution(execution(outputs={str(n): n for n in range(19)})))
        assert "details" in long.tags
        assert "outputs 21 lines" in long.text

    def test_an_id_does_not_wrap(self) -> None:
        id = "f323ca74-d344-4490-96fd-35d0adf20806"
        cell = f'<td style="white-space:nowrap"><bdi>{id}</bdi></td>'
        assert cell in EndedExecution(execution(id=id))._repr_html_()
        assert cell in str(Reply({"data": [{"id": id, "name": "Two words"}]})._repr_html_())
        assert "<td><bdi>Two words" in str(Reply({"data": [{"name": "Two words"}]})._repr_html_())

    def test_a_page_is_a_table(self) -> None:
        rows = [
            {"id": "1", "name": "A", "outputs": {"a": 1}, "n": None, "headers": {"X": "hidden"}},
            {"id": "2", "name": {"odd": "x" * 100}},
            "no row",
            *({"id": str(number)} for number in range(MOST_ROWS)),
        ]
        place = {"page": 1, "total_pages": 3, "total_count": 300}
        reader = read(Reply({"data": rows, "pagination": place}))
        assert "page 1 of 3, 300 in all" in reader.text
        assert reader.text.split("in all")[1].split()[:9] == [
            *("id", "name", "outputs", "headers", "1", "A", '{"a":', "1}", "...")
        ]
        assert "x" * 100 not in reader.text
        assert "and 3 more" in reader.text
        assert read(Reply({"data": [], "pagination": {"page": 2}})).text.split() == [
            *("Page", "page", "2")
        ]

    def test_a_row_shows_its_execution_or_its_error(self) -> None:
        assert "0.30 s" in read(RunOutcome(7, execution=execution())).text
        assert "exec_2" in read(RunOutcome(7, execution_id="exec_2")).text
        assert "no luck" in read(RunOutcome(7, error=ServerError("no luck"))).text

    def test_a_batch_shows_how_far_it_is_and_its_latest_rows(self) -> None:
        outcomes = [
            RunOutcome(0, execution_id="exec_1", execution=execution()),
            RunOutcome(1, execution_id="exec_2", execution=execution(status="failed")),
            RunOutcome(2, error=ServerError("no luck")),
            RunOutcome(3, execution=execution(status="cancelled", completed_at=None)),
        ]
        reader = read(batch_html(BatchProgress(4, 3, 1, 9, None), outcomes))
        assert "4 of 9 done, 3 failed, 1 in flight" in reader.text
        for part in ("exec_2", '{"n": 1}', "no luck", "0.30 s"):
            assert part in reader.text
        drawn = re.findall('rect class="([cfr]\\w+)\\b', picture(reader))
        assert drawn == ["completed", "failed", "cancelled"]
        title = "Timeline of the latest rows of a batch"
        assert f'alt="{title}: running, ' in batch_html(BatchProgress(4, 3, 1, 9, None), outcomes)
        assert f'alt="{title}: completed, ' in batch_html(
            BatchProgress(9, 0, 0, 9, None), outcomes[:1]
        )
        assert "img" not in read(batch_html(BatchProgress(0, 0, 0, None, None), [])).tags

    def test_a_failed_row_with_an_error_is_drawn_as_failed(self) -> None:
        """An execution that failed for a lack of credits has both."""
        outcome = RunOutcome(
            0, execution=execution(status="failed"), error=InsufficientCreditsError("no credits")
        )
        reader = read(batch_html(BatchProgress(1, 1, 0, 1, None), [outcome]))
        assert re.findall('rect class="([cfr]\\w+)\\b', picture(reader)) == ["failed"]

    def test_a_stream_shows_how_far_it_is(self) -> None:
        assert "streaming" in read(stream_html("streaming", {}, ())).text

    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_hostile_texts_are_harmless_and_short(self, hostile: str) -> None:
        odd = execution(
            id=hostile,
            workflow_id=hostile,
            outputs={hostile: hostile},
            error=hostile,
            status=hostile,
        )
        events = [{"type": "node:started", "node_id": 1, "node_name": hostile, "timestamp": 1}]
        outcome = RunOutcome(0, hostile, hostile, odd)
        progress = BatchProgress(1, 0, 0, 1, None)
        for shown in (
            ended(odd, events),
            Reply({"data": [{hostile: hostile}], "pagination": {"page": hostile}}),
            outcome,
            RunOutcome(0, error=ServerError(hostile)),
            batch_html(progress, [outcome]),
            stream_html(hostile, odd, events),
        ):
            html = shown if isinstance(shown, str) else shown._repr_html_()  # type: ignore[union-attr]
            read(html)
            assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in html
            assert len(html) < 15_000

    def test_no_secret_is_shown(self) -> None:
        secrets = {"api_key": "hush-1", "list": [{"password": "hush-2"}], "said": f"it is {KEY}."}
        assert "hush" not in str(hidden_member("", ({"password": "hush-0"},)))
        webhook = {"id": "1", "secret": "hush-3", "url": "https://me:hush-4@host/?token=hush-5"}
        for shown in (
            EndedExecution(execution(outputs=secrets, error=f"no {KEY}")),
            Reply({"data": [webhook, {"secret": ["hush-6"], "password": {"a": "hush-7"}}]}),
            batch_html(
                BatchProgress(1, 0, 0, 1, None),
                [RunOutcome(0, execution=execution(outputs=secrets))],
            ),
        ):
            html = shown if isinstance(shown, str) else shown._repr_html_()
            for said in (html, repr(shown) if isinstance(shown, EndedExecution) else ""):
                assert "hush" not in said
                assert KEY not in said


def test_a_name_that_is_not_a_text_is_shown() -> None:
    shown = reply_html({"data": {1: "one"}})
    assert shown is not None
    assert "<bdi>1</bdi>" in shown
    table = reply_html({"data": [{1: "one"}]})
    assert table is not None
    assert "<bdi>1</bdi>" in table
