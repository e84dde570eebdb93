"""`login`, `logout`, `profiles`, and which key and server a command uses."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flowmaestro.cli import credentials, state
from flowmaestro.cli.arguments import build_parser
from flowmaestro_core.defaults import DEFAULT_BASE_URL
from flowmaestro_core.http.urls import api_root
from flowmaestro_transports.primitives.file_lock import open_lock_file

OTHER = "https://other.example"


class Ring(types.ModuleType):
    """A package `keyring` that keeps passwords in a dict."""

    def __init__(self):
        super().__init__("keyring")
        self.kept = {}
        self.errors = types.ModuleType("keyring.errors")
        for name in ("KeyringError", "NoKeyringError", "PasswordDeleteError"):
            setattr(self.errors, name, type(name, (Exception,), {}))

    def set_password(self, service, user, password):
        self.kept[service, user] = password

    def get_password(self, service, user):
        return self.kept.get((service, user))

    def delete_password(self, service, user):
        if self.kept.pop((service, user), None) is None:
            raise self.errors.PasswordDeleteError


def install(monkeypatch, ring):
    monkeypatch.setitem(sys.modules, "keyring", ring)
    monkeypatch.setitem(sys.modules, "keyring.errors", ring and ring.errors)


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch):
    """No test asks the keyring of the machine."""
    install(monkeypatch, None)


@pytest.fixture
def ring(monkeypatch):
    ring = Ring()
    install(monkeypatch, ring)
    return ring


@pytest.fixture
def login(command, fake, monkeypatch):
    """Runs `login` with a key in a pipe."""

    def run(*words, key=None):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{key or fake.api_key}\n"))
        return command("login", *words)

    return run


@pytest.fixture
def file(tmp_path):
    return tmp_path / "config" / "flowmaestro" / "profiles.json"


def used(*words):
    """Return the credentials of `doctor` with these arguments."""
    options = build_parser("doctor").parse_args(["doctor", *words])
    return credentials.credentials_of(options)


def test_login_keeps_the_key_in_a_private_file_without_a_keyring(login, command, file, fake):
    done = login("--base-url", OTHER)
    assert (done.status, done.out) == (0, "")
    said = f"profile default is for {OTHER}; its key is in {file}\n"
    assert done.err == f"the key goes to {OTHER}\n{said}"
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert used().base_url == OTHER
    assert used().api_key == fake.api_key


def test_login_keeps_the_key_in_the_keyring_and_not_in_the_file(login, command, file, fake, ring):
    assert login().err.endswith("its key is in the keyring\n")
    assert list(ring.kept.values()) == [fake.api_key]
    assert fake.api_key not in file.read_text()
    assert used().api_key == fake.api_key
    assert command("logout").status == 0
    assert ring.kept == {}
    assert used().api_key is None


def test_login_with_file_leaves_the_keyring_alone(login, file, fake, ring):
    login()
    assert login("--file").err.endswith(f"its key is in {file}\n")
    assert ring.kept == {}
    assert fake.api_key in file.read_text()


@pytest.mark.parametrize("kind", ["no backend", "a backend that keeps nothing"])
def test_login_without_a_usable_keyring_keeps_the_key_in_the_file(login, file, ring, kind):
    def refuse(*given):
        if kind == "no backend":
            raise ring.errors.NoKeyringError

    ring.set_password = refuse
    assert login().err.endswith(f"its key is in {file}\n")


def test_login_keeps_no_key_that_the_server_refuses(login, fake, file):
    fake.fail_next(1, 401, path="/workflows")
    done = login(key="fm_live_wrong")
    assert done.status == 4
    assert "fm_live_wrong" not in done.err
    assert not file.exists()


def test_login_keeps_a_key_that_may_not_read_workflows(login, fake):
    key = fake.add_key("fm_live_agents", scopes=["agents:read"])
    done = login(key=key)
    assert done.status == 0
    assert "may not read workflows" in done.err


def test_login_repeats_no_key_of_the_command_line(login):
    for words in (["fm_live_secret"], ["--api-key", "fm_live_secret"]):
        done = login(*words)
        assert done.status == 2
        assert "fm_live_secret" not in done.err
        assert "it asks for the key" in done.err


def test_login_says_that_a_key_of_the_environment_wins(login, monkeypatch):
    monkeypatch.setenv("FLOWMAESTRO_API_KEY", "fm_live_other")
    hint = "commands use that key; unset it, or give --profile default\n"
    assert login().err.endswith(f"FLOWMAESTRO_API_KEY is set, so {hint}")


def test_login_without_a_key_says_so(command, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    done = command("login")
    *_, last = done.err.splitlines()
    assert (done.status, last) == (4, "flowmaestro login: no key was given")


def test_ctrl_d_at_the_question_for_a_key_ends_its_line(command, monkeypatch):
    def at_end(prompt, stream):
        stream.write(prompt)
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", at_end)
    *_, last = command("login").err.splitlines()
    assert last == "flowmaestro login: no key was given"


def test_login_refuses_a_malformed_key_before_it_is_sent(login, fake, file):
    done = login(key="fm_live_a b")
    assert done.status == 2
    assert "flowmaestro login: the key must consist of visible ASCII" in done.err
    assert not fake.requests
    assert not file.exists()


@pytest.fixture
def asked(monkeypatch):
    """Sets what the user types at a terminal. Returns the list of the questions."""
    questions = []

    def arrange(*keys):
        left = list(keys)

        def answer(prompt, stream):
            questions.append(prompt)
            return left.pop(0)

        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        monkeypatch.setattr("getpass.getpass", answer)
        return questions

    return arrange


def test_a_terminal_is_asked_again_after_a_wrong_key(command, fake, asked):
    fake.fail_next(1, 401, path="/workflows")
    questions = asked("fm_live_a b", "fm_live_wrong", fake.api_key)
    done = command("login", "--base-url", OTHER)
    assert done.status == 0
    assert questions == [f"API key for {OTHER}: "] * 3
    assert done.err.count("; try again, or leave with Ctrl-D") == 2
    assert ".;" not in done.err
    assert "fm_live_wrong" not in done.err
    assert used().api_key == fake.api_key


def test_a_terminal_is_asked_for_three_keys_at_most(command, fake, asked, file):
    fake.fail_next(3, 401, path="/workflows")
    questions = asked(*["fm_live_wrong"] * 5)
    assert command("login").status == 4
    assert len(questions) == 3
    assert not file.exists()


@pytest.mark.parametrize("how", ["terminal", "pipe"])
def test_a_new_key_of_a_profile_goes_to_the_server_of_the_profile(
    login, command, fake, asked, monkeypatch, how
):
    login("--profile", "work", "--base-url", OTHER)
    monkeypatch.setenv("FLOWMAESTRO_BASE_URL", "https://evil.example")
    new, hosts, handle = fake.add_key("fm_live_new"), set(), fake.handle

    def note(request, now):
        hosts.add(urlsplit(request.url).hostname)
        return handle(request, now)

    monkeypatch.setattr(fake, "handle", note)
    if how == "terminal":
        asked(new)
        done = command("login", "--profile", "work")
    else:
        done = login("--profile", "work", key=new)
        assert done.err.startswith(f"the key goes to {OTHER}\n")
    assert f"profile work is for {OTHER}; " in done.err
    assert hosts == {"other.example"}
    assert used("--profile", "work").api_key == new


@pytest.mark.parametrize(
    ("words", "environment", "server"),
    [
        ("", {}, OTHER),
        ("", {"BASE_URL": "https://third.example"}, "https://third.example"),
        ("--base-url https://third.example", {}, "https://third.example"),
        ("--profile default --base-url https://third.example", {}, "https://third.example"),
        ("--profile new", {}, DEFAULT_BASE_URL),
        ("--profile new", {"BASE_URL": "https://third.example"}, "https://third.example"),
        ("", {"PROFILE": "default"}, OTHER),
    ],
)
def test_login_takes_the_first_server_that_is_set(login, monkeypatch, words, environment, server):
    login("--base-url", OTHER)
    for name, value in environment.items():
        monkeypatch.setenv(f"FLOWMAESTRO_{name}", value)
    assert login(*words.split()).err.startswith(f"the key goes to {server}\n")


def test_logins_at_once_lose_no_profile(login, file):
    login()
    names = [f"work{number}" for number in range(16)]
    start = threading.Barrier(len(names))

    def keep(name):
        start.wait()
        credentials.keep_profile(name, OTHER, "fm_live_1", in_file=True)

    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(keep, names))
    assert set(credentials.read_profiles()) == {"default", *names}
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_starts_at_once_lose_no_execution(here, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(state, "user_state_path", None)
    roots = [f"https://s{number}.example/api/v1" for number in range(16)]
    with ThreadPoolExecutor(len(roots)) as threads:
        list(threads.map(lambda root: state.remember_execution(root, "exec_1"), roots))
    assert [state.last_execution(root) for root in roots] == ["exec_1"] * len(roots)


def test_a_command_that_holds_the_lock_for_ever_is_told(login, file, monkeypatch):
    login()
    monkeypatch.setattr(state, "LONGEST_WAIT", 0.05)
    with open_lock_file(f"{file}.lock"):
        done = login()
    assert done.status == 1
    assert done.err.endswith(f"flowmaestro login: {file}: another command is changing it\n")


def test_a_symbolic_link_is_followed_and_no_key_is_left(login, command, file, tmp_path, fake):
    kept = tmp_path / "dotfiles" / "profiles.json"
    kept.parent.mkdir()
    kept.write_text("{}")
    file.parent.mkdir(parents=True)
    file.symlink_to(kept)
    login()
    assert file.is_symlink()
    assert fake.api_key in kept.read_text()
    (kept.parent / "profiles.json.new").write_text(fake.api_key)  # Left by a crash.
    assert command("logout").status == 0
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in left if fake.api_key in path.read_text()]


def test_a_link_to_a_device_does_not_replace_the_device(login, file):
    file.parent.mkdir(parents=True)
    file.symlink_to(os.devnull)
    done = login()
    assert done.status == 1
    assert not stat.S_ISREG(os.stat(os.devnull).st_mode)


def test_profiles_are_listed_without_their_keys(login, command, file, fake):
    assert command("profiles").err == "none; `flowmaestro login` makes one\n"
    login("--profile", "work", "--base-url", OTHER)
    assert command("profiles").out.split() == [
        *["name", "server", "key", "in", "work"],
        OTHER,
        str(file),
    ]
    (listed,) = json.loads(command("profiles", "--json").out)
    assert listed == {"name": "work", "base_url": OTHER, "key_in": str(file)}


WORK = ("fm_live_work", OTHER, "profile work", "profile work")


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ("", "", ("fm_live_default", DEFAULT_BASE_URL, "profile default", "profile default")),
        ("", "PROFILE=work", WORK),
        (
            "",
            "PROFILE=work API_KEY=fm_live_env",
            ("fm_live_env", DEFAULT_BASE_URL, "FLOWMAESTRO_API_KEY", "default"),
        ),
        ("--profile work", "API_KEY=fm_live_env BASE_URL=http://x PROFILE=default", WORK),
        (
            "--profile work --api-key fm_live_o",
            "API_KEY=fm_live_env BASE_URL=http://x",
            ("fm_live_o", OTHER, "--api-key", "profile work"),
        ),
        (
            "--profile work --api-key fm_live_o --base-url http://y",
            "",
            ("fm_live_o", "http://y", "--api-key", "--base-url"),
        ),
        (f"--profile work --base-url {OTHER}/", "", WORK),
        (
            "--base-url http://y",
            "API_KEY=fm_live_env BASE_URL=http://x",
            ("fm_live_env", "http://y", "FLOWMAESTRO_API_KEY", "--base-url"),
        ),
    ],
)
def test_key_and_server_come_from_the_first_source_that_has_them(
    login, monkeypatch, words, environment, expected
):
    login(key="fm_live_default")
    login("--profile", "work", "--base-url", OTHER, key="fm_live_work")
    for variable in environment.split():
        name, value = variable.split("=")
        monkeypatch.setenv(f"FLOWMAESTRO_{name}", value)
    found = used(*words.split())
    assert (found.api_key, found.base_url, found.key_source, found.url_source) == expected


@pytest.mark.parametrize("how", ["option", "variable", "option and --profile"])
def test_the_key_of_a_profile_goes_to_no_other_server(login, command, fake, monkeypatch, how):
    login("--base-url", OTHER)
    count = len(fake.requests)
    words = ["--base-url", "http://evil.example"] if "option" in how else []
    words += ["--profile", "default"] if "--profile" in how else []
    if how == "variable":
        monkeypatch.setenv("FLOWMAESTRO_BASE_URL", "http://evil.example")
    done = command("list", "workflows", *words)
    assert done.status == 4
    assert f"the key of profile default is for {OTHER}/api/v1, not for http://evil" in done.err
    assert len(fake.requests) == count


def test_an_edited_file_leads_no_key_of_the_keyring_to_another_server(login, command, file, ring):
    login("--base-url", OTHER)
    file.write_text(file.read_text().replace(OTHER, "http://evil.example"))
    done = command("list", "workflows")
    assert done.status == 4
    assert "the keyring has no key for profile default" in done.err


def test_a_profile_that_does_not_exist_is_told_with_those_that_do(login, command, monkeypatch):
    login("--profile", "work")
    done = command("list", "workflows", "--profile", "wrok")
    assert done.status == 2
    assert "--profile: there is no profile 'wrok'; there are work; " in done.err
    monkeypatch.setenv("FLOWMAESTRO_PROFILE", "wrok")
    assert "FLOWMAESTRO_PROFILE: there is no profile 'wrok'" in command("list", "workflows").err
    assert command("logout").status == 3


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"default": {}}', '{"default": {"base_url": "x"}}', "[" * 100_000],
    ids=lambda text: text[:30],
)
def test_a_malformed_file_is_one_line(command, file, text):
    file.parent.mkdir(parents=True)
    file.write_text(text)
    done = command("list", "workflows")
    assert done.status == 1
    assert done.err.startswith(f"flowmaestro list: {file} is malformed; correct it, or delete it")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("kind", ["locked", "missing", "hangs"])
def test_a_keyring_that_cannot_be_read_is_one_line(login, command, ring, monkeypatch, kind):
    def refuse(*given):
        if kind == "hangs":
            time.sleep(3)
        raise ring.errors.KeyringError("it is locked")

    login()
    ring.get_password = refuse
    monkeypatch.setattr(credentials, "KEYRING_TIMEOUT", 0.05)
    monkeypatch.setattr(credentials._use_keyring, "__defaults__", (0.05 if kind == "hangs" else 5,))
    if kind == "missing":
        install(monkeypatch, None)
    done = command("list", "workflows")
    said = {
        "locked": "the keyring cannot be read: it is locked",
        "missing": "the package keyring is missing: pip install 'flowmaestro[keyring]'",
        "hangs": "the keyring cannot be read: it did not answer within 0.05 s",
    }[kind]
    assert done.status == 4
    assert said in done.err
    assert len(done.err.splitlines()) == 1


@pytest.fixture
def locked(login, ring):
    """A keyring that was locked after a login."""

    def refuse(*given):
        raise ring.errors.KeyringError("it is locked")

    login()
    ring.get_password = ring.set_password = ring.delete_password = refuse
    return ring


LEFT = (
    "key may still be in the keyring (service flowmaestro, "
    f"user 'default at {api_root(DEFAULT_BASE_URL)}'): the keyring cannot be written: it is locked"
)


def test_a_key_can_be_kept_in_a_file_while_the_keyring_is_locked(login, locked, file):
    done = login("--file", key="fm_live_new")
    assert done.status == 0
    assert f"its key is in {file}\n" in done.err
    assert f"the former {LEFT}\n" in done.err
    assert used().api_key == "fm_live_new"


def test_logout_deletes_a_profile_whose_keyring_is_locked(command, locked, file):
    done = command("logout")
    assert done.status == 4
    assert done.err == f"flowmaestro logout: profile default is deleted, but its {LEFT}\n"
    assert json.loads(file.read_text()) == {}


def test_the_keyring_keeps_the_key_if_the_file_cannot_be_written(
    login, command, ring, file, monkeypatch
):
    def full(*given):
        raise OSError(28, "No space left on device")

    login()
    kept = dict(ring.kept)
    monkeypatch.setattr(credentials, "change_private", full)
    assert login("--file").status == 1
    assert command("logout").status == 1
    assert ring.kept == kept


def test_no_keyring_is_read_if_the_environment_has_a_key(login, command, fake, ring, monkeypatch):
    login()
    ring.get_password = None  # Calling it would fail.
    monkeypatch.setenv("FLOWMAESTRO_API_KEY", fake.api_key)
    assert command("list", "workflows").status == 0


def test_doctor_says_where_the_key_came_from(login, command):
    login("--profile", "work", "--base-url", OTHER)
    done = command("doctor", "--profile", "work")
    assert "a live key, from profile work" in done.out
    assert f"{OTHER} (profile work)" in done.out
    wrong = command("doctor", "--profile", "play")
    assert wrong.status == 2
    assert "--profile: there is no profile 'play'" in wrong.out


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_key_that_cannot_be_written_is_left_nowhere(login, file, monkeypatch, step, problem):
    def fail(*given):
        raise problem

    login(key="fm_live_first")
    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        assert login(key="fm_live_second").status != 0
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    assert used().api_key == "fm_live_first"


def test_the_profiles_are_on_the_disk_before_they_replace_the_old_ones(login, file, monkeypatch):
    steps = []
    for name in ("fsync", "replace"):
        work = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *given, do=work, name=name: [steps.append(name), do(*given)]
        )
    login()
    assert steps == ["fsync", "replace"]


def test_credentials_show_no_key():
    shown = repr(credentials.Credentials("fm_live_secret", OTHER, "--api-key", "default"))
    assert shown == f"<Credentials a key from --api-key for {OTHER}>"


@pytest.mark.parametrize("folder", [None, Path("~/.config/flowmaestro")])
def test_without_a_home_folder_login_asks_for_no_key(login, command, monkeypatch, tmp_path, folder):
    def no_home(*_, **__):
        if folder is None:
            raise RuntimeError("Could not determine home directory.")
        return folder

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(state, "user_config_path", no_home)
    monkeypatch.setattr(state, "user_state_path", no_home)
    done = login()
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "flowmaestro login: there is no folder to keep the profile in; "
        "set HOME or XDG_CONFIG_HOME to an absolute path\n"
    )
    assert sys.stdin.read().startswith("fm_live_")  # The key was not read.
    assert not Path("~").exists()
    assert command("profiles").err == "none; `flowmaestro login` makes one\n"
    assert command("profiles", "--json").out == "[]\n"
    assert command("run", "wf_123", "--detach").status == 0
    assert command("watch", "--last").status == 3
