"""Names for workflows, the last execution, inputs from files, and filters of lists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from flowmaestro import FlowMaestroClient
from flowmaestro.cli import state
from flowmaestro.testing import FakeFlowMaestro, MemoryTransport, Node

UUID = "5f0a7c1e-1111-4222-8333-944445555666"


@pytest.fixture
def flows(fake):
    fake.workflow("wf_report_1", name="Nightly report")
    fake.workflow("wf_report_2", name="Nightly reports of all")
    fake.workflow("twin_1", name="Twin flow")
    fake.workflow("twin_2", name="Twin flow")
    fake.workflow(UUID, name="wf_report_1")
    return fake


@pytest.mark.parametrize(
    ("text", "workflow_id", "said"),
    [
        ("wf_report_1", "wf_report_1", ""),  # an exact id wins over a name
        ("Nightly report", "wf_report_1", "Nightly report is wf_report_1\n"),
        ("Nightly reports", "wf_report_2", "Nightly reports of all is wf_report_2\n"),
        ("wf_report_2", "wf_report_2", ""),
    ],
)
def test_a_workflow_is_found_by_id_name_or_beginning(command, flows, text, workflow_id, said):
    done = command("run", text, "--detach")
    assert (done.status, done.err) == (0, said)
    assert flows.executions[-1].workflow.id == workflow_id


def test_a_uuid_is_sent_without_a_look_up(command, fake):
    fake.workflow(UUID, name="Another")
    assert command("run", UUID, "--no-check", "--detach").status == 0
    assert not [request for request in fake.requests if request.path.endswith("/workflows")]


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        (
            "Twin flow",
            2,
            '2 workflows fit "Twin flow": twin_1 (Twin flow), twin_2 (Twin flow); give',
        ),
        ("Nightly", 2, '2 workflows fit "Nightly": wf_report_1 (Nightly report), wf_report_2'),
        ("Night", 3, 'there is no workflow "Night"; the beginning of a name needs at least 6'),
        ("nobody", 3, 'there is no workflow "nobody"; `flowmaestro list workflows` shows all'),
        ("nightly", 3, 'there is no workflow "nightly"; did you mean "Nightly report"?'),
        ("Nihgtly rep", 3, 'there is no workflow "Nihgtly rep"; did you mean "Nightly report"?'),
    ],
)
def test_a_name_that_does_not_fit_exactly_one_workflow_starts_nothing(
    command, flows, text, status, said
):
    done = command("run", text)
    assert (done.status, done.out, flows.executions) == (status, "", [])
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_five_of_many_workflows_that_fit_are_shown(command, fake):
    for number in range(7):
        fake.workflow(f"wf_{number}", name="Much alike")
    assert "wf_4 (Much alike) and 2 more; give the id" in command("run", "Much alike").err


@pytest.mark.parametrize("resource", ["workflows", "agents"])
def test_a_chosen_resource_without_a_name_is_not_announced(command, answer_with, resource):
    row = {"id": "abcdefghij", "name": None}
    answer_with({"data": [row]}, {"data": row})
    done = command("get", resource, "abcdefgh", "--json")
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out)["id"] == "abcdefghij"


@pytest.mark.parametrize("id", [{}, {"id": None}, {"id": ""}, {"id": 7}])
@pytest.mark.parametrize("words", [["run", "Hello"], ["chat", "Hello", "-m", "Hi"]])
def test_a_chosen_resource_without_an_id_is_an_unusable_response(command, answer_with, words, id):
    answer_with({"data": [{"name": "Hello", **id}]})
    done = command(*words)
    assert (done.status, done.out) == (1, "")
    kind = "workflow" if words[0] == "run" else "agent"
    said = f"The server's response has no text as the id of the {kind}; this API does not send"
    assert done.err == f"flowmaestro {words[0]}: [invalid_response] {said} such responses\n"


def test_map_get_list_and_watch_take_names(command, flows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("{}\n")
    assert command("map", "Nightly report", "rows.jsonl", "--out", "o.jsonl").status == 0
    (tmp_path / "o.jsonl").unlink()
    assert command("map", "wf_report_1", "rows.jsonl", "--out", "o.jsonl").status == 0
    assert len(flows.executions) == 1  # the journal has the id
    assert " wf_report_1\n" in command("get", "workflows", "Nightly report").out
    listed = command("list", "executions", "--workflow", "Nightly report", "-o", "jsonl").out
    assert json.loads(listed)["workflow_id"] == "wf_report_1"
    done = command("watch", "--workflow", "Nightly report")
    assert done.status == 0
    assert f"execution {flows.executions[0].id}\n" in done.err


class TestLastExecution:
    def test_watch_follows_what_run_and_fire_started(self, command, fake, tmp_path):
        none = command("watch", "--last")
        assert none.status == 3
        assert "no execution was started from this machine on this server; `flowm" in none.err
        first = command("run", "wf_123", "--detach").out.strip()
        assert f"execution {first}\n" in command("watch", "--last").err
        second = command("fire", "trigger_abc123").out.strip()
        assert f"execution {second}\n" in command("watch", "--last").err

    def test_the_file_has_no_key_and_is_for_the_user_alone(self, command, fake, tmp_path):
        execution_id = command("run", "wf_123", "--detach").out.strip()
        file = tmp_path / "state" / "flowmaestro" / "executions.json"
        known = json.loads(file.read_text())
        assert known == {"https://api.flowmaestro.io/api/v1": execution_id}
        if os.name == "posix":
            assert file.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("content", ["", "[]", '{"https://api.flowmaestro.io/api/v1": 1}'])
    def test_a_damaged_file_is_as_good_as_none(self, command, fake, tmp_path, content):
        folder = tmp_path / "state" / "flowmaestro"
        folder.mkdir(parents=True)
        (folder / "executions.json").write_text(content)
        assert command("watch", "--last").status == 3
        assert command("run", "wf_123", "--detach").status == 0
        assert command("watch", "--last").status == 0

    def test_a_file_that_cannot_be_read_is_not_replaced(self, command, fake, tmp_path, monkeypatch):
        def read(path, *given):
            if path.name == "executions.json":
                raise OSError(5, "Input/output error")
            return path.open().read()

        first = command("run", "wf_123", "--detach").out.strip()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_text", read)
            assert command("run", "wf_123", "--detach").status == 0
            assert command("watch", "--last").status == 3
        assert f"execution {first}\n" in command("watch", "--last").err

    def test_a_folder_that_cannot_be_written_stops_nothing(self, command, fake, tmp_path):
        (tmp_path / "state").write_text("a file")
        assert command("run", "wf_123").status == 0

    def test_without_platformdirs_there_is_a_folder_too(self, monkeypatch, tmp_path):
        monkeypatch.setattr(state, "user_state_path", None)
        for name in ("XDG_STATE_HOME", "LOCALAPPDATA", "HOME"):
            monkeypatch.setenv(name, str(tmp_path))
        state.remember_execution("root", "exec_1")
        assert state.last_execution("root") == "exec_1"
        assert str(state.state_folder()).startswith(str(tmp_path))

    @pytest.mark.parametrize(
        ("platform", "kind", "folder"),
        [
            ("linux", "state", ".local/state"),
            ("linux", "config", ".config"),
            ("darwin", "state", "Library/Application Support"),
            ("win32", "config", "AppData/Local"),
        ],
    )
    def test_without_platformdirs_the_folder_is_the_usual_one(
        self, monkeypatch, tmp_path, platform, kind, folder
    ):
        for name in ("user_state_path", "user_config_path"):
            monkeypatch.setattr(state, name, None)
        for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "LOCALAPPDATA"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HOME", "USERPROFILE"):
            monkeypatch.setenv(name, str(tmp_path))
        with monkeypatch.context() as patched:
            patched.setattr(sys, "platform", platform)
            assert state.user_folder(kind) == tmp_path / folder / "flowmaestro"


class TestInputs:
    def test_inputs_come_from_files_and_escaped_texts(self, command, fake, tmp_path):
        (tmp_path / "a.txt").write_text("größe\n", "utf-8")
        (tmp_path / "a.json").write_text('{"n": [1]}')
        words = ["-i", f"text=@{tmp_path}/a.txt", "-i", f"json:=@{tmp_path}/a.json"]
        command("run", "wf_123", *words, "-i", "name=@@ada", "-i", "mail=a@b")
        fake.assert_executed(
            "wf_123",
            inputs={"text": "größe\n", "json": {"n": [1]}, "name": "@ada", "mail": "a@b"},
        )

    def test_a_byte_order_mark_is_no_part_of_an_input(self, command, fake, tmp_path):
        (tmp_path / "a.txt").write_text("größe", "utf-8-sig")
        (tmp_path / "a.json").write_text("[1]", "utf-8-sig")
        words = ["-i", f"text=@{tmp_path}/a.txt", "-i", f"json:=@{tmp_path}/a.json"]
        assert command("run", "wf_123", *words).status == 0
        fake.assert_executed("wf_123", inputs={"text": "größe", "json": [1]})

    @pytest.mark.parametrize(
        ("kind", "word", "end"),
        [
            ("integer", "v=3", "; nothing was started; write -i v:=3\n"),
            ("array", "v=[1, 2]", "; nothing was started; write -i 'v:=[1, 2]'\n"),
            *(("number", f"v={it}", "; nothing was started\n") for it in ("NaN", "1e999")),
        ],
    )
    def test_a_text_of_a_wrong_type_hints_at_its_json_form(
        self, command, tmp_path, kind, word, end
    ):
        file = tmp_path / "schema.json"
        file.write_text(json.dumps({"properties": {"v": {"type": kind}}}))
        done = command("run", "wf_123", "-i", word, "--schema", str(file))
        assert done.status == 2
        assert done.err.endswith(f"must be of type {kind}{end}")

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locale")
    def test_a_locale_without_utf_8_changes_no_input(self, flowmaestro):
        code = "import sys; from flowmaestro.__main__ import _words; print(ascii(_words()))"
        ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", code, "-i", "name=日本", b"\xff"],
            env={**flowmaestro.environment, **ascii_only},
            capture_output=True,
            text=True,
        )
        assert done.stdout == "['-i', 'name=\\u65e5\\u672c', '\\udcff']\n"


class TestLists:
    def test_since_stops_at_the_first_older_execution(self, here, monkeypatch):
        now = time.time()
        fake = FakeFlowMaestro(epoch=now - 7200)
        with fake, fake.installed(), FlowMaestroClient() as client:
            client.workflows.execute("wf_123")
            fake.advance(fake.now + 7100)
            recent = client.workflows.execute("wf_123")["data"]["execution_id"]
            done = here("list", "executions", "--since", "30m", "-o", "jsonl")
            assert [json.loads(line)["id"] for line in done.out.splitlines()] == [recent]
            both = here("list", "executions", "--since", "3h", "-o", "jsonl").out
            assert len(both.splitlines()) >= 2

    @pytest.mark.parametrize("text", ["2", "h", "-1h", "2x", "nanh", ""])
    def test_a_duration_must_have_a_unit(self, command, text):
        done = command("list", "executions", f"--since={text}")
        assert done.status == 2
        assert "is not a duration; write 90s, 15m, 2h or 3d" in done.err

    def test_a_limit_may_be_larger_than_any_list(self, command):
        done = command("list", "workflows", "--limit", "9" * 30, "-o", "jsonl")
        assert (done.status, done.err) == (0, "")
        assert done.out

    def test_csv_has_the_columns_of_the_table_and_whole_times(self, command):
        command("run", "wf_123")
        head, line, *_ = command("list", "executions", "-o", "csv").out.splitlines()
        assert head == "id,status,started_at,duration,workflow_id"
        _, _, started, took, workflow = line.split(",")
        assert "T" in started
        assert float(took) > 0
        assert workflow == "wf_123"

    @pytest.mark.parametrize("may_read", [True, False])
    def test_a_terminal_shows_durations_and_the_names_of_workflows(
        self, command, fake, monkeypatch, may_read
    ):
        command("run", "wf_123")
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        if not may_read:
            fake.fail_next(1, 403, path="/workflows")
        table = re.sub(r"\x1b\[[0-9;]*m", "", command("list", "executions").out)
        head, line, *_ = table.splitlines()
        assert head.split() == ["id", "status", "started", "duration", "workflow"]
        shown = re.split("  +", line.strip())
        assert re.fullmatch(r"\d\.\d\d s", shown[3])
        assert shown[4] == ("Hello" if may_read else "wf_123")


def test_cancel_goes_on_after_an_execution_that_cannot_be_cancelled(command, fake):
    fake.workflow("wf_slow", nodes=[Node("wait", seconds=3600)])
    first, second = (command("run", "wf_slow", "--detach").out.strip() for _ in range(2))
    done = command("cancel", first, "exec_0", second)
    assert done.status == 1
    assert done.out == f"{first} is cancelled\n{second} is cancelled\n"
    assert (
        'exec_0: there is no id "exec_0"; check the id; `flowmaestro list executions`' in done.err
    )
    assert done.err.endswith("1 of 3 could not be cancelled\n")
    first, second = (command("run", "wf_slow", "--detach").out.strip() for _ in range(2))
    done = command("cancel", first, "", second, "--json")
    assert [reply["status"] for reply in json.loads(done.out)] == ["cancelled", "cancelled"]
    assert done.err.startswith("execution_id must be an id, not ''\n")
    assert json.loads(done.err.splitlines()[-1])["error"]["message"].startswith("1 of 3 could not")


@pytest.mark.parametrize(
    ("words", "which"), [(["run", "wf_123"], "--workflow wf_123 "), (["fire", "trigger_1"], "")]
)
def test_ctrl_c_during_the_start_says_how_to_look(command, words, which):
    send = MemoryTransport.send

    def interrupt_post(self, request, timeout):
        reply = send(self, request, timeout)
        if request.method == "POST":
            raise KeyboardInterrupt
        return reply

    with mock.patch.object(MemoryTransport, "send", interrupt_post):
        done = command(*words)
    assert (done.status, done.out) == (130, "")
    said = "interrupted; the execution may have been started; look with: flowmaestro list"
    *_, last = done.err.splitlines()
    assert last == f"flowmaestro {words[0]}: {said} executions {which}--since 5m"


def test_events_of_the_command_line_have_each_field_once(command):
    execution_id = command("run", "wf_123", "--detach").out.strip()
    done = command("watch", execution_id, "--json")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert (events[0]["type"], events[-1]["type"]) == ("connected", "execution:completed")
    for event in events:
        assert [key for key in event if key != key.lower()] == []
        assert not {"output", "duration", "percentage"} & event.keys()
        if event["type"] == "execution:completed":
            assert event["outputs"] == {"message": "Hello, world!"}
