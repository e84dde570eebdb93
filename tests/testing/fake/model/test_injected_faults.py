"""What a test can let go wrong: errors, lost connections, limits, slowness, deaf receivers."""

from __future__ import annotations

import json

import pytest

from flowmaestro import FlowMaestroClient, FlowMaestroError, RateLimitError
from flowmaestro.testing import MemoryTransport, running_server
from flowmaestro.testing.fake.model import seeds
from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_transports import RequestsTransport


def statuses(fake):
    return [request.status for request in fake.requests]


class TestFailNext:
    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (401, "invalid_api_key"),
            (422, "validation_error"),
            (501, "not_implemented"),
            (599, "status_599"),
        ],
    )
    def test_the_code_is_the_one_that_the_api_has_for_the_status(self, fake, status, code):
        client = FlowMaestroClient(fake.api_key, transport=fake.transport(), max_retries=0)
        fake.fail_next(status=status)
        with pytest.raises(FlowMaestroError) as caught:
            client.workflows.list()
        assert (caught.value.status_code, caught.value.code) == (status, code)

    @pytest.mark.parametrize("seconds", [1e9, 86_400, 100, 0.25, 0])
    def test_any_retry_after_is_one_that_the_client_reads(self, fake, seconds):
        client = FlowMaestroClient(fake.api_key, transport=fake.transport(), max_retries=0)
        fake.fail_next(status=429, retry_after=seconds)
        with pytest.raises(RateLimitError) as caught:
            client.workflows.list()
        assert caught.value.retry_after == seconds

    @pytest.mark.parametrize(
        ("status", "details"),
        [
            (404, {"resource": "Workflow", "id": "wf_123"}),
            (
                403,
                {
                    "required_scopes": ["workflows:read"],
                    "missing_scopes": ["workflows:read"],
                    "your_scopes": [],
                },
            ),
            (429, {"limit": 60, "window": "minute", "retry_after": 90}),
        ],
    )
    def test_an_injected_error_has_the_details_of_a_real_one(self, fake, status, details):
        client = FlowMaestroClient(fake.api_key, transport=fake.transport(), max_retries=0)
        fake.fail_next(status=status, retry_after=90)
        with pytest.raises(FlowMaestroError) as caught:
            client.workflows.get("wf_123")
        assert caught.value.details == details

    def test_fail_next_affects_matching_requests_only(self, fake, client):
        fake.fail_next(status=404, method="post", path="/workflows/*/execute")
        client.workflows.get("wf_123")
        client.workflows.list()
        with pytest.raises(Exception, match="resource_not_found"):
            client.workflows.execute("wf_123")
        client.workflows.execute("wf_123")
        assert statuses(fake) == [200, 200, 404, 202]


class TestDropConnection:
    def test_dropped_connection_raises_transport_failure(self, fake):
        transport = MemoryTransport(fake)
        request = a_request(fake, "GET", "/executions/exec_xyz789/events")
        fake.drop_connection(after_events=2)
        body = transport.open(request, 5)
        assert body.read(60).startswith(b"event: connected")
        assert body.read(60).startswith(b"event: node:completed")
        with pytest.raises(TransportFailure) as caught:
            body.read(60)
        assert caught.value.phase is Phase.REPLY_BROKEN
        fake.drop_connection(after_events=0)
        with pytest.raises(TransportFailure):
            transport.open(request, 5).read(60)
        fake.drop_connection()
        with pytest.raises(TransportFailure) as caught:
            transport.send(request, 5)
        assert caught.value.phase is Phase.MAYBE_PROCESSED

    def test_a_stream_whose_response_is_dropped_is_closed(self, fake, client):
        fake.drop_connection(method="GET", path="/executions/*/events")
        assert client.workflows.run("wf_123")["status"] == "completed"
        assert fake.open_streams == 0

    def test_connections_are_dropped_over_sockets_too(self, fake):
        fake.drop_connection(method="GET", path="/workflows")
        fake.drop_connection(after_events=2)
        with (
            running_server(fake) as url,
            FlowMaestroClient(fake.api_key, base_url=url, transport=RequestsTransport()) as client,
        ):
            assert client.workflows.list().attempts == 2
            events = client.executions.stream("exec_xyz789")
            assert list(events)[-1]["type"] == "execution:completed"
            assert events.reconnects == 1


def a_request(fake, method, path):
    from flowmaestro_core.http.messages import Request

    return Request(method, f"https://h/api/v1{path}", {"X-API-Key": fake.api_key})


class TestRateLimit:
    def test_rate_limits_apply_to_present_and_later_keys(self, fake):
        fake.rate_limit(per_minute=2)
        for key in (fake.api_key, fake.add_key()):
            client = FlowMaestroClient(key, transport=fake.transport(), max_retries=0)
            client.workflows.get("wf_123")
            assert client.workflows.get("wf_123").rate_limit.remaining == 0
            with pytest.raises(RateLimitError):
                client.workflows.get("wf_123")

    def test_a_limit_below_what_is_used_up(self, fake, client):
        for _ in range(5):
            client.workflows.get("wf_123")
        fake.rate_limit(per_minute=2, per_day=1000)
        client.workflows.get("wf_123")
        assert fake.clock.now >= 60


class TestLatency:
    def test_every_reply_takes_so_long(self, fake, client):
        fake.latency(0.25)
        client.workflows.get("wf_123")
        client.workflows.get("wf_123")
        assert fake.clock.now == pytest.approx(0.5)
        fake.latency(0)
        client.workflows.get("wf_123")
        assert fake.clock.now == pytest.approx(0.5)

    def test_a_stream_s_events_come_no_later(self, fake, client):
        fake.latency(0.2)
        run = client.workflows.execute("wf_123")["data"]["execution_id"]
        assert list(client.executions.stream(run))[-1]["type"] == "execution:completed"
        assert fake.clock.now == pytest.approx(0.2 + 0.2, abs=0.5)

    def test_longer_than_the_client_waits(self, fake):
        client = FlowMaestroClient(
            fake.api_key, transport=fake.transport(), timeout=5, max_retries=1
        )
        fake.latency(10)
        with pytest.raises(TimeoutError):
            client.workflows.get("wf_123")
        assert 10 <= fake.clock.now < 12
        run = MemoryTransport(fake)
        with pytest.raises(TransportFailure):
            run.open(a_request(fake, "GET", "/executions/exec_xyz789/events"), 1)
        fake.clock.advance(60)
        assert fake.open_streams == 0, "nobody waits for that stream any more"


class TestDelayNext:
    def test_delay_next_delays_matching_responses_only(self, fake, client):
        fake.delay_next(2.0, times=2, path="/workflows/*")
        client.agents.list()
        assert fake.clock.now == pytest.approx(0.0)
        for _ in range(3):
            client.workflows.get("wf_123")
        assert fake.clock.now == pytest.approx(4.0)
        assert statuses(fake) == [200] * 4

    def test_the_request_is_carried_out_at_once(self, fake, client):
        fake.delay_next(2.0, path="/workflows/*/execute")
        client.workflows.execute("wf_123")
        assert fake.executions[-1].started_at < 1


class TestArmedFaults:
    def test_a_disarmed_fault_does_not_happen(self, fake, client):
        kept = fake.fail_next(path="/agents")
        fake.disarm(fake.fail_next())
        assert fake.armed_faults == [kept]
        client.workflows.list()


class TestReceivers:
    def test_the_retry_schedule_passes_in_virtual_time(self, fake, client):
        came = []

        def receive(request):
            if json.loads(request.body)["data"]["execution_id"] != run:
                return 200
            came.append(round(fake.clock.now, 3))
            return None if len(came) < 3 else 204

        fake.receive_webhooks(receive)
        run = client.workflows.execute("wf_123")["data"]["execution_id"]
        fake.clock.advance(600)
        assert came == [0.35, 120.35, 360.35]
        assert [delivery.attempts for delivery in fake.deliveries] == [1, 1, 3]
        fake.assert_delivered("execution.completed", times=3)

    def test_a_receiver_may_call_back(self, fake, client):
        heard = []

        def receive(request):
            data = json.loads(request.body)["data"]
            id = data["execution_id"]
            if data["inputs"].get("customer_email"):
                return 200  # One of the executions that a new fake already holds.
            heard.append(client.executions.get(id)["data"]["status"])
            return 200

        fake.receive_webhooks(receive)
        assert client.workflows.run("wf_123")["status"] == "completed"
        assert client.workflows.run(seeds.FAILING_WORKFLOW_ID)["status"] == "failed"
        assert heard == ["completed", "failed"]
