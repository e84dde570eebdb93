"""`run`, `watch`, `cancel` and `fire`."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro.cli import run_view, runs, signals
from flowmaestro.cli.console import Console
from flowmaestro.cli.output import print_json, print_text
from flowmaestro.cli.run_view import LiveRunView, RunView
from flowmaestro.testing import FakeFlowMaestro, Node, running_server
from flowmaestro.testing.conformance.scripted_server import ScriptedServer, answering, reply
from flowmaestro.testing.fake.model.seeds import FAILING_WORKFLOW_ID, PAUSING_WORKFLOW_ID


@pytest.fixture
def drawn(monkeypatch):
    """Have executions drawn by rich; of its pictures only the last one is written."""

    def draw():
        monkeypatch.setattr(runs, "run_view", lambda **_: LiveRunView(Console(sys.stderr)))

    return draw


def test_run_prints_the_outputs_and_tells_the_events_on_stderr(command):
    done = command("run", "wf_123", "-i", "name=Ada")
    assert (done.status, done.out) == (0, '{"message": "Hello, Ada!"}\n')
    assert "node:completed  Compose greeting (0.20 s)" in done.err


def test_the_log_names_the_execution_and_repeats_nothing(command, fake):
    done = command("run", FAILING_WORKFLOW_ID)
    first, *lines, last, _ = done.err.splitlines()
    assert first == f"execution {fake.executions[-1].id}"
    assert not any("execution:progress" in line for line in lines)
    said = "Workflow completed with 1 failed nodes"
    assert (said in last, any(said in line for line in lines)) == (True, False)
    assert lines[-1].endswith("  execution:failed")
    fake.workflow("wf_empty", nodes=[])
    assert command("run", "wf_empty").err.startswith("execution ")


def test_run_with_json_prints_the_execution(command):
    done = command("run", "wf_123", "-i", "name=Ada", "--json")
    execution = json.loads(done.out)
    assert (execution["status"], execution["inputs"]) == ("completed", {"name": "Ada"})


def test_inputs_are_text_or_json_and_win_over_the_file(command, fake, tmp_path):
    file = tmp_path / "in.json"
    file.write_text('{"name": "Grace", "count": 1}')
    command("run", "wf_123", "--input-file", str(file), "-i", "count:=[2]", "-i", "more=a=b")
    fake.assert_executed("wf_123", inputs={"name": "Grace", "count": [2], "more": "a=b"})


def test_inputs_come_from_stdin(command, fake, monkeypatch):
    monkeypatch.setattr("sys.stdin.read", lambda: '{"name": "Ada"}', raising=False)
    assert command("run", "wf_123", "--input-file", "-").status == 0
    fake.assert_executed("wf_123", inputs={"name": "Ada"})


def test_a_failed_run_exits_1_and_names_the_node(command):
    done = command("run", FAILING_WORKFLOW_ID)
    assert (done.status, done.out) == (1, "")
    *_, failed, look = done.err.splitlines()
    assert "failed at the node Call service: " in failed
    assert 'failed nodes: {"call":"Activity task failed"}' in failed
    assert re.fullmatch(r"  look at it: flowmaestro get executions [0-9a-f-]{36}", look)


def test_a_node_that_failed_before_the_subscription_is_named_by_the_last_event():
    view = RunView(Console(io.StringIO()))
    view.show({"type": "execution:failed", "failed_node_id": "pay", "error": "Declined"})
    assert list(view.failed) == ["pay"]


def test_a_piped_text_is_whole_and_json_escapes_control_characters(capsys):
    print_text("one\ttwo\u200d\nthree")
    print_json({"all": "\x1b\x7f\x85\u202e\ud800\U000e0041"})
    assert capsys.readouterr().out == (
        'one\ttwo\u200d\nthree\n{"all": "\\u001b\\u007f\\u0085\\u202e\\ud800\\udb40\\udc41"}\n'
    )


def test_an_execution_that_lags_behind_its_last_event_is_polled_again(command, fake, lags_behind):
    asked = lags_behind(fake)
    done = command("run", "wf_123")
    assert (done.status, done.out) == (0, '{"message": "Hello, world!"}\n')
    assert len(asked) == 2


@pytest.mark.parametrize("fake", [["documented", "silent"]], indirect=True)
@pytest.mark.parametrize("live", [False, True])
def test_a_silent_server_is_watched_to_the_end(command, fake, drawn, live):
    if live:
        drawn()
    fake.workflow("wf_1", nodes=[Node("wait", seconds=90)], outputs={"a": 1})
    words = "this server sends no node events"
    execution_id = command("run", "wf_1", "--detach").out.strip()
    for done in (command("watch", execution_id), command("run", "wf_1")):
        assert (done.status, done.out) == (0, '{"a": 1}\n')
        *_, head, about, last = done.err.splitlines()
        if live:
            assert head == "wf_1  completed  1 m 30 s"
            assert about.startswith("execution ")
            assert last == words
        else:
            assert last.strip() == f"{words}; the execution took 1 m 30 s"
        assert "%" not in done.err  # it has no progress, either


@pytest.mark.parametrize("fake", [["documented", "silent"]], indirect=True)
def test_a_silent_server_is_polled_every_five_seconds(command, fake):
    fake.workflow("wf_1", nodes=[Node("wait", seconds=90)])
    command("run", "wf_1")
    times = [it.time for it in fake.requests if it.path.startswith("/executions/")]
    assert max(later - earlier for earlier, later in zip(times, times[1:])) <= 5.5


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        (b"", b"", "Hello"),
        (b'"name"', b'"Hello"', "execution EXECUTION"),
        (b'"workflow_id"', b'"wf_123"', "execution EXECUTION"),
    ],
)
def test_watching_an_ended_execution_shows_its_name_or_id_and_its_duration(
    command, fake, drawn, monkeypatch, field, value, name
):
    execution_id = command("run", "wf_123", "--detach").out.strip()
    command("watch", execution_id)
    handle = fake.handle

    def with_null(request, now):
        reply = handle(request, now)
        if field:
            reply.body = re.sub(field + b": ?" + value, field + b":null", reply.body)
        return reply

    monkeypatch.setattr(fake, "handle", with_null)
    drawn()
    done = command("watch", execution_id)
    assert done.status == 0
    *_, last = done.err.splitlines()
    assert f"{name.replace('EXECUTION', execution_id)}  completed  0.30 s" in done.err.splitlines()
    assert last == "its events were not followed"


def test_a_lost_connection_is_reported_once(command, fake):
    fake.workflow("wf_long", nodes=[Node("fetch", seconds=30), Node("send", seconds=60)])
    fake.drop_connection(after_events=4)
    fake.clock.call_later(9, lambda: fake.fail_next(3, 503, path="/executions/*/events"))
    _, *logged = command("run", "wf_long").err.splitlines()
    lines = [line.split(maxsplit=2)[2] for line in logged]
    at = lines.index("stream:lost  the connection is lost; trying again")
    assert lines[at + 1] == "stream:reconnected  the connection was lost and resumed"
    assert [line for line in lines if "lost" in line] == lines[at : at + 2]


def test_a_timeline_runs_until_the_timeout(command, fake, monkeypatch, tmp_path):
    clock = SimpleNamespace(monotonic=lambda: fake.clock.now)
    for module in (run_view, runs):
        monkeypatch.setattr(module, "time", clock)
    fake.workflow("wf_slow", name="Count to a million", nodes=[Node("wait", seconds=3600)])
    command("run", "wf_slow", "--timeout", "2", "--timeline", str(tmp_path / "a.svg"))
    drawn = (tmp_path / "a.svg").read_text()
    assert ">total ≥ 1.95 s, running<" in drawn
    assert f">Count to a million  {fake.executions[-1].id}  " in drawn


def test_a_long_node_name_is_shortened(command, fake):
    fake.workflow("wf_long", name="x" * 10_000, nodes=[Node("a", name="y" * 10_000)])
    assert len(command("run", "wf_long").err) < 1000
    assert len(command("list", "workflows").out) < 5000


def test_a_run_beyond_its_timeout_exits_124_and_continues(command, fake):
    fake.workflow("wf_slow", nodes=[Node("wait", seconds=3600)])
    done = command("run", "wf_slow", "--timeout", "2")
    assert (done.status, done.out) == (124, "")
    assert "  watch it:  flowmaestro watch " in done.err
    assert "the execution did not end within 2 s" in done.err
    done = command("run", "wf_slow", "--timeout", "2", "--json")
    assert done.out == ""
    assert json.loads(done.err.splitlines()[-1]) == {
        "error": {
            "code": "timed_out",
            "message": "the execution did not end within 2 s",
            "status": None,
            "request_id": None,
            "hint": None,
            "execution_id": fake.executions[-1].id,
        },
        "exit_status": 124,
    }


def test_only_json_repeats_the_id_in_the_message_of_a_failure(command, fake):
    fake.workflow("wf_bad", nodes=["a"], fails_at="a")
    error = json.loads(command("run", "wf_bad", "--json").err.splitlines()[-1])["error"]
    assert error["message"].startswith(f"the execution {fake.executions[-1].id} failed")
    assert "flowmaestro run: the execution failed" in command("run", "wf_bad").err


def test_json_is_indented_on_a_terminal(command, monkeypatch):
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)
    assert command("get", "workflows", "wf_123", "--json").out.startswith('{\n  "')
    assert command("get", "workflows", "wf_no", "--json").err.startswith('{\n  "error"')


def test_cancel_and_fire_print_the_execution(command, fake):
    fake.workflow("wf_slow", nodes=[Node("wait", seconds=3600)])
    execution_id = command("run", "wf_slow", "--detach").out.strip()
    assert command("cancel", execution_id).out == f"{execution_id} is cancelled\n"
    done = command("watch", execution_id)
    assert done.status == 1
    assert "was cancelled" in done.err
    assert "node events" not in done.err
    fired = command("fire", "trigger_abc123", "-i", "name=Ada", "--json")
    assert json.loads(fired.out)["execution_id"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ("run wf_123 -i name", 2, "-i name: write -i NAME=TEXT or -i NAME:=JSON"),
        ("run wf_123 -i n:={", 2, "-i n:='{': this is not JSON"),
        ("run wf_123 -i n:=NaN", 2, "-i n:='NaN': this is not JSON, which has no NaN"),
        (
            "run wf_123 -i name=@ada",
            2,
            "-i name=@ada: No such file or directory; a text that begins with @ is written @@ada",
        ),
        ("run wf_123 -i a=1 -i a:=2", 2, "-i a is given twice"),
        ("run wf_123 -i a:=@TMP/bad.json", 2, "bad.json: this is not JSON: "),
        ("run wf_123 -i a:=hello", 2, "; a text is written -i a=TEXT"),
        ("run wf_123 -i a:=@ada", 2, "-i a:=@ada: No such file or directory\n"),
        ("run wf_123 -i a=@TMP/latin", 2, "latin: it is not UTF-8"),
        ("run wf_123 -i a=@TMP", 2, "Is a directory"),
        ("run wf_123 --schema TMP/list.json", 2, "it must be a JSON object"),
        ("run wf_123 --schema TMP/schema.json", 2, "this is not a JSON Schema: properties must"),
        ("run ''", 2, "workflow_id must be an id, not ''"),
        ("watch --workflow ''", 2, "workflow_id must be an id, not ''"),
        ("watch", 2, "name one execution: its id, --last or --workflow"),
        ("watch x --last", 2, "name one execution: its id, --last or --workflow"),
        ("watch --last --workflow w", 2, "name one execution: its id, --last or --workflow"),
        (
            "run wf_123 --timeline no/such.svg",
            2,
            "'no/such.svg' is not a file that can be written and ends in .svg",
        ),
        ("run wf_123 --timeline a.svg --detach", 2, "--timeline cannot be combined with --detach"),
        ("run wf_123 --rerun", 2, "--rerun needs a --checkpoint"),
        ("run wf_123 --input-file absent.json", 2, "No such file or directory"),
        ("run wf_unknown", 3, "wf_unknown"),
        ("watch nope", 3, "nope"),
        ("cancel nope", 3, "nope"),
        ("run wf_123 --timeout 0", 2, "'0' is not a number of seconds above 0"),
        ("list executions --status bogus", 2, "invalid choice: 'bogus'"),
        (
            "list executions --status failed --status cancelled",
            2,
            "--status is given twice; the API filters by one status",
        ),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(command, fake, tmp_path, arguments, status, said):
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "latin").write_bytes(b"\xfc")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "schema.json").write_text('{"properties": []}')
    done = command(*shlex.split(arguments.replace("TMP", str(tmp_path))))
    assert (done.status, done.out) == (status, "")
    assert len(done.err.splitlines()) == 1
    assert said in done.err
    assert fake.executions == []


def test_a_spent_rate_limit_exits_5(command, fake):
    fake.fail_next(1, 429, path="/workflows/*/execute", retry_after=3600)
    done = command("run", "wf_123")
    assert done.status == 5
    assert "try again in 3600 s" in done.err


def test_a_refused_key_exits_4(here):
    with running_server(FakeFlowMaestro()) as url:
        done = here("run", "wf_123", "--base-url", url, "--api-key", "fm_live_wrong")
    assert (done.status, done.out) == (4, "")
    assert "doctor" in done.err
    assert "fm_live_wrong" not in done.err


def test_a_paused_or_ended_execution_cannot_be_cancelled(command, fake):
    execution_id = command("run", PAUSING_WORKFLOW_ID, "--detach").out.strip()
    fake.advance(fake.now + 60)
    ended = command("run", "wf_123", "--detach").out.strip()
    fake.advance(fake.now + 60)
    assert "; it has ended\n" in command("cancel", ended).err
    both = command("cancel", execution_id, ended).err
    assert "; it waits for a person, and can be cancelled once it runs on\n" in both


def test_an_empty_key_is_like_a_missing_one_and_line_ends_are_stripped(command, fake, monkeypatch):
    for value in ("", " \n"):
        monkeypatch.setenv("FLOWMAESTRO_API_KEY", value)
        done = command("list", "workflows")
        assert done.status == 4
        assert "there is no API key: FLOWMAESTRO_API_KEY is empty; run `flowmaestro" in done.err
    monkeypatch.setenv("FLOWMAESTRO_API_KEY", f"{fake.api_key}\n")
    assert command("list", "workflows").status == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [(["run", "wf_123"], "null"), (["fire", "trigger_abc123", "--json"], '""')],
)
def test_a_start_whose_response_names_no_execution_fails(command, fake, monkeypatch, words, named):
    handle = fake.handle

    def without_id(request, now):
        reply = handle(request, now)
        if request.method == "POST":
            reply.body = f'{{"data": {{"execution_id": {named}}}}}'.encode()
        return reply

    monkeypatch.setattr(fake, "handle", without_id)
    done = command(*words)
    assert (done.status, done.out) == (1, "")
    assert "the server's response names no execution; one may have been started" in done.err
    assert "look with: flowmaestro list executions --since 5m" in done.err


@pytest.mark.parametrize("source", ["--api-key", "FLOWMAESTRO_API_KEY"])
def test_a_malformed_key_is_not_shown_and_its_source_is_named(here, monkeypatch, source):
    words = ["--api-key", "fm_live_ключ"] if source == "--api-key" else []
    monkeypatch.setenv("FLOWMAESTRO_API_KEY", "fm_live_ключ")
    done = here("list", "workflows", *words)
    assert done.status == 2
    assert done.err.startswith(
        f"flowmaestro list: the key from {source} must consist of visible ASCII characters"
    )
    assert "ключ" not in done.err


def test_a_base_url_without_a_scheme_is_quoted_with_the_remedy(here, monkeypatch):
    said = "'api.example.com' must be an http:// or https:// URL; write http://api.example.com\n"
    done = here("list", "workflows", "--base-url", "api.example.com", "--api-key", "fm_live_x")
    assert (done.status, done.err) == (2, f"flowmaestro list: --base-url {said}")
    assert here("doctor", "--base-url", "api.example.com").err.endswith(said)
    monkeypatch.setenv("FLOWMAESTRO_BASE_URL", "ftp://example.com")
    done = here("list", "workflows")
    assert done.err.startswith("flowmaestro list: FLOWMAESTRO_BASE_URL must be an http:// or ")
    secret = here("list", "workflows", "--base-url", "user:swordfish@example.com").err
    assert "swordfish" not in secret


def test_a_404_that_is_not_of_the_api_questions_the_base_url(here):
    script = answering(reply(b"<html>Not here</html>", status="404 Not Found"))
    with ScriptedServer(script) as server:
        done = here("list", "agents", "--base-url", server.url, "--api-key", "fm_live_x")
    assert done.status == 3
    doctor = f"`flowmaestro doctor --base-url {server.url}`"
    assert f"; is this the base URL of a FlowMaestro server? {doctor}" in done.err
    assert "shows all" not in done.err


def test_a_text_that_is_not_unicode_is_named_in_words(command):
    done = command("run", "wf_123", "-i", "name=\udcff")
    assert done.status == 2
    assert "-i name: this is not valid Unicode: it has bytes that are not UTF-8" in done.err
    done = command("run", "wf_123", "-i", 'name:=["\\ud800"]')
    assert "-i name: this is not valid Unicode" in done.err
    done = command("watch", "exec\udcff")
    assert "surrogate, which" not in done.err
    assert "is not valid Unicode" in done.err


def test_no_key_exits_4_and_no_server_exits_6(here):
    done = here("run", "wf_123")
    assert done.status == 4
    assert "there is no API key; run `flowmaestro login`, set FLOWMAESTRO_API_KEY" in done.err
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = here("cancel", "x", "--base-url", url, "--api-key", "fm_live_x")
    assert done.status == 6
    assert len(done.err.splitlines()) == 1
    assert f"[connection_error] {url[7:]}: could not send the request: " in done.err
    hint = f"`flowmaestro doctor --base-url {url}`, with the same --api-key, looks for the cause"
    assert f"(after 4 attempts); {hint}" in done.err
    assert "max_retries" not in done.err
    assert "fm_live_x" not in done.err


@pytest.fixture
def unignored_signals():
    """Start processes that get SIGHUP, although these tests may run under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("command", "name"),
    [("run", "SIGINT"), ("watch", "SIGHUP")],
)
@pytest.mark.usefixtures("unignored_signals")
def test_a_signal_ends_the_command_which_says_how_to_go_on(flowmaestro, command, name, tmp_path):
    """The signal comes while the command waits for an event.

    During an import, Python drops an exception of a signal handler, if the handler runs within a
    callback of the import system: the first event tells that all modules have been imported.
    """
    fake = FakeFlowMaestro()
    fake.workflow("wf_slow", nodes=[Node("wait", seconds=3600)])
    with running_server(fake) as url, FlowMaestroClient(fake.api_key, base_url=url) as client:
        which = "wf_slow"
        if command == "watch":
            which = client.workflows.execute("wf_slow")["data"]["execution_id"]
        where = ["--base-url", url, "--api-key", fake.api_key]
        path = tmp_path / "so_far.svg"
        process = subprocess.Popen(
            [*flowmaestro.command, command, which, *where, "--timeline", str(path)],
            env=flowmaestro.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert any("connected" in line for line in process.stderr)
        number = getattr(signal, name)
        process.send_signal(number)
        printed, said = process.communicate(timeout=60)
    (execution,) = fake.executions
    assert (process.returncode, printed) == (128 + number, "")
    assert said.splitlines()[-3:] == [
        "The execution is still running.",
        f"  watch it:  flowmaestro watch {execution.id} --base-url {url}",
        f"  cancel it: flowmaestro cancel {execution.id} --base-url {url}",
    ]
    assert execution.status in ("pending", "running")
    assert path.read_text("utf-8").startswith("<svg ")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGHUP")
def test_a_signal_that_was_ignored_at_the_start_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.stopped_by_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_at_once_is_ignored_and_a_later_one_is_not(monkeypatch):
    monkeypatch.setattr(signals, "REPEATED", 3600)
    before = signal.getsignal(signal.SIGTERM)
    with signals.stopped_by_signals():
        with pytest.raises(signals.Stopped) as stopped:
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.setattr(signals, "REPEATED", 0)
        with pytest.raises(signals.Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.status == 143
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("seconds", "interrupted", "status"), [(1, False, 1), (3600, False, 124), (3600, True, 130)]
)
def test_a_picture_that_cannot_be_written_replaces_no_other_failure(
    command, fake, tmp_path, seconds, interrupted, status
):
    fake.workflow("wf_slow", nodes=[Node("wait", seconds=seconds)])
    shown = KeyboardInterrupt if interrupted else None
    with (
        mock.patch.object(Path, "write_text", side_effect=OSError(28, "No space")),
        mock.patch.object(RunView, "show", side_effect=shown),
    ):
        path = str(tmp_path / "out.svg")
        done = command("run", "wf_slow", "--timeout", "9", "--json", "--timeline", path)
    document = json.loads(done.err.splitlines()[-1])
    assert (done.status, document["exit_status"]) == (status, status)
    assert "execution_id" in document["error"] or status == 1
    assert "No space" in done.err


def test_a_picture_that_cannot_be_written_loses_no_outputs(command, tmp_path):
    path = str(tmp_path / "out.svg")
    with mock.patch.object(Path, "write_text", side_effect=OSError(28, "No space", path)):
        done = command("run", "wf_123", "-i", "name=Ada", "--timeline", path)
    assert json.loads(done.out) == {"message": "Hello, Ada!"}
    assert done.status == 1
    assert done.err.endswith(f"flowmaestro run: {path}: No space\n")


def test_an_execution_whose_stream_fails_is_named(command, fake):
    fake.workflow("wf_slow", nodes=[Node("wait", seconds=3600)])
    execution_id = command("run", "wf_slow", "--detach").out.strip()
    fake.fail_next(4, 503, path="/executions/*/events")
    done = command("watch", execution_id)
    assert (done.status, done.out) == (1, "")
    assert f"  watch it:  flowmaestro watch {execution_id}" in done.err
    assert "did not end within" not in done.err


def test_a_start_whose_response_is_lost_names_the_list_of_executions(command, fake):
    fake.drop_connection(path="/workflows/*/execute")
    done = command("run", "wf_123", "--no-check")
    assert "(maybe processed)" in done.err
    listed = "it may have been started: `flowmaestro list executions --workflow wf_123`"
    assert listed in " ".join(done.err.split())
    assert len(fake.executions) == 1


def test_a_paused_run_shows_the_question_and_gives_no_advice_to_cancel(command):
    done = command("run", PAUSING_WORKFLOW_ID, "--timeout", "9")
    assert done.status == 124
    assert "The execution is paused: it waits for a person, who answers in FlowMaestro" in done.err
    assert "cancel it" not in done.err
    told = [line.partition(" s  ")[2] for line in done.err.splitlines()]
    assert "node:completed  Approve waits for a person" in told
    assert "execution:paused  Waiting for human review: Approve?" in told


def test_a_deleted_execution_gets_no_advice(command, fake):
    fake.workflow("wf_slow", nodes=[Node("wait", seconds=3600)])
    execution_id = command("run", "wf_slow", "--detach").out.strip()
    fake.fail_next(1, 404, path="/executions/*/events")
    done = command("watch", execution_id)
    assert done.status == 3
    assert "watch it" not in done.err


@pytest.mark.parametrize("fake", [["documented"]], indirect=True)
def test_a_strict_schema_refuses_inputs_before_anything_is_sent(command, fake):
    done = command("run", "wf_123", "-i", "name:=1")
    assert (done.status, done.out) == (2, "")
    assert "the input 'name' must be of type string; nothing was started" in done.err
    assert fake.executions == []
    assert command("run", "wf_123", "-i", "name:=1", "--no-check").status == 0


def test_an_execution_that_is_not_there_leaves_no_timeline(command, tmp_path):
    path = tmp_path / "out.svg"
    assert command("run", "wf_0", "--timeline", str(path)).status == 3
    assert command("watch", "exec_0", "--timeline", str(path)).status == 3
    assert not path.exists()
