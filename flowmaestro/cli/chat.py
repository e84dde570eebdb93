"""`chat`: a conversation with an agent. Ctrl-C stops an answer, Ctrl-D leaves."""

from __future__ import annotations

import argparse
import os
import select
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Tuple, Union, cast

from flowmaestro import FlowMaestroClient
from flowmaestro.cli import NOT_FOUND, USAGE, CommandFailed
from flowmaestro.cli.console import Console, Writer
from flowmaestro.cli.output import print_json, written
from flowmaestro.cli.run_view import in_short
from flowmaestro.cli.session import client_for, find, objects, server_words
from flowmaestro.cli.state import state_folder
from flowmaestro.errors import FlowMaestroError, NotFoundError
from flowmaestro.printable import printable_lines

_LEAD = "agent  "
_SILENT_STDIN = 3.0
"""With `-m`: seconds without data on standard input after which it is not read. A parent process
may leave it open without ever writing to it."""
_HELP = (
    "/thread       the id of this thread, to continue it with --thread",
    "/save FILE    write this conversation into a Markdown file",
    "/help         this help",
    "//text        send a message that begins with /",
    "Ctrl-C stops an answer, Ctrl-D leaves.",
    "Pasted lines are one message, and Alt-Enter begins a new line.",
)


def chat_command(options: argparse.Namespace) -> None:
    """Send the messages that the user types, and show the answers as they come.

    With `-m`, or if standard input is not a terminal, send one message, and print only the answer;
    with `--json`, an object with the answer and the thread's id. A standard input that is not a
    terminal is the message. If there is a text of `-m`, standard input is appended to it, unless no
    data arrives there in the first `_SILENT_STDIN` seconds.

    Raises `CommandFailed` for a blank message, for `--json` without a message, if there is no
    thread `--thread`, and if the agent fails at the one message.
    """
    message: Optional[str] = options.message
    if not sys.stdin.isatty() and (message is None or _sends_something()):
        texts = [message or "", _piped_text().strip("\r\n")]
        message = "\n\n".join(text for text in texts if text)
    if message is None and options.output is not None:
        raise CommandFailed("--json needs a message: -m, or standard input", USAGE)
    if message is not None and not message.strip():
        raise CommandFailed("the message must not be empty", USAGE)
    with client_for(options) as client:
        agent: Any = client.agents.get(find(client, "agent", options.agent).id)["data"]
        if options.thread is not None:  # Refuse a wrong id before the user has typed anything.
            _check_thread(client, options.thread)
        thread_id = options.thread or client.agents.create_thread(agent["id"])["data"]["id"]
        if message is None:
            _converse(client, agent, thread_id, options)
        elif options.output is not None:
            text, fault = _answer(client, thread_id, message, _show_nothing)
            if fault:
                raise CommandFailed(fault)
            print_json({"thread_id": thread_id, "answer": text})
        else:
            view = AnswerView(Console(sys.stdout), "")
            try:
                _, fault = _answer(client, thread_id, message, view.add)
            finally:
                view.close()
            if fault:
                raise CommandFailed(fault)


def _check_thread(client: FlowMaestroClient, thread_id: str) -> None:
    try:
        client.threads.get(thread_id)
    except NotFoundError as error:
        hint = "leave --thread out to begin a new one; in a conversation, /thread shows its id"
        text = f"there is no thread {thread_id!r}"
        raise CommandFailed(text, NOT_FOUND, hint=hint) from error


def _sends_something() -> bool:
    """Return whether standard input has data, or ends, within `_SILENT_STDIN` seconds.

    Return True at once if it cannot be waited for, as on Windows.
    """
    try:
        return bool(select.select([sys.stdin], [], [], _SILENT_STDIN)[0])
    except (OSError, ValueError):  # `select` of Windows takes sockets only.
        return True


def _piped_text() -> str:
    """Return all of standard input as text.

    It is decoded as UTF-8 or, if it is not UTF-8, in the encoding that Python assumes for it.
    Bytes that are malformed in that encoding, too, become U+FFFD.
    """
    data: Union[str, bytes] = getattr(sys.stdin, "buffer", sys.stdin).read()
    if isinstance(data, str):
        return data
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode(sys.stdin.encoding or "utf-8", "replace")


def _converse(
    client: FlowMaestroClient, agent: Any, thread_id: str, options: argparse.Namespace
) -> None:
    """Send the user's messages and show the answers, until Ctrl-D.

    Raises `NotFoundError` if a message is sent and the thread no longer exists.
    """
    screen, hints = Console(sys.stdout), Console(sys.stderr)
    title = f"{agent['name']}, thread {thread_id}"
    hints.line(title)
    hints.line("/help shows what you can type, Ctrl-D leaves.")
    ask, said = _prompt(not options.no_history), [f"# {title}"]

    def conversation() -> List[str]:
        return said if options.thread is None else [said[0], *_messages(client, thread_id)]

    while True:
        text = ask()
        if text is None:
            hints.line("go on with:")
            words = f"{shlex.quote(agent['id'])} --thread {thread_id}{server_words(options)}"
            hints.command("  ", f"flowmaestro chat {words}")
            return
        if text.startswith("/") and not text.startswith("//"):
            _obey(text, thread_id, conversation, hints)
        elif text.strip():
            text = text[1:] if text.startswith("//") else text
            said += ["**You**", text]
            said += ["**Agent**", _show_answer(client, thread_id, text, screen, hints)]


def _messages(client: FlowMaestroClient, thread_id: str) -> Iterator[str]:
    """Yield, for each message of the thread, first its role and then its text, as Markdown.

    The messages are read from the server: a continued thread has some from before this command.
    """
    for message in objects(client.threads.iterate_messages(thread_id)):
        role = str(message["role"])
        yield {"user": "**You**", "assistant": "**Agent**"}.get(role, f"**{role.capitalize()}**")
        yield written(message["content"])


def _obey(text: str, thread_id: str, conversation: Callable[[], List[str]], hints: Console) -> None:
    """Carry out a command of the chat: a line that begins with a slash.

    `conversation` returns the parts of the document that `/save` writes. `hints` is the console for
    messages about commands.
    """
    command, _, rest = text.strip().partition(" ")
    if command == "/help":
        for line in _HELP:
            hints.line(line, indent=14)
    elif command == "/thread":
        Console(sys.stdout).copyable(thread_id)
    elif command == "/save" and rest.strip():
        path = rest.strip()
        try:
            path = os.path.expanduser(path)
            document = "\n\n".join(conversation()) + "\n"
            with open(path, "x", encoding="utf-8", errors="replace") as file:
                file.write(document)
            hints.line(f"saved to {path}")
        except KeyboardInterrupt:
            hints.line("not saved: stopped")
        except FileExistsError:
            hints.line(f"not saved: {path} exists; name another file")
        except (OSError, ValueError, FlowMaestroError) as error:  # ValueError: a path with a NUL.
            hints.line(f"not saved: {getattr(error, 'strerror', None) or error}")
    elif command == "/save":
        hints.line("write /save FILE")
    else:
        hints.line(f"there is no command {command}; /help shows all, //text sends it")


def _prompt(has_history: bool) -> Callable[[], Optional[str]]:
    """Return a function that asks the user for a message and returns it, or None after Ctrl-D.

    With `has_history`, the function also offers the messages of earlier chats, if standard error is
    a terminal other than `TERM=dumb`, and the user has a home folder.
    """
    if not Console(sys.stderr).is_live:
        return _plain_line
    from flowmaestro.cli.prompt import message_prompt

    history: Optional[Path] = None
    if has_history:
        with suppress(RuntimeError):  # There is no home folder: nothing is remembered.
            history = state_folder() / "chat-history"
    return message_prompt(history)


def _plain_line() -> Optional[str]:
    prompt = Writer(sys.stderr)
    prompt.write("you    ")
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:  # No answer is coming: drop the line that was being typed.
        line = "\n"
        prompt.write("\n")
    if not line:
        prompt.write("\n")
        return None
    return line.rstrip("\r\n")


def _show_answer(
    client: FlowMaestroClient, thread_id: str, text: str, screen: Console, hints: Console
) -> str:
    """Send a message. Show the answer as its pieces come, and return the answer.

    After Ctrl-C, or an error of the SDK, show a line about it and return the pieces that have come,
    so that the conversation continues. But a `NotFoundError` is raised.
    """
    view = AnswerView(screen, _LEAD)
    try:
        _, said = _answer(client, thread_id, text, view.add)
    except KeyboardInterrupt:
        said = "stopped; the agent may still finish its answer on the server"
    except NotFoundError:
        raise
    except FlowMaestroError as error:
        said = f"no answer: {error}"
    finally:
        view.close()
    if said:
        hints.line(said)
    return view.text


def _answer(
    client: FlowMaestroClient, thread_id: str, text: str, show: Callable[[str], None]
) -> Tuple[str, str]:
    """Send a message. Return the answer, and a text that says why the agent failed, or "".

    `show` is called with each piece of the answer as it comes.
    """
    answer, fault = "", ""
    with _Working() as work, client.threads.send_message_stream(thread_id, text) as stream:
        for event in stream:
            if event["type"] == "message:token":
                work.end()
                answer += event["token"]
                show(event["token"])
            elif event["type"] == "message:failed":
                fault = f"the agent failed: {cast('Any', event).get('error')}"
    return answer, fault


class _Working:
    """Shows on a terminal that the agent works, and for how long, until its answer begins."""

    def __init__(self) -> None:
        self._live: Any = None
        self._began = time.monotonic()

    def __enter__(self) -> _Working:
        """Begin to show it, if standard error is a terminal."""
        screen = Console(sys.stderr)
        if screen.is_live:

            def render() -> Any:
                seconds = int(time.monotonic() - self._began)
                return screen.styled((f"the agent works, {in_short(seconds)}", "dim"))

            self._live = screen.live(render, transient=True)
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop showing it."""
        self.end()

    def end(self) -> None:
        """Stop showing it. Calling it twice is harmless."""
        if self._live is not None:
            self._live.stop()


def _show_nothing(_: str) -> None:
    """Ignore a piece of an answer that will be printed as a whole."""


class AnswerView:
    """A growing answer: rendered as Markdown on a terminal, else as plain text.

    As Markdown, a complete block, such as a paragraph, is printed once. Only the last block is
    drawn again with each piece.

    Attributes:
        text: the answer so far.

    """

    def __init__(self, screen: Console, lead: str) -> None:
        self.text: str = ""
        self._screen, self._lead = screen, lead
        self._live: Any = None
        self._rest = ""
        self._is_markdown = screen.is_live

    def add(self, piece: str) -> None:
        """Add a piece to the answer, and show it."""
        self.text += piece
        if not self._is_markdown:
            self._screen.stream(piece, self._lead)
            return
        self._screen.fit()
        terminal = self._screen.terminal
        if self._live is None:
            from rich.live import Live

            if self._lead:
                self._screen.line((self._lead.strip(), "bold"))
            self._live = Live(console=terminal, auto_refresh=False, transient=True)
            self._live.start()
        self._rest += piece
        done, self._rest = _whole_blocks(self._rest)
        if done:
            self._live.update("", refresh=True)
            terminal.print(_Markdown(done), end="\n")
            terminal.print()
        # Rows that have left the screen cannot be drawn again: a tall paragraph shows its end.
        self._live.update(_Markdown(self._rest, terminal.height - 1), refresh=True)

    def close(self) -> None:
        """Print the rest of the answer, and end its line."""
        if self._live is not None:
            self._live.update("")  # `stop` would draw a tall paragraph as a whole.
            self._live.stop()
            terminal = self._screen.terminal
            terminal.print(_Markdown(self._rest))
            if self._lead:
                terminal.print()
        elif not self._is_markdown:
            self._screen.end_stream()


class _Markdown:
    """Markdown from a server, rendered by rich: the last `rows` lines; by default, all lines.

    No control character of the text reaches the terminal, except the line feed.

    Markdown can express characters as entities, so the text is made printable before and after rich
    renders it.
    """

    def __init__(self, text: str, rows: int = sys.maxsize) -> None:
        self._text = printable_lines(text)
        self._rows = rows

    def __rich_console__(self, terminal: Any, options: Any) -> Iterator[Any]:
        from rich.markdown import Markdown
        from rich.segment import Segment

        # Hyperlinks would hide where they lead.
        markdown = Markdown(self._text, hyperlinks=False)
        # Rich leaves out HTML, and so words such as `<name>`, which answers have as placeholders.
        for token in markdown.parsed:
            if token.type == "html_block":
                token.type = "code_block"
            for child in token.children or ():
                if child.type == "html_inline":
                    child.type = "text"
        lines = terminal.render_lines(markdown, options, pad=False)
        while lines and _is_blank(lines[0]):  # A list begins with an empty line.
            del lines[0]
        while lines and _is_blank(lines[-1]):
            del lines[-1]
        for line in lines[-self._rows :]:
            for segment in line:
                if not segment.control:
                    yield Segment(printable_lines(segment.text), segment.style)
            yield Segment.line()


def _is_blank(line: Any) -> bool:
    return not any(segment.text.strip() for segment in line if not segment.control)


def _whole_blocks(text: str) -> Tuple[str, str]:
    """Return the complete blocks as one text, and the last block, which may grow.

    A block is complete when the next one begins: after an empty line outside of a code fence, with
    a line that is not indented. An indented line may continue an item of a list.
    """
    end, fence, at, is_after_empty = 0, "", 0, False
    for line in text.split("\n"):
        if is_after_empty and not fence and line.strip() and not line[0].isspace():
            end = at
        mark = line.lstrip()[:3]
        if mark in ("```", "~~~"):
            fence = "" if fence == mark else fence or mark
        is_after_empty = not line.strip()
        at += len(line) + 1
    return text[:end].rstrip("\n"), text[end:]
