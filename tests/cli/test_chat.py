"""`chat`: what the user types is answered as it comes."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import stat
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("prompt_toolkit", reason="prompt_toolkit is NOT INSTALLED")
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from flowmaestro.cli import chat, prompt
from flowmaestro.cli.chat import AnswerView
from flowmaestro.cli.console import Console
from flowmaestro.cli.prompt import add_to_history, read_history
from flowmaestro.errors import ConnectionError
from tests.harness.terminal import Terminal


class Typist(io.StringIO):
    """A terminal at which a user types."""

    def isatty(self):
        return True


@pytest.fixture
def echo(fake):
    fake.agent("agent_echo", lambda text: f"You said {text}.")


@pytest.fixture
def typist(monkeypatch):
    """Sets what the user types, at a terminal."""
    return lambda text: monkeypatch.setattr("sys.stdin", Typist(text))


@pytest.fixture
def shown(monkeypatch):
    """Returns what a terminal shows of an answer in pieces, and the view."""

    def show(*pieces):
        terminal = Terminal()
        monkeypatch.setenv("TERM", "xterm")
        view = AnswerView(Console(terminal), "agent  ")
        for piece in pieces:
            view.add(piece)
        view.close()
        return terminal.getvalue(), view

    return show


def prompted(history):
    """Return the prompt of chat, drawn nowhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompt, "create_output", lambda stdout: DummyOutput())
        return prompt.message_prompt(history)


@pytest.fixture
def typed(monkeypatch):
    """Sets what the user types, in a pipe."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_a_pipe_is_one_message_and_the_bare_answer_is_printed(command, fake, typed):
    fake.agent("agent_echo", lambda text: f"You said {text!r}.")
    typed("one\n\ntwo\n")
    done = command("chat", "agent_echo")
    assert (done.status, done.out, done.err) == (0, "You said 'one\\n\\ntwo'.\n", "")


@pytest.mark.parametrize("sent", ["utf-8", "utf-8-sig", "cp1252"])
def test_a_piped_message_is_utf_8_or_in_the_encoding_of_stdin(command, echo, monkeypatch, sent):
    pipe = io.TextIOWrapper(io.BytesIO("Größe".encode(sent)), "cp1252")
    monkeypatch.setattr("sys.stdin", pipe)
    assert command("chat", "agent_echo").out == "You said Größe.\n"


def test_a_message_of_an_option_is_answered_as_json(command, echo, typed):
    done = command("chat", "agent_echo", "-m", "hi", "--json")
    found = json.loads(done.out)
    assert found["answer"] == "You said hi."
    typed("again")
    done = command("chat", "agent_echo", "--thread", found["thread_id"], "--json")
    assert json.loads(done.out) == {"thread_id": found["thread_id"], "answer": "You said again."}


def test_stdin_is_appended_to_the_message_of_an_option(command, fake, typed):
    fake.agent("agent_echo", lambda text: f"You said {text!r}.")
    typed("one\ntwo\n")
    assert command("chat", "agent_echo", "-m", "Sum up:").out == (
        "You said 'Sum up:\\n\\none\\ntwo'.\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="waits for sockets only")
def test_a_stdin_that_sends_nothing_does_not_hold_a_message_up(command, fake, monkeypatch):
    fake.agent("agent_echo", lambda text: f"You said {text!r}.")
    monkeypatch.setattr(chat, "_SILENT_STDIN", 0.01)
    end, other = os.pipe()
    try:
        with open(end) as silent:
            monkeypatch.setattr("sys.stdin", silent)
            assert command("chat", "agent_echo", "-m", "hi").out == "You said 'hi'.\n"
    finally:
        os.close(other)


def test_an_agent_is_named_by_its_name(command, fake):
    fake.agent("agent_echo", lambda text: f"You said {text}.", name="Echo of the hills")
    done = command("chat", "Echo of", "-m", "hi")
    assert (done.status, done.out) == (0, "You said hi.\n")
    assert done.err == "Echo of the hills is agent_echo\n"
    assert "agent_echo" in command("get", "agents", "Echo of the hills").out
    assert (
        'there is no agent "Ekko"; `flowmaestro list agents`'
        in command("chat", "Ekko", "-m", "hi").err
    )


def test_leaving_says_how_to_go_on_and_save_writes_the_whole_thread(
    command, echo, tmp_path, typist
):
    typist("one\n")
    *_, before, last = command("chat", "agent_echo").err.splitlines()
    assert before == "go on with:"
    words = last.split()
    assert words[:4] == ["flowmaestro", "chat", "agent_echo", "--thread"]
    file = tmp_path / "talk.md"
    typist(f"two\n/save {file}\n")
    assert command(*words[1:]).status == 0
    heading, _, story = file.read_text().partition("\n\n")
    assert heading.endswith(f", thread {words[4]}")
    assert story.split("\n\n") == [
        *("**You**", "one", "**Agent**", "You said one."),
        *("**You**", "two", "**Agent**", "You said two.\n"),
    ]


@pytest.mark.parametrize("words", [["-m", " "], [], ["--json"]])
def test_an_empty_message_is_refused(command, typed, words):
    typed("\n")
    done = command("chat", "agent_echo", *words)
    assert done.status == 2
    assert "the message must not be empty" in done.err


def test_json_without_a_message_is_refused_on_a_terminal(command, typist):
    typist("")
    done = command("chat", "agent_echo", "--json")
    assert done.status == 2
    assert "--json needs a message" in done.err


def test_a_thread_that_does_not_exist_is_refused_before_the_greeting(command, echo, fake, typist):
    typist("one\n")
    done = command("chat", "agent_echo", "--thread", "thread_unknown")
    assert (done.status, done.out) == (3, "")
    assert "there is no thread 'thread_unknown'; leave --thread out" in done.err
    assert "list agents" not in done.err
    assert "leaves" not in done.err
    assert not [request for request in fake.requests if request.method == "POST"]


@pytest.mark.parametrize("fake", [("documented",)], indirect=True)
def test_an_agent_that_fails_exits_with_1(command, fake):
    fake.agent("agent_bad", RuntimeError("no model"))
    done = command("chat", "agent_bad", "-m", "hi")
    assert (done.status, done.out) == (1, "")
    assert "the agent failed: " in done.err


def test_lines_that_begin_with_a_slash_are_commands(command, echo, tmp_path, typist):
    file = tmp_path / "talk.md"
    lines = ["/help", "/thread", "//etc", f"/save {file}", f"/save {file}", "/save", "/dance"]
    typist("\n".join(lines) + "\n")
    done = command("chat", "agent_echo")
    thread_id = done.err.split("thread ")[1].split()[0]
    assert done.out == f"{thread_id}\nagent  You said /etc.\n"
    refused = f"not saved: {file} exists; name another file"
    for text in ("/save FILE    write", "saved to", refused, "write /save FILE"):
        assert text in done.err
    assert "there is no command /dance; /help shows all" in done.err
    assert file.read_text().endswith("**You**\n\n/etc\n\n**Agent**\n\nYou said /etc.\n")


class TestHistory:
    """What was typed, in the state folder."""

    def test_pasted_lines_are_one_message_and_kept_for_the_user_alone(self, tmp_path):
        file = tmp_path / "state" / "history"
        with create_pipe_input() as pipe, create_app_session(pipe, DummyOutput()):
            pipe.send_text("\x1b[200~one\ntwo\x1b[201~\r secret\r")
            ask = prompted(file)
            assert [ask(), ask()] == ["one\ntwo", " secret"]
            pipe.send_text("half\x03again\r\x04")
            assert [ask(), ask()] == ["again", None]
        assert read_history(file) == ["one\ntwo", "again"]
        assert list(prompt._FileHistory(file).load_history_strings()) == ["again", "one\ntwo"]
        if os.name == "posix":
            assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_alt_enter_begins_a_new_line(self):
        with create_pipe_input() as pipe, create_app_session(pipe, DummyOutput()):
            pipe.send_text("one\x1b\rtwo\r")
            assert prompted(None)() == "one\ntwo"

    def test_nothing_is_kept_without_a_file(self, tmp_path):
        with create_pipe_input() as pipe, create_app_session(pipe, DummyOutput()):
            pipe.send_text("one\r")
            assert prompted(None)() == "one"
        assert list(tmp_path.iterdir()) == []

    def test_the_newest_thousand_are_kept_and_a_damaged_file_is_empty(self, tmp_path):
        file = tmp_path / "history"
        file.write_text("".join(f'"{number}"\n' for number in range(1000)))
        add_to_history(file, "new")
        assert read_history(file)[::999] == ["1", "new"]
        file.write_text("{")
        assert read_history(file) == []

    def test_a_damaged_line_costs_no_other_line(self, tmp_path):
        file = tmp_path / "history"
        file.write_bytes(b'"one"\n"torn \xe2\n\x00\x00\n"two"\n')
        assert read_history(file) == ["one", "two"]
        add_to_history(file, "three")
        assert read_history(file) == ["one", "two", "three"]

    def test_a_file_that_cannot_be_read_is_not_replaced(self, tmp_path, monkeypatch):
        def fail(*given, **named):
            raise PermissionError(13, "Permission denied")

        file = tmp_path / "history"
        add_to_history(file, "one")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_text", fail)
            assert read_history(file) == []
            add_to_history(file, "two")
        assert read_history(file) == ["one"]


def test_markdown_is_rendered_and_cannot_steer_the_terminal(shown):
    pieces = ("# Ti", "tle\n\nSome **bo", "ld** &#x202e; \x1b]52;c;x\x07 text\n\n", "- one")
    shown, view = shown(*pieces)
    assert view.text.startswith("# Title")
    assert "\x1b[1mbold\x1b[0m" in shown
    assert shown.rstrip().endswith("one")
    assert "\u202e" not in shown
    assert "\x1b]" not in shown
    assert "**" not in shown.rpartition("Some")[2]


@pytest.mark.parametrize("rows", [6, 30])
def test_a_paragraph_taller_than_the_screen_is_shown_once(monkeypatch, rows):
    terminal = Terminal()
    for name, value in {"TERM": "xterm", "COLUMNS": "40", "LINES": str(rows)}.items():
        monkeypatch.setenv(name, value)
    view = AnswerView(Console(terminal), "agent  ")
    lines = [f" • line {number}" for number in range(20)]
    for line in lines:
        view.add(line.replace(" •", "*") + "\n")
        assert line in on_screen(terminal.getvalue(), rows)[-rows:]
    view.close()
    assert [line for line in on_screen(terminal.getvalue(), rows) if line][1:] == lines


def on_screen(written, height):
    """Return the lines of a terminal, whose cursor cannot leave the last `height` of them."""
    lines, at = [""], 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", written):
        if part == "\n":
            at += 1
            lines += [""] * (at == len(lines))
        elif part == "\x1b[1A":
            at = max(at - 1, len(lines) - height, 0)
        elif part == "\x1b[2K":
            lines[at] = ""
        elif part != "\r" and not part.startswith("\x1b"):
            lines[at] += part
    return [line.rstrip() for line in lines]


def test_ctrl_c_stops_the_answer_and_not_the_session(command, echo, fake, monkeypatch, typist):
    typist("one\ntwo\n")
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


def test_ctrl_c_at_the_prompt_drops_the_line_and_not_the_session(command, echo, monkeypatch):
    class Interrupted(Typist):
        def readline(self):
            if self.tell() == 0:
                self.seek(1)
                raise KeyboardInterrupt
            return super().readline()

    monkeypatch.setattr("sys.stdin", Interrupted("xtwo\n"))
    done = command("chat", "agent_echo")
    assert (done.status, done.out) == (0, "agent  You said two.\n")
    assert "you    \nyou    you    \ngo on with:\n" in done.err


@pytest.mark.parametrize(
    "pieces",
    [
        ["- a\n", "    ", "- b\n\n"],
        ["- a\n    - b\n\n"],
        ["- a\n\n", "    ", "- b"],
        ["- a\n", "\n    - b"],
    ],
)
def test_spaces_that_indent_the_next_line_end_no_block(shown, pieces):
    lines = [line for line in on_screen(shown(*pieces)[0], 24) if line]
    assert lines[1:] == [" • a", "    • b"]


def test_an_answer_that_breaks_off_is_saved_as_far_as_it_was_shown(
    command, echo, monkeypatch, tmp_path, typist
):
    def broken(client, thread_id, text, show):
        show("The first half")
        raise ConnectionError("the connection was lost")

    monkeypatch.setattr(chat, "_answer", broken)
    file = tmp_path / "talk.md"
    typist(f"one\n/save {file}\n")
    done = command("chat", "agent_echo")
    assert "no answer: [connection_error] the connection was lost" in done.err
    assert file.read_text().endswith("**You**\n\none\n\n**Agent**\n\nThe first half\n")


def test_a_path_with_a_nul_is_not_saved_and_the_conversation_goes_on(command, echo, typist):
    typist("/save ~\0\n/save a\0\ntwo\n")
    done = command("chat", "agent_echo")
    assert (done.status, done.out) == (0, "agent  You said two.\n")
    assert done.err.count("not saved: ") == 2


def test_words_in_angle_brackets_are_shown(shown):
    text = "Run login <your-key> **<now>**.\n\n<details>\nmore <b>of</b> it\n</details>\n\nEnd."
    lines = [line.strip() for line in on_screen(shown(text)[0], 24) if line]
    assert lines[1:] == [
        *("Run login <your-key> <now>.", "<details>", "more <b>of</b> it", "</details>", "End.")
    ]


def test_ctrl_c_stops_a_save_and_not_the_session(command, echo, monkeypatch, tmp_path, typist):
    def interrupted(client, thread_id):
        raise KeyboardInterrupt

    thread_id = json.loads(command("chat", "agent_echo", "-m", "hi", "--json").out)["thread_id"]
    monkeypatch.setattr(chat, "_messages", interrupted)
    file = tmp_path / "talk.md"
    typist(f"/save {file}\ntwo\n")
    done = command("chat", "agent_echo", "--thread", thread_id)
    assert (done.status, done.out) == (0, "agent  You said two.\n")
    assert "not saved: stopped\n" in done.err
    assert not file.exists()


@pytest.mark.parametrize(
    ("whole", "rest"),
    [
        ("", "one\n\n"),
        ("one", "two"),
        ("one\n\ntwo", "- a\n\n  b\n\n    c\n"),
        ("- a\n\n  b", "```\nc\n\nd\n"),
        ("~~~\nc\n\nd\n~~~", "e\n \n"),
        ("- a\n\n  ```\n\nc\n  ```", "- d"),
    ],
)
def test_a_block_is_complete_when_the_next_one_begins(whole, rest):
    text = f"{whole}\n\n{rest}" if whole else rest
    assert chat._whole_blocks(text) == (whole, rest)


def test_leaving_repeats_the_options_that_name_the_server(command, echo, fake, typist):
    typist("")
    url = "https://api.flowmaestro.io"
    done = command("chat", "agent_echo", "--base-url", url, "--api-key", fake.api_key)
    assert done.err.endswith(f" --base-url {url}\n")
    assert fake.api_key not in done.err


def test_without_a_home_folder_nothing_typed_is_remembered(monkeypatch):
    def no_folder():
        raise RuntimeError("Could not determine home directory.")

    given = []
    monkeypatch.setattr(chat, "state_folder", no_folder)
    monkeypatch.setattr(prompt, "message_prompt", given.append)
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    chat._prompt(True)
    assert given == [None]


def test_a_terminal_shows_how_long_the_agent_works_until_it_answers(command, fake, monkeypatch):
    class Screen(Terminal):
        def write(self, text):
            if "the agent works, 2 m 00 s" in self.getvalue():
                worked.set()
            return super().write(text)

    def answer(text):
        assert worked.wait(30)
        return "Done."

    worked, screen = threading.Event(), Screen()
    fake.agent("agent_slow", answer)
    times = itertools.count(0, 40)  # Each look at the clock is 40 s later.
    monkeypatch.setattr(chat, "time", SimpleNamespace(monotonic=lambda: next(times)))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", screen)
    done = command("chat", "agent_slow", "-m", "hi")
    assert (done.status, done.out) == (0, "Done.\n")
    assert on_screen(screen.getvalue(), 24)[-1] == ""
