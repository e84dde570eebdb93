"""Agents, their threads and memories, and the turn in which a message is answered."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import (
    Any,
    Callable,
    ClassVar,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
    cast,
)

from flowmaestro.testing.arguments import check_function
from flowmaestro.testing.fake.model.model_time import ModelTime

AnswerText = Union[str, Iterable[str]]
"""An answer: a text, or the tokens in which it is sent."""
AgentReply = Callable[[str], AnswerText]

_TOKEN = re.compile(r"\s*\S+")


def echo(text: str) -> str:
    """Return an agent's default answer to `text`, which repeats it."""
    return f"You said: {text}"


def tokens(text: str) -> List[str]:
    """Split a text into the pieces in which an agent sends it; joined, they are the text again."""
    pieces = _TOKEN.findall(text)
    rest = text[sum(map(len, pieces)) :]
    return [*pieces, rest] if rest else pieces


class Replies:
    """Scripted answers, at least one, given in order; the last one is repeated.

    `given` counts the answers so far.
    """

    def __init__(self, replies: Sequence[Union[AnswerText, AgentReply, Exception]]) -> None:
        self._replies = [_checked(f"replies[{index}]", it) for index, it in enumerate(replies)]
        self.given: int = 0

    def __call__(self, text: str) -> AnswerText:
        """Return the next answer to `text`, a user's message.

        If the scripted answer is an exception, raise it; if it is a function, call it with `text`
        and return the result.
        """
        reply = self._replies[min(self.given, len(self._replies) - 1)]
        self.given += 1
        if isinstance(reply, Exception):
            raise reply
        return reply(text) if callable(reply) else reply

    @property
    def left(self) -> int:
        """Number of scripted answers that were not used."""
        return max(0, len(self._replies) - self.given)


def _pieces(answer: Iterable[str]) -> Iterator[str]:
    """Yield the tokens of an answer that is not a text. Raise `TypeError` for non-text in it."""
    pieces: Iterable[object] = answer if isinstance(answer, Iterable) else [answer]
    for piece in pieces:
        if not isinstance(piece, str):
            raise TypeError(f"an agent's function must return a text or its tokens, not {answer!r}")
        yield piece


def _checked(name: str, reply: Any) -> Union[Tuple[str, ...], str, AgentReply, Exception]:
    if isinstance(reply, (str, Exception)):
        return reply
    if callable(reply) and not isinstance(reply, type):
        check_function(name, reply)
        return cast("AgentReply", reply)
    if isinstance(reply, Iterable) and not isinstance(reply, (bytes, Mapping)):
        pieces = tuple(cast("Iterable[object]", reply))
        if all(isinstance(piece, str) for piece in pieces):
            return cast("Tuple[str, ...]", pieces)
    raise TypeError(
        f"{name} must be a text, its tokens, a function from a message to either, or an exception, "
        f"not {reply!r}"
    )


@dataclass
class Memory:
    """The memory of an agent about one user."""

    user_id: str
    working_memory: str
    metadata: Dict[str, Any]
    created_at: float
    updated_at: float


@dataclass
class Agent:
    """An agent. `reply` makes an answer, which takes `seconds`.

    If `reply` raises, the agent fails and there is no answer. Tokens that `reply` yielded before it
    raised are still sent. An agent that is `scripted` by a test streams its tokens even if the
    server that the fake models refuses to stream, unless the fake has `messages="refused"`.
    """

    id: str
    name: str
    model: str
    created_at: float
    description: str = ""
    provider: str = "openai"
    reply: AgentReply = echo
    seconds: float = 0.4
    memories: Dict[str, Memory] = field(default_factory=dict[str, Memory])
    scripted: bool = False

    temperature: ClassVar[float] = 0.7
    max_tokens: ClassVar[int] = 4000
    available_tools: ClassVar[Tuple[str, ...]] = ()

    @property
    def system_prompt(self) -> str:
        """The system prompt of the agent."""
        return f"You are {self.name}."


@dataclass(frozen=True)
class Message:
    """One message of a thread."""

    id: str
    role: str
    content: str
    created_at: float

    tool_calls = None


@dataclass
class Thread:
    """A conversation with one agent."""

    id: str
    agent: Agent
    metadata: Dict[str, Any]
    created_at: float
    messages: List[Message] = field(default_factory=list[Message])

    title = None
    status = "active"

    @property
    def last_message_at(self) -> Optional[float]:
        """When the last message was posted, in seconds on the clock of the driver.

        `None` if there is no message.
        """
        return self.messages[-1].created_at if self.messages else None

    @property
    def updated_at(self) -> float:
        """When the last message was posted; without messages, when the thread was created."""
        return self.created_at if self.last_message_at is None else self.last_message_at


@dataclass
class Turn:
    """A message of a user, and the agent's answer while it is being made.

    `execution_id` is the id of the agent's run; `answer_id` is that of the answer's message.
    `answer` is `None` until it is complete; `error` is why the agent failed.
    """

    execution_id: str
    thread: Thread
    question: str
    answer_id: str
    answer: Optional[Message] = None
    error: Optional[str] = None


def usage(turn: Turn, answer: Message) -> Dict[str, int]:
    """Return the numbers of tokens of a turn's question, of its answer, and of both."""
    asked, answered = len(tokens(turn.question)), len(tokens(answer.content))
    return {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered,
    }


TurnListener = Callable[[Turn, str, Dict[str, Any]], None]
"""A function that is called with the turn, the name and the data of each event."""


def run_turn(model_time: ModelTime, turn: Turn, hear: TurnListener) -> None:
    """Call the agent's script, and schedule the events of its answer. Return without waiting.

    `hear` is called with each event when it is due. The tokens come at equal intervals during the
    agent's `seconds`. If the script raises, the answer fails.
    """
    agent = turn.thread.agent

    def utter(name: str, **more: Any) -> None:
        hear(turn, name, {"message_id": turn.answer_id, "thread_id": turn.thread.id, **more})

    def complete() -> None:
        text = "".join(pieces)
        answer = turn.answer = Message(turn.answer_id, "assistant", text, model_time.now)
        turn.thread.messages.append(answer)
        utter("message:completed", content=text, usage=usage(turn, answer))

    model_time.schedule(0.0, partial(utter, "message:started"))
    pieces: List[str] = []
    try:
        said = agent.reply(turn.question)
        pieces.extend(tokens(said) if isinstance(said, str) else _pieces(said))
    except Exception as error:  # Any exception of a scripted agent makes its run fail.
        turn.error = f"{type(error).__name__}: {error}"
    for index, piece in enumerate(pieces):
        delay = agent.seconds * (index + 1) / (len(pieces) + 1)
        model_time.schedule(delay, partial(utter, "message:token", token=piece))
    failed = partial(utter, "message:failed", error=turn.error)
    model_time.schedule(agent.seconds, complete if turn.error is None else failed)
