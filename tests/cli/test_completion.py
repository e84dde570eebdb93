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


def completed(folder, command):
    """Return what a shell completes for each of the lines."""
    typed = "".join(f"{line}\n" for line, _, _ in LINES)
    done = subprocess.run(
        command, cwd=folder, input=typed, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("folder", "command"),
    [("bash", ["bash", "--norc", "-c", BASH]), ("fish", ["fish", "--no-config", "-c", FISH])],
    indirect=["folder"],
)
def test_bash_and_fish_complete_commands_choices_and_files(folder, command):
    found = completed(folder, command)
    assert len(found) == len(LINES)
    for (line, wanted, other), words in zip(LINES, found):
        assert wanted in words.split(), line
        assert other not in words.split(), line


@pytest.mark.parametrize("folder", ["zsh"], indirect=True)
@pytest.mark.skipif(sys.platform == "win32", reason="types into a pseudo-terminal")
def test_zsh_completes_commands_choices_and_files(folder):
    import pty

    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ.update(TERM="dumb", PS1="", HISTFILE="")
        os.execvp("zsh", ["zsh", "-fi"])
    try:
        source = "autoload -U compinit && compinit -u -D; source ./script; echo so''urced\n"
        os.write(terminal, source.encode())
        read_until(terminal, "sourced")
        for line, wanted, _ in LINES:
            os.write(terminal, line.encode() + b"\t")
            read_until(terminal, f"{line.rpartition(' ')[0]} {wanted}")
            os.write(terminal, b"\x15")  # Deletes the line.
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)


def read_until(terminal, text):
    """Read until the text is on the terminal, at most a minute."""
    seen, deadline = "", time.monotonic() + 60
    while text not in seen:
        ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"{text!r} did not come; there is {seen!r}"
        seen += os.read(terminal, 65536).decode("utf-8", "replace")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_narrow_terminal_does_not_change_the_script(here, monkeypatch, shell):
    script = here("completion", shell).out
    monkeypatch.setattr("flowmaestro.cli.arguments.Lines.width", 40)
    assert here("completion", shell).out == script


def test_a_missing_package_is_named(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    done = here("completion", "bash")
    assert done.status == 1
    assert "completion: it needs shtab: pip install 'flowmaestro[cli]'" in done.err
