"""`map`: rows from a file, results to a file, and going on after a kill."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter

import pytest

from flowmaestro.cli import map as map_command
from flowmaestro.cli.output import csv_line
from flowmaestro.input_files import read_rows
from flowmaestro.testing import FakeFlowMaestro, Node, running_server
from flowmaestro.testing.fake.model.seeds import PAUSING_WORKFLOW_ID
from flowmaestro_transports.driving.journal import Journal


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("name,age\nAda,36\nGrace,85\n")
    return tmp_path


MAP = ["map", "wf_123", "rows.csv", "--out", "out.jsonl"]


def results(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_each_row_is_run_and_cells_are_text(command, rows):
    done = command(*MAP, "--json")
    assert done.status == 0
    found = sorted(results(rows / "out.jsonl"), key=lambda line: line["index"])
    assert [line["inputs"] for line in found] == [
        {"name": "Ada", "age": "36"},
        {"name": "Grace", "age": "85"},
    ]
    assert [line["outputs"]["message"] for line in found] == ["Hello, Ada!", "Hello, Grace!"]
    assert len(done.out.splitlines()) == 2
    *_, progress, last = done.err.splitlines()
    assert progress.startswith("2 of 2, 0 failed")
    assert re.fullmatch(r"✓ 2 rows completed in .* s; the results are in out\.jsonl", last)


def test_the_same_command_again_starts_nothing_and_writes_the_results_anew(command, fake, rows):
    command(*MAP)
    first = (rows / "out.jsonl").read_text()
    started = len(fake.executions)
    (rows / "out.jsonl").unlink()
    assert command(*MAP).status == 0
    assert sorted((rows / "out.jsonl").read_text()) == sorted(first)
    assert len(fake.executions) == started


class TestOrderOfResults:
    """Executions of rows 1, 2 and 3 take 60, 40 and 20 seconds: they end in the opposite order."""

    @pytest.fixture(autouse=True)
    def slow_rows(self, fake, rows):
        (rows / "rows.csv").write_text('name\nAda\n"two\nlines"\nCyd\n')
        order = ["Ada", "two\nlines", "Cyd"]
        fake.workflow(
            "wf_turned",
            nodes=[Node("wait", seconds=lambda inputs: 60 - 20 * order.index(inputs["name"]))],
            outputs=lambda inputs: {"word": f"{inputs['name']} ä"},
        )
        return order

    def found(self, file):
        if file.suffix == ".jsonl":
            return [line["inputs"]["name"] for line in results(file)]
        with open(file, encoding="utf-8-sig", newline="") as lines:
            return [line["name"] for line in csv.DictReader(lines)]

    @pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
    def test_a_finished_file_has_the_order_of_the_rows(self, command, rows, name, slow_rows):
        which = ["map", "wf_turned", "rows.csv", "--out", name]
        done = command(*which, "-o", "jsonl")
        assert done.status == 0, done.err
        ended = [json.loads(line)["row"] for line in done.out.splitlines()]
        assert ended == [3, 2, 1], "the rows of this test do not end in another order"
        assert self.found(rows / name) == slow_rows
        assert command(*which).status == 0  # It writes over the results of before.
        assert self.found(rows / name) == slow_rows
        assert not list(rows.glob(".flowmaestro-*"))

    def test_a_table_has_the_order_of_the_rows(self, command, rows):
        done = command("map", "wf_turned", "rows.csv", "--out", "out.jsonl", "-o", "table")
        assert re.findall(r"(?m)^(\d) ", done.out) == ["1", "2", "3"]

    def test_a_link_and_the_mode_of_the_file_are_kept(self, command, rows, slow_rows):
        os.symlink("real.csv", "out.csv")
        (rows / "ordinary").touch()
        assert command("map", "wf_turned", "rows.csv", "--out", "out.csv").status == 0
        assert os.path.islink("out.csv")
        modes = {(rows / name).stat().st_mode for name in ("real.csv", "ordinary")}
        assert len(modes) == 1
        assert self.found(rows / "real.csv") == slow_rows

    def test_a_file_that_cannot_be_replaced_stays_and_says_so(self, command, rows, monkeypatch):
        def refuse(*_):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "replace", refuse)
        done = command("map", "wf_turned", "rows.csv", "--out", "out.csv")
        assert done.status == 0
        assert "out.csv: its results stay in the order in which rows ended" in done.err
        assert "Operation not permitted" in done.err
        assert self.found(rows / "out.csv") == ["Cyd", "two\nlines", "Ada"]
        assert not list(rows.glob(".flowmaestro-*"))


def test_a_results_file_without_a_journal_is_not_overwritten(command, rows):
    (rows / "out.jsonl").write_text("precious")
    done = command(*MAP)
    assert (done.status, (rows / "out.jsonl").read_text()) == (2, "precious")
    assert "out.jsonl exists, but its journal out.jsonl.journal does not" in done.err


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            "Ada Mary Eve",
            "row 2 is not what the journal has; give --redo 2 to start the changed row",
        ),
        ("Ada Eve", "which has more rows, up to row 3; put the removed rows back\n"),
    ],
)
def test_results_are_kept_where_the_journal_is_of_other_rows(command, rows, names, said):
    (rows / "rows.csv").write_text("name\nAda\nGrace\nEve\n")
    command(*MAP)
    first = (rows / "out.jsonl").read_text()
    (rows / "rows.csv").write_text("\n".join(["name", *names.split()]))
    done = command(*MAP)
    assert done.status == 2  # the arguments do not fit each other
    assert "row 2 " in done.err
    assert said in done.err
    assert "redo=" not in done.err
    assert ("--redo" in done.err) == ("--redo" in said)
    assert (rows / "out.jsonl").read_text() == first


def test_rows_that_were_done_before_are_one_line(command, fake, rows):
    (rows / "rows.csv").write_text("name\n" + "".join(f"{number}\n" for number in range(8)))
    command(*MAP)
    with open(rows / "rows.csv", "a") as file:
        file.write("".join(f"{number}\n" for number in range(8, 20)))
    done = command(*MAP)
    first, second, *_, last, _ = done.err.splitlines()
    assert first == "8 rows were done before, 12 to go"
    assert second.startswith("9 of 20, 0 failed")
    assert last == "20 of 20, 0 failed"
    assert command(*MAP).err.startswith("20 rows were done before, 0 to go\n✓ 20 rows completed")


def test_results_that_cannot_be_opened_leave_no_open_journal(command, rows, monkeypatch):
    os.symlink("none/out.jsonl", "out.jsonl")
    run, batches = map_command._run, []
    monkeypatch.setattr(map_command, "_run", lambda *given: batches.append(given[0]) or run(*given))
    done = command(*MAP)
    said = "flowmaestro map: out.jsonl: No such file or directory\n"
    assert (done.status, done.err) == (1, said)
    assert repr(batches) == "[<RunOutcomes: closed, 0 of 2 done>]"


@pytest.mark.parametrize("bad", [False, True])
def test_rows_that_time_out_are_not_failures(command, fake, rows, bad):
    if bad:
        (rows / "rows.csv").write_text("name\nAda\nGrace\nMary\n")
    fake.workflow("wf_slow", nodes=[Node("wait", seconds=3600)])
    which = ["map", "wf_slow", "rows.csv", "--out", "out.jsonl", "--timeout", "5"]
    if bad:
        fake.fail_next(1, 422, path="/workflows/*/execute")
    done = command(*which)
    assert done.status == (1 if bad else 124)
    assert "2 of 2 rows still running after 5 s" in done.err or bad
    assert "repeat the same command to wait on" in done.err
    assert "--rerun" not in done.err
    assert "0 failed" in done.err
    statuses = [line["status"] for line in results(rows / "out.jsonl")]
    assert sorted(statuses)[-2:] == ["running"] * 2
    started = len(fake.executions)
    fake.advance(fake.now + 3600)
    assert command(*which).status == (124 if bad else 0)  # The refused row is started now.
    assert len(fake.executions) == started + bad


def test_a_paused_row_waits_for_a_person_and_is_no_failure(command, rows):
    which = ["map", PAUSING_WORKFLOW_ID, "rows.csv", "--out", "out.jsonl", "--timeout", "9"]
    done = command(*which)
    assert done.status == 124
    assert done.err.endswith(
        "2 of 2 rows still running after 9 s, 2 of them paused; see out.jsonl; "
        "repeat the same command to wait on\n"
    )
    assert [line["status"] for line in results(rows / "out.jsonl")] == ["paused"] * 2


def test_the_same_command_starts_a_corrected_row(command, fake, rows):
    fake.fail_next(1, 422, path="/workflows/*/execute")
    done = command(*MAP)
    assert "correct the refused rows: the same command starts them then" in done.err
    (refused,) = [line for line in results(rows / "out.jsonl") if line["status"] == "refused"]
    name = refused["inputs"]["name"]
    text = (rows / "rows.csv").read_text()
    (rows / "rows.csv").write_text(text.replace(name, "Mary"))
    assert command(*MAP).status == 0
    fake.assert_executed("wf_123", inputs={**refused["inputs"], "name": "Mary"})


def test_a_file_that_is_not_a_journal_is_refused_with_a_remedy(command, rows):
    (rows / "out.jsonl.journal").write_text("garbage")
    done = command(*MAP)
    assert (done.status, len(done.err.splitlines())) == (1, 1)
    assert done.err.endswith("; if it never was one, name another --out or --journal\n")
    assert not (rows / "out.jsonl").exists()


def test_full_disk_under_the_journal_advises_the_same_command(command, fake, rows, monkeypatch):
    """With another journal, every row would start again."""

    def write(journal, _):
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "_write", write)
        done = command(*MAP)
    assert done.status == 1
    remedy = "cannot be used: database or disk is full; make room, and run the same command again"
    assert done.err.endswith(f"{remedy}\n")
    assert command(*MAP).status == 0


@pytest.mark.parametrize("redo", ["2", "1, 2", "all"])
def test_redo_starts_changed_rows_again_and_no_others(command, fake, rows, redo):
    which = ["map", "wf_123", "rows.csv", "--out", "out.csv"]
    command(*which)
    started = len(fake.executions)
    (rows / "rows.csv").write_text("name,age\nAda,36\nMary,85\n")
    assert command(*which, "--redo", redo).status == 0
    assert len(fake.executions) - started == 1
    fake.assert_executed("wf_123", inputs={"name": "Mary", "age": "85"})
    assert command(*which).status == 0
    assert len(fake.executions) - started == 1


def test_rerun_starts_failed_rows_again(command, fake, rows):
    errors = iter([LookupError("Broke"), None])

    def outputs(inputs):
        error = next(errors, None)
        if error is not None:
            raise error
        return {"is": "there"}

    fake.workflow("wf_flaky", outputs=outputs)
    which = ["map", "wf_flaky", "rows.csv", "--out", "out.jsonl"]
    started = len(fake.executions)
    first, again = command(*which), command(*which)
    assert (first.status, again.status) == (1, 1)
    assert "1 of 2 rows did not complete; see out.jsonl; with --rerun, this command" in first.err
    assert {line["error"] for line in results(rows / "out.jsonl")} == {"LookupError: Broke", None}
    assert len(fake.executions) - started == 2
    assert command(*which, "--rerun").status == 0
    assert len(fake.executions) - started == 3
    assert {line["status"] for line in results(rows / "out.jsonl")} == {"completed"}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "rows.csv",
            "a,b\n1,2\n3\n",
            "rows.csv, row 2: 1 cell, but 2 columns: column 2 is missing",
        ),
        ("rows.csv", "a\n\n1,2\n", "rows.csv, row 2: 2 cells, but 1 column: column 2 has no name"),
        (
            "rows.csv",
            'a,b\n"1,",\'"\'\n"2\n,",x"\n1,"x"y\n',
            "line 5: ',' expected after '\"' in column 2",
        ),
        ("rows.csv", "a,,b\n", "rows.csv: column 2 has no name"),
        ("rows.csv", "a,b,a\n", "rows.csv: column 3 is named 'a' like another"),
        ("rows.csv", 'a\n"x\n', "rows.csv, line 2: unexpected end of data in column 1"),
        ("rows.jsonl", '{"a": 1}\n\n{"a"\n', "rows.jsonl, line 3: this is not JSON: "),
        ("rows.jsonl", '{"a"\n', "column 5"),
        ("rows.jsonl", "[1]\n", "rows.jsonl, line 1: it must be a JSON object"),
        ("rows.jsonl", '{"a": ' + "[" * 10**5, "rows.jsonl, line 1: this is nested too deeply"),
        ("rows.jsonl", '{"a": NaN}\n', "rows.jsonl, line 1: this is not JSON, which has no NaN"),
        ("rows.jsonl", '{"a": 1}\n{"a": -1e999}\n', "line 2: the number -1e999 is too large\n"),
        pytest.param(
            "rows.jsonl",
            '{"a": ' + "1" * 5000 + "}",
            "rows.jsonl, line 1: an integer of 5000 digits is too large\n",
            marks=pytest.mark.skipif(
                not hasattr(sys, "get_int_max_str_digits"),
                reason="this Python converts integers of any length",
            ),
            id="digits",
        ),
        ("rows.csv", "a;b\n1;2\n", "its one column is named 'a;b'; commas must separate columns"),
        ("rows.txt", "", "rows.txt must be a .csv, .tsv, .jsonl or .json file"),
        ("rows.csv", b"a\n\xff\n", "rows.csv: it is not UTF-8; save it as UTF-8"),
        ("rows.json", "{}", "rows.json: it must be a JSON array of objects"),
    ],
)
def test_malformed_rows_are_named_and_start_nothing(command, fake, rows, name, text, said):
    (rows / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    before = len(fake.executions)
    done = command("map", "wf_123", name, "--out", "out.jsonl")
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert len(fake.executions) == before
    assert not (rows / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("rows.csv --out no/out.jsonl", "--out: 'no/out.jsonl' is not a file that can be written"),
        ("rows.csv --out out --journal no/j", "'no/j' is not a file that can be written"),
        ("rows.csv --out .", "--out: '.' is not a file that can be written"),
        ("rows.csv --out ''", "--out: '' is not a file that can be written"),
        ("rows.csv --out out --journal ''", "--journal: '' is not a file that can be written"),
        ("rows.csv --out -", "--out: '-' is not a file that can be written"),
        ("rows.csv --out out --journal ./out", "must be three files"),
        ("rows.csv --out rows.csv --journal j", "must be three files"),
        ("absent.csv --out out", "absent.csv: No such file or directory"),
        ("rows.json --out out --delimiter ';'", "rows.json is JSON, which has no delimiter"),
        ("rows.csv --out out --columns a", "--columns is for results as CSV"),
        ("rows.csv --out out.csv --columns a,,b", "'a,,b' is not a list of names"),
        ("rows.csv --out out --redo 0", "--redo: '0' is not a list of rows; write 3, 3,17 or all"),
        ("rows.csv --out out --redo 1,x", "'1,x' is not a list of rows"),
        ("rows.csv --out out --redo 3", "--redo: there is no row 3 in rows.csv"),
    ],
)
def test_bad_arguments_are_named_and_leave_no_results(command, fake, rows, arguments, said):
    (rows / "rows.json").write_text("[]")
    done = command("map", "wf_123", *shlex.split(arguments))
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert fake.executions == []
    assert not list(rows.glob("out*"))


def test_a_cell_may_be_a_whole_document(command, fake, rows):
    (rows / "rows.csv").write_text("name\n" + "x" * 200_000 + "\n")
    assert command(*MAP).status == 0
    fake.assert_executed("wf_123", inputs={"name": "x" * 200_000})


def test_a_file_without_rows_is_reported_and_is_no_failure(command, rows):
    (rows / "rows.csv").write_text("name\n")
    done = command(*MAP)
    assert (done.status, done.out, done.err) == (0, "", "rows.csv has no rows\n")
    assert results(rows / "out.jsonl") == []


@pytest.mark.parametrize("fake", [["documented"]], indirect=True)
def test_a_strict_schema_refuses_a_row_before_anything_is_started(command, fake, rows):
    (rows / "schema.json").write_text('{"required": ["email"]}')
    before = len(fake.executions)
    which = ["map", "wf_123", "rows.csv", "--out", "out.jsonl", "--schema", "schema.json"]
    done = command(*which)
    assert (done.status, len(fake.executions)) == (2, before)
    assert "rows.csv, row 1: the input 'email' is missing; nothing was started" in done.err
    assert command(*which, "--no-check").status == 0


@pytest.mark.parametrize(("lost", "done"), [(1, 1), (2, 0)])
def test_rows_in_doubt_are_reported_before_the_pause(command, fake, rows, lost, done):
    fake.drop_connection(method="POST", path="/workflows/*/execute", times=lost)
    told = command(*MAP).err.splitlines()
    said = f"{done} of 2, 0 failed, {lost} may have been started, looking in (59|60) s"
    assert re.fullmatch(said, told[0])
    assert told[-2] == "2 of 2, 0 failed"


def test_ctrl_c_counts_running_executions_and_the_same_command_resumes(here, rows):
    fake = FakeFlowMaestro()
    fake.workflow("wf_slow", nodes=[Node("wait", seconds=3600)])

    def interrupt():
        # A poll shows that the command knows the execution.
        polled = set()
        while len(polled) < 2:
            time.sleep(0.02)
            polled = {it.path for it in fake.requests if "/executions/" in it.path}
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with running_server(fake) as url:
        which = ["map", "wf_slow", "rows.csv", "--out", "out.jsonl", "--settle-after", "1"]
        which += ["--base-url", url, "--api-key", fake.api_key]
        done = here(*which)
        assert (done.status, done.out) == (130, "")
        assert done.err == (
            "2 executions are still running; run the same command again to resume.\n"
        )
        fake.advance(fake.now + 3600)
        assert here(*which).status == 0
    assert [line["status"] for line in results(rows / "out.jsonl")] == ["completed"] * 2
    assert len(fake.executions) == 2


def test_a_hard_link_of_the_rows_is_not_overwritten(command, rows):
    os.link(rows / "rows.csv", rows / "out.csv")
    (rows / "journal").touch()
    done = command("map", "wf_123", "rows.csv", "--out", "out.csv", "--journal", "journal")
    assert done.status == 2
    assert "ROWS, --out and --journal must be three files" in done.err
    assert (rows / "rows.csv").read_text() == "name,age\nAda,36\nGrace,85\n"


def test_a_full_disk_names_the_file(command, rows):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    (rows / "out.jsonl").symlink_to("/dev/full")
    done = command(*MAP, "--journal", "j")
    assert done.status == 1
    said = "out.jsonl: No space left on device; run the same command again to resume\n"
    assert done.err.endswith(said)


@pytest.mark.parametrize(
    ("name", "text", "more"),
    [
        ("rows.tsv", "name\tage:=\nAda\t36\nGrace\t\n", []),
        ("rows.csv", "name;age:=\nAda;36\nGrace;\n", ["--delimiter", ";"]),
        ("rows.csv", "name\tage:=\nAda\t36\nGrace\t\n", ["--delimiter", "\\t"]),
        ("rows.json", '[{"name": "Ada", "age": 36}, {"name": "Grace"}]', []),
        ("-", '[{"name": "Ada", "age": 36}, {"name": "Grace"}]', []),
        ("-", '\ufeff{"name": "Ada", "age": 36}\n\n{"name": "Grace"}\n', []),
        ("-", "name,age:=\nAda,36\nGrace,\n", []),
    ],
)
def test_rows_come_in_every_form(command, fake, rows, monkeypatch, name, text, more):
    if name == "-":
        stdin = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="cp1252")
        monkeypatch.setattr("sys.stdin", stdin)
    else:
        (rows / name).write_text(text)
    done = command("map", "wf_123", name, "--out", "out.jsonl", *more)
    assert done.status == 0
    found = sorted(results(rows / "out.jsonl"), key=lambda line: line["index"])
    assert [line["inputs"] for line in found] == [{"name": "Ada", "age": 36}, {"name": "Grace"}]


def test_cells_have_the_types_that_the_schema_names(command, fake, rows):
    schema = {
        "properties": {
            "n": {"type": "integer"}, "f": {"type": ["number", "null"]}, "b": {"type": "boolean"},
            "l": {"type": "array"}, "s": {"type": "string"}, "m": {"type": ["string", "integer"]},
        }
    }  # fmt: skip
    (rows / "schema.json").write_text(json.dumps(schema))
    (rows / "rows.csv").write_text(
        'n,f,b,l,s,m,x\n007,-1.5,TRUE,"[1, 2]",1,2,3\n+10, ,false,[],,,\n'
    )
    which = ["map", "wf_123", "rows.csv", "--out", "o.jsonl", "--schema", "schema.json"]
    assert command(*which).status == 0
    found = sorted(results(rows / "o.jsonl"), key=lambda line: line["index"])
    assert [line["inputs"] for line in found] == [
        {"n": 7, "f": -1.5, "b": True, "l": [1, 2], "s": "1", "m": "2", "x": "3"},
        {"n": 10, "b": False, "l": [], "s": "", "m": "", "x": ""},
    ]
    (rows / "rows.csv").write_text("n\n1\n3,5\n".replace("3,5", '"3,5"'))
    done = command(*which[:4], "new.jsonl", *which[5:])
    assert done.status == 2
    assert "rows.csv, row 2, column 'n': '3,5' is not of type integer\n" in done.err


def test_csv_results_are_safe_in_a_spreadsheet_after_the_columns_of_the_sheet(command, fake, rows):
    fake.workflow("wf_odd", outputs=lambda inputs: {"größe": inputs["name"]})
    done = command("map", "wf_odd", "rows.csv", "--out", "out.csv", "-o", "csv")
    written = (rows / "out.csv").read_bytes()
    assert written.startswith(b"\xef\xbb\xbf")  # Excel takes the file for UTF-8.
    lines = sorted(written.decode("utf-8-sig").splitlines())
    assert lines[-1] == "name,age,execution_id,status,error,outputs"
    assert lines[0].startswith("Ada,36,")
    assert lines[0].endswith(',completed,,"{""größe"": ""Ada""}"')
    assert sorted(done.out.splitlines()) == lines


@pytest.mark.parametrize(
    "text", ["10%\r=cmd|' /C calc'!A0", "10%\r20%", "a\r\nb", "a\tb\x1b[2J\u202e", 'say "a, b"\n']
)
def test_a_text_is_one_unchanged_cell_of_a_csv_file(text):
    cells = ["1", text, ""]
    assert list(csv.reader(io.StringIO(csv_line(cells), newline=""))) == [cells]


@pytest.mark.parametrize("sign", [*"=+-@\t\r", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_a_text_that_a_spreadsheet_may_take_for_a_formula_is_quoted(sign):
    ((cell,),) = csv.reader(io.StringIO(csv_line([sign + "1"]), newline=""))
    assert cell == f"'{sign}1"


def test_one_json_document_or_a_table_shows_all_rows(command, rows):
    done = command("map", "wf_123", "rows.csv", "--out", "a.jsonl", "-o", "json")
    assert sorted(line["row"] for line in json.loads(done.out)) == [1, 2]
    done = command("map", "wf_123", "rows.csv", "--out", "b.jsonl", "-o", "table")
    head, *lines = done.out.splitlines()
    assert head.split() == ["row", "execution", "id", "status", "error", "outputs"]
    assert len(lines) == 2
    (rows / "rows.csv").write_text("name\n")
    assert command("map", "wf_123", "rows.csv", "--out", "c.jsonl", "-o", "json").out == "[]\n"


@pytest.mark.parametrize("fake", [("documented",)], indirect=True)
def test_failures_are_grouped_by_cause_apart_from_refused_rows(command, fake, rows):
    (rows / "rows.csv").write_text("name\n" + "".join(f"{number}\n" for number in range(60)))

    def outputs(inputs):
        if int(inputs["name"]) % 2:
            raise LookupError(f"card {inputs['name']} declined")
        return {}

    fake.workflow("wf_cards", outputs=outputs)
    fake.fail_next(3, 422, path="/workflows/*/execute")
    done = command("map", "wf_cards", "rows.csv", "--out", "out.jsonl")
    assert done.status == 1
    statuses = Counter(line["status"] for line in results(rows / "out.jsonl"))
    assert statuses["refused"] == 3
    text = " ".join(done.err.split())
    assert re.search(r"\d\d . .*card … declined.*, e.g. rows \d+, \d+, \d+ ", text)
    assert re.search(r" 3 . refused: .*, rows 1, 2, 3 ", text)
    assert "failed, 3 refused" in text


def test_blank_lines_before_the_names_of_the_columns_are_skipped(rows):
    (rows / "blank.csv").write_text("\n\r\nname,age\nAda,36\n")
    assert read_rows(str(rows / "blank.csv")) == [{"name": "Ada", "age": "36"}]


SHEET = "status;=SUM(A1);amount:=;note\n007;x;-5;=2+3\n8;y;;'\n"


@pytest.mark.parametrize("columns", [None, "total,note"])
def test_results_as_csv_have_the_columns_of_the_sheet_first(command, fake, rows, columns):
    fake.workflow("wf_sum", outputs={"total": 7, "note": [1], "other": "x"})
    (rows / "sheet.csv").write_text(SHEET)
    which = ["map", "wf_sum", "sheet.csv", "--delimiter", ";", "--out", "out.csv"]
    assert command(*which, *(["--columns", columns] if columns else [])).status == 0
    text = (rows / "out.csv").read_text("utf-8-sig")
    head, *found = csv.reader(io.StringIO(text), delimiter=";")
    added = ["execution_id", "flowmaestro.status", "error"]
    added += ["total", "flowmaestro.note"] if columns else ["outputs"]
    assert head == ["status", "'=SUM(A1)", "amount:=", "note", *added]
    first, second = sorted(found)
    assert first[:4] == ["007", "x", "-5", "'=2+3"]
    assert second[:4] == ["8", "y", "", "'"]
    ended = ["completed", ""]
    outputs = ["7", "[1]"] if columns else ['{"total": 7, "note": [1], "other": "x"}']
    assert first[5:] == [*ended, *outputs]


def test_rows_of_json_have_the_columns_of_all_inputs(command, rows):
    (rows / "rows.jsonl").write_text('{"name": "Ada"}\n{"age": 3, "name": "-x"}\n')
    assert command("map", "wf_123", "rows.jsonl", "--out", "out.csv").status == 0
    head, *found = csv.reader(io.StringIO((rows / "out.csv").read_text("utf-8-sig")))
    assert head == ["name", "age", "execution_id", "status", "error", "outputs"]
    assert sorted(line[:2] for line in found) == [["'-x", "3"], ["Ada", ""]]
