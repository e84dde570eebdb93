"""What a test may ask of the fake afterwards, and what it is told when it is wrong."""

from __future__ import annotations

import dataclasses
import json
import textwrap

import pytest

from flowmaestro import FlowMaestroClient, NotFoundError, TimeoutError
from flowmaestro.testing import MemoryTransport
from flowmaestro_core.http.messages import Headers, Request


def told(assertion, *args, **options):
    with pytest.raises(AssertionError) as caught:
        assertion(*args, **options)
    return str(caught.value)


def text(indented):
    return textwrap.dedent(indented).strip("\n")


class TestRequests:
    def test_requests_are_recorded_with_time_and_status(self, fake, client):
        client.workflows.list(per_page=5)
        fake.clock.advance(2)
        client.workflows.execute("wf_123", inputs={"name": "Ada"})
        listed, executed = fake.requests
        assert (listed.method, listed.path) == ("GET", "/workflows")
        assert (listed.params["per_page"], listed.json, listed.status) == ("5", None, 200)
        assert (executed.method, executed.path) == ("POST", "/workflows/wf_123/execute")
        assert (executed.params, executed.json) == ({}, {"inputs": {"name": "Ada"}})
        assert (executed.status, executed.time) == (202, 2.0)
        assert executed.headers["Content-Type"] == "application/json"

    def test_no_credential_is_shown(self, fake, client):
        client.request("GET", "/workflows")
        (request,) = fake.requests
        assert request.headers["X-API-Key"] == "***"
        assert fake.api_key not in repr(request) + repr(request.headers.pairs)

    def test_they_do_not_change(self, fake, client):
        client.workflows.execute("wf_123", inputs={"name": "Ada"})
        with pytest.raises(dataclasses.FrozenInstanceError):
            fake.requests[0].status = 500
        fake.requests[0].json["inputs"]["name"] = "Bob"
        fake.requests.clear()
        assert fake.requests[0].json == {"inputs": {"name": "Ada"}}


class TestAssertCalled:
    @pytest.fixture(autouse=True)
    def calls(self, fake, client):
        client.workflows.get("wf_123")
        client.workflows.list(per_page=5)
        client.workflows.execute("wf_123", inputs={"name": "Ada"})
        client.workflows.execute("wf_abc123", inputs={"name": "Bob"})

    def test_matching_requests_pass(self, fake):
        fake.assert_called()
        fake.assert_called("get")
        fake.assert_called("GET", "/workflows", params={"per_page": 5}, times=1)
        fake.assert_called("GET", "/workflows", times=1)
        fake.assert_called("GET", "/workflows/*", times=1)
        fake.assert_called(path="/workflows/*/execute", times=2)
        fake.assert_called("POST", "/workflows/*/execute", json={"inputs": {"name": "Bob"}})
        fake.assert_called("POST", json={"inputs": {"name": "Eve"}}, times=0)
        fake.assert_not_called("DELETE")
        fake.assert_not_called(path="/agents/*")

    def test_failed_assert_called_lists_the_requests(self, fake):
        assert told(fake.assert_called, "GET", "/agents") == text(
            """
            expected at least one GET /agents; there were none
            Called:
              GET /workflows/wf_123 -> 200
              GET /workflows?per_page=5 -> 200
              POST /workflows/wf_123/execute {"inputs": {"name": "Ada"}} -> 202
              POST /workflows/wf_abc123/execute {"inputs": {"name": "Bob"}} -> 202
            """
        )

    def test_called_with_something_else(self, fake):
        asked = {"inputs": {"name": "Bob", "age": 3}}
        message = told(fake.assert_called, "POST", "/workflows/*/execute", json=asked)
        assert message.partition("\nCalled:")[0] == text(
            """
            expected at least one POST /workflows/*/execute with the given json; there were none, but 2 with something else
            - expected
            + the most similar call
              {
                "json": {
                  "inputs": {
            -       "age": 3,
                    "name": "Bob"
                  }
                }
              }
            """  # noqa: E501
        )

    def test_a_request_made_too_often_is_counted_in_the_message(self, fake):
        message = told(fake.assert_not_called, path="/workflows/wf_123")
        assert message.startswith("expected no request /workflows/wf_123; there was one\n")
        message = told(fake.assert_called, "POST", times=1)
        assert message.startswith("expected exactly 1 POST; there were 2\n")

    def test_a_failed_assertion_lists_the_latest_requests(self, fake, client):
        for number in range(30):
            client.workflows.get(f"wf_{'123' if number % 2 else 'abc123'}")
        message = told(fake.assert_not_called)
        assert "\n  (14 before)\n" in message
        assert len(message.splitlines()) == 23

    def test_lines_that_are_alike_are_one(self, fake, client):
        for _ in range(12):
            client.workflows.get("wf_123")
        client.workflows.list()
        assert told(fake.assert_called, "DELETE").splitlines()[-2:] == [
            "  GET /workflows/wf_123 -> 200 (12 times)",
            "  GET /workflows -> 200",
        ]

    @pytest.mark.parametrize(
        ("method", "path", "message"),
        [
            ("PSOT", "/workflows/wf_123/execute", "method must be one of GET, HEAD, POST"),
            ("GET", "/workflows/", "path must not end with a slash: '/workflows', not '/wor"),
            ("POST", "/workflow/wf_123/execute", "is not a call of the API"),
            ("DELETE", "/workflows/*", "is not a call of the API"),
            (None, "/workflows/wf_123/executions", "is not a call of the API"),
        ],
    )
    def test_assertion_about_unknown_route_is_refused(self, fake, method, path, message):
        with pytest.raises(ValueError, match=message):
            fake.assert_not_called(method, path)
        with pytest.raises(ValueError, match=message):
            fake.assert_called(method, path, times=0)

    def test_head_can_be_asserted_where_get_can(self, fake, client):
        fake.assert_not_called("HEAD", "/workflows")
        client.request("HEAD", "/workflows")
        fake.assert_called("HEAD", "/workflows", times=1)
        message = told(fake.assert_not_called, "HEAD", "/workflows")
        assert message.startswith("expected no HEAD /workflows; there was one\n")
        with pytest.raises(ValueError, match="is not a call of the API"):
            fake.assert_not_called("HEAD", "/workflows/*/execute")

    @pytest.mark.parametrize("written", ["my wf%2f1", "my%20wf%2F1"])
    def test_an_id_may_be_written_in_more_than_one_way(self, fake, client, written):
        client.workflows.execute(fake.workflow("my wf/1"))
        fake.assert_called("POST", f"/workflows/{written}/execute")
        told(fake.assert_not_called, "POST", f"/workflows/{written}/execute")

    def test_a_request_to_no_route_can_be_asserted(self, fake, client):
        with pytest.raises(NotFoundError):
            client.request("GET", "/nowhere")
        fake.assert_called("GET", "/nowhere")

    @pytest.mark.parametrize("times", [-1, 1.5, True])
    def test_invalid_times_or_path_is_refused(self, fake, times):
        with pytest.raises((TypeError, ValueError), match=r"times must be (an int|at least 0)"):
            fake.assert_called(times=times)
        with pytest.raises(ValueError, match="path must begin with a slash"):
            fake.assert_called("GET", "workflows")


class TestAssertExecuted:
    def test_matching_executions_pass(self, fake, client):
        client.workflows.execute("wf_123", inputs={"name": "Ada"})
        client.triggers.execute("trigger_abc123", inputs={"n": 1})
        fake.assert_executed("wf_123")
        fake.assert_executed("wf_123", {"name": "Ada"}, times=1)
        fake.assert_executed("wf_abc123", inputs={"n": 1})
        fake.assert_executed("wf_other", times=0)

    def test_other_inputs_are_shown_as_a_diff(self, fake, client):
        client.workflows.execute("wf_123", inputs={"name": "Ada"})
        client.workflows.execute("wf_123", inputs={})
        message = told(fake.assert_executed, "wf_123", inputs={"name": "Eve"})
        assert message.startswith("expected at least one execution of wf_123 with the given inputs")
        assert '\n-     "name": "Eve"\n+     "name": "Ada"\n' in message

    @pytest.mark.parametrize(
        ("sent", "asserted"), [(True, 1), (1, True), ([{"a": 0}], [{"a": False}]), ([1], [1, 1])]
    )
    def test_inputs_of_another_type_do_not_match(self, fake, client, sent, asserted):
        client.workflows.execute("wf_123", inputs={"flag": sent})
        fake.assert_executed("wf_123", inputs={"flag": sent})
        told(fake.assert_executed, "wf_123", inputs={"flag": asserted})
        told(fake.assert_called, "POST", json={"inputs": {"flag": asserted}})

    def test_an_integral_float_equals_the_integer(self, fake, client):
        client.workflows.execute("wf_123", inputs={"n": 1.0})
        fake.assert_executed("wf_123", inputs={"n": 1.0})
        fake.assert_executed("wf_123", inputs={"n": 1})

    def test_failed_assert_executed_lists_other_workflows(self, fake, client):
        client.workflows.execute("wf_123")
        assert told(fake.assert_executed, "wf_132", times=2) == text(
            """
            expected exactly 2 executions of wf_132; there were none
            Executed:
              wf_123
            Called:
              POST /workflows/wf_123/execute {"inputs": {}} -> 202
            """
        )

    def test_changing_a_listed_execution_does_not_change_the_fake(self, fake, client):
        client.workflows.run("wf_123", inputs={"name": "Ada"})
        fake.executions[0].inputs["name"] = "Eve"
        fake.executions[0].outputs.clear()
        fake.assert_executed("wf_123", {"name": "Ada"})
        assert fake.executions[0].outputs


class TestAssertDelivered:
    def test_assert_delivered_counts_deliveries(self, fake, client):
        client.workflows.run("wf_123")
        fake.assert_delivered("execution.completed", times=1)
        assert told(fake.assert_delivered, "execution.failed") == text(
            """
            expected at least one delivery of execution.failed; there were none
            Delivered:
              execution.completed delivered after 1 attempt
            """
        )


def test_report_says_which_executions_did_not_complete_and_where(fake, client):
    fake.workflow("wf_bad", nodes=["fetch", "charge"], fails_at="charge")
    fake.workflow("wf_hung", nodes=["fetch", "charge"], hangs_at="charge")
    client.workflows.run("wf_123")
    assert "Did not complete" not in fake.report()
    client.workflows.run("wf_bad")
    with pytest.raises(TimeoutError):
        client.workflows.run("wf_hung", timeout=60)
    assert fake.report().partition("Did not complete:\n")[2].splitlines() == [
        f"  wf_bad failed: {fake.executions[1].error}",
        "  wf_hung running at charge",
    ]
    assert "charge" in fake.executions[1].error


def test_report_lists_requests_and_missing_ids(fake, client):
    assert fake.report() == "Called:\n  nothing"
    client.workflows.list()
    with pytest.raises(NotFoundError):
        client.knowledge_bases.get("kb_none")
    assert fake.report() == text(
        """
        Called:
          GET /workflows -> 200
          GET /knowledge-bases/kb_none -> 500
        Not there (an id may have any form in the fake):
          knowledge base kb_none; the latest are kb_abc123, kb_123
        """
    )


def test_credentials_are_not_printed(fake):
    with FlowMaestroClient(fake.api_key, transport=MemoryTransport(fake)) as client:
        client.webhooks.create(
            name="Hook",
            url="https://user:HOOKPW99@example.com/",
            events=["execution.completed"],
            headers={"Authorization": "Bearer HDRSEC99"},
        )
        client.workflows.execute("wf_123", inputs={"db_pass": "INPUTPW99"})
    with pytest.raises(AssertionError) as failed:
        fake.assert_called("POST", "/webhooks", json={"name": "Other"})
    with pytest.raises(AssertionError) as also:
        fake.assert_executed("wf_123", inputs={"name": "Ada"})
    shown = [fake.report(), str(failed.value), str(also.value), repr(fake.requests)]
    assert "99" not in "".join(shown)
    for text in shown:
        assert "***" in text
    assert fake.requests[0].json["headers"] == {"Authorization": "Bearer HDRSEC99"}


LEVELS = 200
"""The most levels of a body that `RecordedRequest.json` shows."""


def asked_with_body(fake, body):
    headers = Headers({"X-API-Key": fake.api_key, "Content-Type": "application/json"})
    url = "https://api.flowmaestro.io/api/v1/workflows/wf_123/execute"
    fake.handle(Request("POST", url, headers, body.encode()), 0.0)


@pytest.mark.parametrize("levels", [LEVELS + 1, 500, 990, 5_000, 100_000])
@pytest.mark.parametrize("ends", [True, False])
def test_a_body_that_is_nested_too_deep_is_not_decoded(fake, levels, ends):
    asked_with_body(fake, "[" * levels + "]" * levels * ends)
    (request,) = fake.requests
    assert request.json is None
    assert "POST /workflows/wf_123/execute ->" in fake.report()
    assert "json=None" in repr(request)
    fake.assert_called("POST", "/workflows/*/execute", times=1)
    message = told(fake.assert_called, "POST", json=[])
    assert "but 1 with something else" in message


def test_a_body_is_decoded_down_to_the_deepest_level_that_is_shown(fake):
    deep, flat = "[" * LEVELS + "]" * LEVELS, f"[{', '.join(['{}'] * 1000)}]"
    for body in (deep, flat):
        asked_with_body(fake, body)
    first, second = fake.requests
    assert (first.json, second.json) == (json.loads(deep), [{}] * 1000)
    fake.assert_called(json=json.loads(deep), times=1)
    assert f"POST /workflows/wf_123/execute {deep} ->" in fake.report()
    assert "but 2 with something else" in told(fake.assert_called, "POST", json=[[[]]])
