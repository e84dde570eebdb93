"""`completion`: the scripts, sourced in real shells."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time

import pytest

pytest.importorskip("shtab", reason="shtab is NOT INSTALLED")
from flowmaestro.cli import credentials, state

# What is typed, what is completed, and what is not.
LINES = [
    ("flowmaestro ma", "map", "mcp"),
    ("flowmaestro list exec", "executions", "workflows"),
    ("flowmaestro list executions --status comp", "completed", "failed"),
    ("flowmaestro help doc", "doctor", "demo"),
    ("flowmaestro completion zs", "zsh", "bash"),
    ("flowmaestro run wf_1 -o jsonl --timel", "--timeline", "--timeout"),
    ("flowmaestro run wf_1 --timeline pic", "picture.svg", "rows.csv"),
    ("flowmaestro run wf_1 --input-file ro", "rows.csv", "picture.svg"),
    ("flowmaestro run wf_1 --schema ro", "rows.csv", "picture.svg"),
    ("flowmaestro run wf_1 --checkpoint ro", "rows.csv", "picture.svg"),
    ("flowmaestro serve --seed ro", "rows.csv", "picture.svg"),
    ("flowmaestro map wf_1 ro", "rows.csv", "picture.svg"),
    ("flowmaestro map wf_1 rows.csv --out pic", "picture.svg", "rows.csv"),
]
BASH = r"""
source ./script
function=$(complete -p flowmaestro | sed 's/.*-F \([^ ]*\).*/\1/')
while IFS= read -r line; do
    read -ra COMP_WORDS <<< "$line"
    COMP_LINE=$line COMP_POINT=${#line} COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    "$function" flowmaestro "${COMP_WORDS[COMP_CWORD]}"
    echo "${COMPREPLY[*]}"
done
"""
FISH = "source ./script; while read -l line; string join -- ' ' (complete -C $line); end"


@pytest.fixture
def folder(here, tmp_path, request):
    """A folder with two files and the script of a shell, which must be installed."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is NOT INSTALLED")
    done = here("completion", shell)
    assert (done.status, done.err) == (0, "")
    (tmp_path / "script").write_text(done.out, "utf-8")
    for name in ("rows.csv", "picture.svg"):
        (tmp_path / name).touch()
    return tmp_path


def completed(folder, command, lines, path):
    """Return what a shell completes for each of the lines."""
    typed = "".join(f"{line}\n" for line in lines)
    environment = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=folder, input=typed, capture_output=True, text=True, timeout=60,
        env=environment,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("folder", "command"),
    [("bash", ["bash", "--norc", "-c", BASH]), ("fish", ["fish", "--no-config", "-c", FISH])],
    indirect=["folder"],
)
def test_bash_and_fish_complete_commands_choices_and_files_and_ids(folder, command, stub):
    found = completed(folder, command, [line for line, _, _ in LINES], str(stub))
    assert len(found) == len(LINES)
    for (line, wanted, other), words in zip(LINES, found):
        assert wanted in words.split(), line
        assert other not in words.split(), line
    for words in completed(folder, command, ID_LINES, str(stub)):
        # Fish adds a description after a tab.
        assert words.split("\t")[0].split() == ["wf_good-1"]
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize("folder", ["zsh"], indirect=True)
@pytest.mark.skipif(sys.platform == "win32", reason="types into a pseudo-terminal")
def test_zsh_completes_commands_choices_and_files_and_ids_and_runs_nothing(folder, stub):
    import pty

    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        path = f"{stub}{os.pathsep}{os.environ['PATH']}"
        os.environ.update(TERM="dumb", PS1="", HISTFILE="", PATH=path)
        os.execvp("zsh", ["zsh", "-fi"])
    try:
        source = "autoload -U compinit && compinit -u -D; source ./script; echo so''urced\n"
        os.write(terminal, source.encode())
        read_until(terminal, "sourced")
        for line, wanted, _ in (*LINES, *((line, "wf_good-1", "") for line in ID_LINES)):
            os.write(terminal, line.encode() + b"\t")
            read_until(terminal, f"{line.rpartition(' ')[0]} {wanted}")
            os.write(terminal, b"\x15")  # Deletes the line.
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)
    assert not (folder / "pwned").exists()


def read_until(terminal, text):
    """Read until the text is on the terminal, at most a minute."""
    seen, deadline = "", time.monotonic() + 60
    while text not in seen:
        ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"{text!r} did not come; there is {seen!r}"
        seen += os.read(terminal, 65536).decode("utf-8", "replace")


def test_a_narrow_terminal_does_not_change_the_script(here, monkeypatch):
    script = here("completion", "zsh").out
    monkeypatch.setattr("flowmaestro.cli.arguments.Lines.width", 40)
    assert here("completion", "zsh").out == script


def test_a_missing_package_is_named(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    done = here("completion", "bash")
    assert done.status == 1
    assert "completion: it needs shtab: pip install 'flowmaestro[cli]'" in done.err


HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "wf_$(touch pwned)",
    "wf_1;touch pwned",
    "wf_2 wf_3",
    "wf_*",
    "wf_" + "x" * 62,
    "wf_\x1b]0;title\x07",
    "wf_'\"",
    "",
]
"""Lines that are not ids."""
STUB = "#!/bin/sh\ncat <<'END'\n" + "\n".join([*HOSTILE, "wf_good-1", "other"]) + "\nEND\n"
"""A command `flowmaestro` that prints them, and two ids."""
ID_LINES = ("flowmaestro run wf_", "flowmaestro watch --workflow wf_", "flowmaestro cancel wf_")


@pytest.fixture
def stub(tmp_path):
    """A folder for PATH with a `flowmaestro` whose ids are hostile."""
    path = tmp_path / "bin"
    path.mkdir()
    (path / "flowmaestro").write_text(STUB, "utf-8")
    (path / "flowmaestro").chmod(0o755)
    return path


def ids(here, kind="workflows"):
    return here("__ids", kind).out.split()


def test_ids_of_earlier_commands_are_offered_for_their_server_and_profile(
    command, fake, monkeypatch, tmp_path
):
    monkeypatch.setenv("FLOWMAESTRO_API_KEY", fake.api_key)
    command("list", "workflows")
    run = command("run", "wf_abc123", "--detach").out.strip()
    assert ids(command)[0] == "wf_abc123"
    assert "wf_123" in ids(command)
    assert ids(command, "executions")[0] == run
    file = tmp_path / "state" / "flowmaestro" / "ids.json"
    assert "Hello" not in file.read_text()  # No names.
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("FLOWMAESTRO_BASE_URL", "https://other.example")
    assert ids(command) == []


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[]",
        "7",
        '{"PLACE": 7}',
        '{"PLACE": {"workflows": 7}}',
        '{"PLACE": {"workflows": [7, null, "$(id)", "a b", "", "a\\n"]}}',
    ],
    ids=lambda text: text[:40],
)
def test_a_damaged_file_offers_nothing_and_is_replaced(command, monkeypatch, tmp_path, text, fake):
    monkeypatch.setenv("FLOWMAESTRO_API_KEY", fake.api_key)
    file = tmp_path / "state" / "flowmaestro" / "ids.json"
    file.parent.mkdir(parents=True)
    file.write_text(text.replace("PLACE", credentials.place_without_key()))
    done = command("__ids", "workflows")
    assert (done.status, done.out, done.err) == (0, "", "")
    command("run", "wf_123", "--detach")
    assert ids(command) == ["wf_123"]


@pytest.mark.skipif(os.name != "posix", reason="files have no modes")
def test_a_file_that_others_may_write_offers_nothing(command, monkeypatch, tmp_path, fake):
    monkeypatch.setenv("FLOWMAESTRO_API_KEY", fake.api_key)
    command("run", "wf_123", "--detach")
    (tmp_path / "state" / "flowmaestro" / "ids.json").chmod(0o666)
    assert ids(command) == []


def test_the_newest_hundred_ids_of_twenty_places_are_kept(here):
    here("version")  # Sets the folder for state.
    for place in range(25):
        state.remember_ids(f"https://s{place} ", "executions", [f"e{place}"])
    state.remember_ids("https://s24 ", "executions", [f"n{number}" for number in range(150)])
    assert state.known_ids("https://s4 ", "executions") == []
    assert state.known_ids("https://s5 ", "executions") == ["e5"]
    newest = state.known_ids("https://s24 ", "executions")
    assert (len(newest), newest[0], newest[-1]) == (100, "n0", "n99")
