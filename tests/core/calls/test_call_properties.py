"""What holds for a call whatever happens, and the truth of its table."""

from __future__ import annotations

from hypothesis import strategies as st

from flowmaestro_core.calls.call import MAX_REDIRECTS, CallMachine
from flowmaestro_core.http.messages import Headers, ResponseHead
from tests.harness.core.calls import CANCEL, DELETE, EXECUTE, GET, calling
from tests.harness.core.properties import MachineProperties, collected, json_values, responses
from tests.harness.core.stepping import (
    Possibilities,
    Stepper,
    a_response,
    an_envelope,
    assert_table_is_true,
    wander,
)

REPLIES = (
    a_response(200, an_envelope({"status": "cancelled"})),
    a_response(200, an_envelope({"status": "running"})),
    a_response(200, an_envelope([])),
    a_response(204),
    a_response(302, headers={"Location": "/x"}),
    a_response(400),
    a_response(404),
    a_response(429, headers={"Retry-After": "1"}),
    a_response(500),
)
HEADS = (
    *(ResponseHead(reply.status, reply.headers) for reply in REPLIES),
    ResponseHead(200, Headers({"Content-Type": "text/event-stream"})),
)


def test_the_table_is_true() -> None:
    world = Possibilities(REPLIES, HEADS, (b"{", b'{"data": {}}'))
    assert_table_is_true(
        CallMachine,
        wander(lambda: calling(CANCEL), world, walks=2000),
        wander(lambda: calling(DELETE), world, walks=100),
        wander(lambda: calling(GET, stream=True), world, walks=1000),
    )


class CallProperties(MachineProperties):
    call = GET
    stream = False
    responses = responses(
        st.one_of(
            st.sampled_from(
                [b'{"data": {"status": "cancelled"}}', b'{"data": null}', b'{"error": "x"}']
            ),
            json_values.map(lambda value: a_response(body=an_envelope(value)).body),
            json_values.map(lambda value: a_response(body={"error": value}).body),
        )
    )

    def make(self) -> Stepper:
        return calling(self.call, stream=self.stream)

    def check(self) -> None:
        redirected = MAX_REDIRECTS if self.call.method == "GET" else 0
        asked = (
            0
            if self.call.confirmation is None or self.call.confirmation.ask is None
            else 4 + MAX_REDIRECTS
        )
        assert len(self.stepper.sent) <= 4 + redirected + asked
        # The number of the attempt is all in which attempts differ.
        headers = {
            tuple(pair for pair in request.headers.pairs if pair[0] != "X-FlowMaestro-Attempt")
            for request in self.stepper.sent
        }
        assert len(headers) <= (2 if asked else 1)
        assert sum(self.stepper.waited_for) <= 60 * 6


class ExecuteProperties(CallProperties):
    call = EXECUTE


class CancelProperties(CallProperties):
    call = CANCEL


class DeleteProperties(CallProperties):
    call = DELETE


class OpenProperties(CallProperties):
    stream = True


class OpenOnceProperties(CallProperties):
    call = EXECUTE
    stream = True


TestCallProperties = collected(CallProperties)
TestExecuteProperties = collected(ExecuteProperties)
TestCancelProperties = collected(CancelProperties)
TestDeleteProperties = collected(DeleteProperties)
TestOpenProperties = collected(OpenProperties)
TestOpenOnceProperties = collected(OpenOnceProperties)
