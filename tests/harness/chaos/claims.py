"""What callers were told, as claims that the ledger can refute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Protocol, Sequence

from flowmaestro import FlowMaestroError
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.payloads.shapes import TERMINAL_STATUSES
from tests.harness.chaos.ledger import Ledger, answer_to


class Claim(Protocol):
    """Something that a caller was told."""

    def lie(self, ledger: Ledger) -> str:
        """What of it is not so; `""` when it is true."""
        ...


@dataclass(frozen=True)
class Answered:
    """A call was answered with `reply`."""

    method: str
    path: str
    reply: Any

    def lie(self, ledger: Ledger) -> str:
        entry = ledger.entry_of(self.reply.request_id)
        if entry is None:
            return f"a reply that was never sent: {self.reply}"
        if (entry.method, entry.path) != (self.method, self.path):
            return f"the reply to {entry.method} {entry.path} for {self.method} {self.path}"
        sent = entry.body
        return "" if _holds(self.reply, sent) else f"{self.reply} where {sent} was sent"


@dataclass(frozen=True)
class Gone:
    """`path` was deleted."""

    path: str

    def lie(self, ledger: Ledger) -> str:
        times = len(ledger.acted("DELETE", self.path))
        return "" if times == 1 else f"{self.path} deleted {times} times"


@dataclass(frozen=True)
class Cancelled:
    """An execution was cancelled."""

    execution_id: str

    def lie(self, ledger: Ledger) -> str:
        status = ledger.executions[self.execution_id].status
        return "" if status == "cancelled" else f"{self.execution_id} cancelled, but is {status}"


@dataclass(frozen=True)
class Ended:
    """The execution that `mark` started has ended as `told` says."""

    mark: str
    execution_id: str
    told: Mapping[str, Any]

    def lie(self, ledger: Ledger) -> str:
        row = ledger.executions.get(self.execution_id)
        if row is None:
            return f"an execution that does not exist: {self.execution_id}"
        if row.inputs.get("mark") != self.mark:
            return f"{self.mark} was told of the execution with {row.inputs}"
        told = self.told["status"], self.told["outputs"]
        true = row.status, row.outputs
        if told[0] not in TERMINAL_STATUSES or told != true:
            return f"{self.execution_id} ended with {told}, in truth {true}"
        return ""


@dataclass(frozen=True)
class Said:
    """The agent answered the message `text` with `answer`."""

    text: str
    answer: str

    def lie(self, ledger: Ledger) -> str:
        if not ledger.heard[self.text]:
            return f"an answer to {self.text!r}, which was never heard"
        if str(self.answer).strip() != answer_to(self.text).strip():
            return f"the answer to {self.text!r} is {self.answer!r}"
        return ""


@dataclass(frozen=True)
class Walked:
    """A walk through the pages of workflows gave all of them, in order."""

    ids: Sequence[str]

    def lie(self, ledger: Ledger) -> str:
        return "" if list(self.ids) == ledger.workflows else f"a walk gave {self.ids}"


@dataclass(frozen=True)
class Refused:
    """A call failed with `error`, which may be about the network or what the server said.

    `key` is the idempotency key of the call, where that is known. `misreads` is of a transport that
    takes a head that breaks off for a whole one, as `docs/networks.md` says of requests.
    """

    error: BaseException
    key: Optional[str] = None
    misreads: bool = False

    def lie(self, ledger: Ledger) -> str:
        error = self.error
        if not isinstance(error, FlowMaestroError):
            return f"an error that is not ours: {error!r}"
        if error.code == "invalid_response" and not self.misreads:
            return f"a reply of the server's was read wrongly: {error}"
        phases = {attempt.outcome for attempt in error.attempts}
        if phases == {Phase.NOT_SENT} and ledger.acted_on(self.key):
            return f"nothing was sent, it was said, but the server acted: {error}"
        if (
            error.request_id is None
            or error.status_code is None
            or error.code == "invalid_response"
        ):
            return ""  # where a head broke off, its request id may have, too
        entry = ledger.entry_of(error.request_id)
        if entry is None or entry.reply.status != error.status_code:
            return f"an error that was never sent: {error!r}"
        return ""


def _holds(told: Any, sent: Any) -> bool:
    """Whether `told` has all that was sent, at most with keys beside it."""
    if isinstance(sent, dict):
        return isinstance(told, dict) and all(
            key in told and _holds(told[key], value) for key, value in sent.items()
        )
    if isinstance(sent, list):
        is_as_long = isinstance(told, list) and len(told) == len(sent)
        return is_as_long and all(map(_holds, told, sent))
    same: Optional[bool] = told == sent
    return bool(same)
