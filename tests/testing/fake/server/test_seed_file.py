"""A seed file that is wrong changes nothing, and says where."""

from __future__ import annotations

import os
import sys
import threading

import anyio
import pytest

from flowmaestro import FlowMaestroClient, NotFoundError
from flowmaestro.testing import FakeFlowMaestro
from flowmaestro.testing.fake.server import seed_file
from flowmaestro.testing.fake.server.seed_file import SeedFile

GOOD = 'def seed(fake):\n    fake.workflow("wf_mine", outputs={"n": 1})\n'
HALF = (
    GOOD.replace("1}", "2}")
    + """    fake.workflow("wf_new")
    fake.add_key("fm_live_half_done")
    fake.fail_next(9)
    fake.rate_limit(per_minute=1)
    if "exec_abc" in [it.id for it in fake.executions] or fake.executions:
"""
)


@pytest.fixture
def world(tmp_path):
    """A fake, and a function that loads a text as its seed file."""
    path, fake = tmp_path / "my_flows.py", FakeFlowMaestro()
    seeds = SeedFile(str(path), fake)

    def load(text):
        path.write_text(text)
        return seeds.load().replace(str(path), "FILE")

    return fake, load


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HALF + "        1 / 0\n", "FILE, line 8: ZeroDivisionError: "),
        (HALF + "        raise BaseException('no')\n", "FILE, line 8: BaseException: no"),
        ("import sys\nsys.exit(3)\n", "FILE, line 2: SystemExit: 3"),
        ("import wrong_helper\n", "{helper}, line 1: SyntaxError: "),
        (GOOD + "    fake.workflow(7)\n", "FILE, line 3: "),
        (GOOD + '    fake.fail_next(path="/workflow")\n', "FILE, line 3: ValueError: path must be"),
        ("async " + GOOD, "FILE, line 1: TypeError: seed(fake) must be a plain function"),
        ("\n" + GOOD + "    yield\n", "FILE, line 2: TypeError: seed(fake) must be a plain"),
        ("def seed():\n    pass\n", "FILE, line 1: TypeError: seed() takes 0 positional arguments"),
        ("\0", "FILE: "),  # a `ValueError` before Python 3.12, now a `SyntaxError`
        ("seed = 1\n", "FILE: TypeError: the file has no function seed(fake)"),
    ],
)
def test_a_file_that_fails_leaves_the_last_good_seeds(world, tmp_path, monkeypatch, text, said):
    helper = tmp_path / "wrong_helper.py"
    helper.write_text("def x(\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    fake, load = world
    assert load(GOOD) == ""
    with FlowMaestroClient(fake.api_key, transport=fake.transport()) as client:
        client.workflows.run("wf_mine")  # an execution, which only this fake has
        assert load(text).startswith(said.format(helper=helper))
        assert client.workflows.run("wf_mine")["outputs"] == {"n": 1}
        with pytest.raises(NotFoundError):
            client.workflows.get("wf_new")
        assert client.workflows.list().rate_limit.limit > 1


def test_a_running_execution_keeps_its_workflow_when_that_is_replaced(world):
    fake, load = world
    load(GOOD)
    with FlowMaestroClient(fake.api_key, transport=fake.transport()) as client:
        execution_id = client.workflows.execute("wf_mine")["data"]["execution_id"]
        assert load(GOOD.replace("1}", "2}")) == ""
        ended = client.executions.wait_for_completion(execution_id)
        assert ended["outputs"] == {"n": 1}
        assert client.workflows.run("wf_mine")["outputs"] == {"n": 2}


def test_a_file_runs_once_and_what_it_prints_goes_to_standard_error(world, capsys):
    _, load = world
    assert load(GOOD + '    print("seeded")\n') == ""
    assert capsys.readouterr() == ("", "seeded\n")


def test_ctrl_c_ends_a_server_that_starts_and_only_the_file_later(tmp_path, monkeypatch):
    path, fake, told = tmp_path / "my_flows.py", FakeFlowMaestro(), []
    path.write_text(GOOD + "    raise KeyboardInterrupt\n")
    seeds = SeedFile(str(path), fake)
    with pytest.raises(KeyboardInterrupt):
        seeds.load()
    client = FlowMaestroClient(fake.api_key, transport=fake.transport())
    with client, pytest.raises(NotFoundError):
        client.workflows.get("wf_mine")
    os.utime(path, (1, 1))

    def tell(trouble):
        told.append(trouble)
        path.write_text(GOOD)
        os.utime(path, (2, 2))
        if not trouble:
            scope.cancel()

    async def main():
        nonlocal scope
        with anyio.CancelScope() as scope:
            await seeds.watch(tell)

    scope = None
    monkeypatch.setattr(seed_file, "LOOK_EVERY", 0)
    anyio.run(main)
    assert told == [f"{path}: KeyboardInterrupt", ""]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGALRM")
def test_a_file_that_does_not_end_is_interrupted_whatever_it_catches(world, monkeypatch):
    _, load = world
    monkeypatch.setattr(seed_file, "LONGEST_RUN", 60)
    # The file raises the alarm itself: a short limit could end before a busy machine is here.
    loop = (
        "import signal",
        "assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60",
        "while True:",
        "    try:",
        "        signal.raise_signal(signal.SIGALRM)",
        "    except Exception:",
        "        pass",
    )
    said = load(GOOD + "".join(f"    {line}\n" for line in loop))
    assert said.startswith("FILE, line ")
    assert said.endswith(": SeedTimeout: it took longer than 60 s")


def test_in_another_thread_a_file_is_loaded_without_a_limit(world):
    _, load = world
    said = []
    thread = threading.Thread(target=lambda: said.append(load(GOOD)))
    thread.start()
    thread.join()
    assert said == [""]


def test_seed_file_is_a_module_with_a_loader_while_it_runs(world):
    """Python 3.15 warns when something fails in a module without one."""
    _, load = world
    text = (
        "import sys\n"
        "assert sys.modules[__name__].__dict__ is globals()\n"
        "assert __spec__.loader is __loader__ is not None\n"
        "assert __file__ == __spec__.origin\n"
    )
    assert load(text + GOOD) == ""


def test_seed_file_leaves_neither_a_module_nor_bytecode_behind(world, tmp_path):
    _, load = world
    before = dict(sys.modules)
    assert load(GOOD) == ""
    assert sys.modules.keys() - before.keys() == set()
    assert [path.name for path in tmp_path.iterdir()] == ["my_flows.py"]
