"""`chat`: what the user types is answered as it comes."""

from __future__ import annotations

import io

import pytest


@pytest.fixture
def typed(monkeypatch):
    """Sets what the user types, in a pipe."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_each_line_is_answered_in_one_thread(command, fake, typed):
    fake.agent("agent_echo", lambda text: f"You said {text}.")
    typed("one\r\n\r\ntwo\n")
    done = command("chat", "agent_echo")
    assert (done.status, done.out) == (0, "agent  You said one.\nagent  You said two.\n")
    posts = [request for request in fake.requests if request.method == "POST"]
    assert len([request for request in posts if request.path.endswith("/messages")]) >= 2
    assert len([request for request in posts if request.path.endswith("/threads")]) == 1


def test_a_thread_goes_on(command, fake, typed):
    fake.agent("agent_echo", lambda text: "Yes.")
    typed("one\n")
    first = command("chat", "agent_echo")
    thread_id = first.err.split("thread ")[1].split(".")[0]
    typed("two\n")
    assert command("chat", "agent_echo", "--thread", thread_id).out == "agent  Yes.\n"


def test_an_unknown_agent_exits_3(command, typed):
    typed("one\n")
    assert command("chat", "agent_unknown").status == 3


def test_ctrl_c_stops_the_answer_and_not_the_session(command, fake, typed, monkeypatch):
    from flowmaestro.cli.console import Console

    fake.agent("agent_echo", lambda text: f"You said {text}.")
    typed("one\ntwo\n")
    interrupted = []

    def interrupt_once(self, piece, lead=""):
        if not interrupted:
            interrupted.append(piece)
            raise KeyboardInterrupt
        plain(self, piece, lead)

    plain = Console.stream
    monkeypatch.setattr(Console, "stream", interrupt_once)
    done = command("chat", "agent_echo")
    assert (done.status, done.out) == (0, "agent  You said two.\n")
    assert "stopped; the agent may still finish its answer" in done.err
    assert fake.open_streams == 0


def test_ctrl_c_at_the_prompt_drops_the_line_and_not_the_session(command, fake, monkeypatch):
    class Typist(io.StringIO):
        def isatty(self):
            return True

        def readline(self):
            if self.tell() == 0:
                self.seek(1)
                raise KeyboardInterrupt
            return super().readline()

    fake.agent("agent_echo", lambda text: f"You said {text}.")
    monkeypatch.setattr("sys.stdin", Typist("xtwo\n"))
    done = command("chat", "agent_echo")
    assert (done.status, done.out) == (0, "agent  You said two.\n")
    assert done.err.endswith("you    \nyou    you    \n")
