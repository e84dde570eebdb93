"""`types`: the file of types of an account, and its comparison with the server."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from flowmaestro.testing import FakeFlowMaestro
from flowmaestro.testing.fake.model.executions import InputField
from flowmaestro.testing.fake.sample_runs import INVOICES_ID, add_invoices
from tests.harness.workflow_types.accounts import judge
from tests.harness.workflow_types.past_runs import add_runs, add_workflow, gets, only

FIELDS = {"email": InputField(required=True), "count": InputField("number")}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def file(folder):
    return folder / "workflows.py"


def keys_of(file, name):
    types = judge(file.read_text("utf-8"))[name]
    return set(types.__required_keys__), set(types.__optional_keys__)


def test_it_writes_a_file_and_says_what_is_in_it(command, fake, file):
    add_invoices(fake)
    done = command("types", "--out", "workflows.py")
    assert (done.status, done.out) == (0, "")
    assert done.err == (
        "workflows.py: 6 workflows, 5 inputs (5 as seen in the last 100 runs of each), 3 workflows "
        "without known inputs, 14 requests\n"
    )
    assert keys_of(file, "SendInvoiceInputs") == ({"customer", "amount"}, {"note"})
    assert judge(file.read_text("utf-8"))["SEND_INVOICE"] == INVOICES_ID
    before = file.read_bytes()
    assert command("types").status == 0
    assert file.read_bytes() == before


def test_ids_of_nodes_never_become_keys(command, file):
    command("types")
    assert "input1" not in file.read_text("utf-8")
    assert "Their labels on the server: Email." in file.read_text("utf-8")


@pytest.mark.parametrize("fake", [["documented"]], indirect=True)
def test_what_the_server_declares_wins_over_runs(command, fake, file):
    add_workflow(fake, "Ask", [{"other": 1}] * 30, inputs=FIELDS)
    done = command("types", "Ask", "--outputs")
    assert "1 workflow, 2 inputs (2 declared), 3 requests" in done.err
    assert keys_of(file, "AskInputs") == ({"email"}, {"count"})
    assert "The server declares them." in file.read_text("utf-8")


def test_only_the_named_workflows_are_made(command, fake, file):
    add_invoices(fake)
    assert command("types", "Send invoice", "wf_123").status == 0
    space = judge(file.read_text("utf-8"))
    assert [name for name in space if name.isupper()] == ["HELLO", "SEND_INVOICE"]
    assert gets(fake) == (1, 2, 2)
    assert command("types", "Send invoise").status == 3


def test_a_renamed_workflow_keeps_its_constant_until_forced(command, fake, file):
    add_invoices(fake)
    command("types")
    fake.workflow(INVOICES_ID, name="Bill a customer")
    fake.workflow("wf_new", name="Send invoice")
    command("types")
    space = judge(file.read_text("utf-8"))
    assert (space["SEND_INVOICE"], space["SEND_INVOICE_WFNEW"]) == (INVOICES_ID, "wf_new")
    command("types", "--force")
    space = judge(file.read_text("utf-8"))
    assert (space["BILL_A_CUSTOMER"], space["SEND_INVOICE"]) == (INVOICES_ID, "wf_new")


@pytest.mark.parametrize("text", ["", "print(1)\n", "# fmt: off\n"])
def test_a_file_of_others_is_overwritten_only_by_force(command, fake, file, text):
    file.write_text(text)
    done = command("types")
    assert (done.status, file.read_text()) == (2, text)
    assert "was not written by `flowmaestro types`; name another --out, or give --force" in done.err
    assert fake.requests == []
    assert command("types", "--force").status == 0
    assert judge(file.read_text("utf-8"))["HELLO"] == "wf_123"


def test_an_edited_file_is_overwritten_only_by_force(command, file):
    command("types")
    edited = file.read_text("utf-8").replace("    name: str\n", "    name: Name\n")
    file.write_text(edited, "utf-8")
    done = command("types")
    assert (done.status, file.read_text("utf-8")) == (2, edited)
    assert "not a file of types, or it was edited; give --force" in done.err
    assert command("types", "--force").status == 0


@pytest.mark.skipif(os.name != "posix", reason="files have no modes")
def test_a_link_and_the_permissions_of_a_file_stay(command, folder, file):
    target = folder / "target.py"
    command("types", "--out", "target.py")
    target.chmod(0o640)
    file.symlink_to(target)
    assert command("types").status == 0
    assert file.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert sorted(it.name for it in folder.iterdir()) == ["target.py", "workflows.py"]


PINS = """
[tool.flowmaestro.types."Send invoice"]
amount = "int"
note = { type = "Optional[str]", required = true }
customer = false

[tool.flowmaestro.types.wf_abc123]
customer_email = "str"
language = { type = "Literal['de', 'en']", required = false }

[tool.flowmaestro.types.Gone]
x = "str"
"""


def test_what_pyproject_sets_wins(command, fake, folder, file):
    add_invoices(fake)
    (folder.parent / "pyproject.toml").write_text(PINS)
    done = command("types")
    assert "3 as seen" not in done.err
    assert "4 set in pyproject.toml" in done.err
    assert 'no workflow in the file is called "Gone" (tool.flowmaestro.types)' in done.err
    assert keys_of(file, "SendInvoiceInputs") == ({"amount", "note"}, set())
    assert "    amount: int  # set in pyproject.toml\n" in file.read_text("utf-8")
    assert keys_of(file, "WelcomeACustomerInputs") == ({"customer_email", "name"}, {"language"})
    assert command("types", "--check").status == 0


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[tool.flowmaestro]\ntypes = 3", "tool.flowmaestro.types must be a table"),
        ("[tool.flowmaestro.types]\nHello = 3", "tool.flowmaestro.types.Hello must be a table"),
        ('[tool.flowmaestro.types."a b"]\nx = 3', 'types."a b".x must be a type such as "float"'),
        ('[tool.flowmaestro.types.a]\nx = {type="str",need=1}', "types.a.x must be a type"),
        ('[tool.flowmaestro.types.a]\nx = "Foo"', "types.a.x: 'Foo' is not a type such as str"),
        ("[tool", "pyproject.toml: "),
        ("\xff", "pyproject.toml: "),
    ],
)
def test_a_malformed_table_is_named(command, fake, folder, file, toml, said):
    (folder / "pyproject.toml").write_bytes(toml.encode("latin-1"))
    done = command("types")
    assert done.status == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert fake.requests == []
    assert not file.exists()


def large_account(fake: FakeFlowMaestro, runs: Any) -> None:
    """Give the fake 1,000 workflows with 1,000 runs; `runs` says which workflow each is of."""
    only(fake)
    ids = [fake.workflow(name=f"Flow {at}") for at in range(1000)]
    fake._forget_scripts()
    for at, of in enumerate(runs):
        add_runs(fake, ids[of], [{"name": "x"}], at=-86_400.0 + at)


def spread(at: int) -> int:
    """Return a workflow so that of 1,000 runs some have several, and a third has none."""
    return at * at * 7919 % 997


@pytest.mark.parametrize(
    "runs", [range(1000), [spread(at) for at in range(1000)]], ids=["even", "uneven"]
)
def test_a_thousand_workflows_with_a_thousand_runs_take_few_requests(command, fake, file, runs):
    large_account(fake, runs)
    done = command("types")
    assert done.status == 0
    count = int(re.search(r", (\d+) requests\n", done.err)[1])
    assert count == len(fake.requests) <= 40
    typed = len(set(runs))
    assert f"1000 workflows, {typed} inputs ({typed} as seen" in done.err


@pytest.fixture
def shared(fake, monkeypatch):
    """A fake of 60 workflows with runs, most of which the list of all executions hides."""
    only(fake)
    for at in range(60):
        add_workflow(fake, f"Flow {at}", [{"name": "x"}] * 3)
    fake._forget_scripts()
    listed = fake._dialect.list_executions

    def hiding(executions, query):
        if "workflow_id" not in query:  # Rows of other customers are newer than most.
            executions = executions[:20]
        return listed(executions, query)

    monkeypatch.setattr(fake._dialect, "list_executions", hiding)
    return fake


def test_runs_that_the_list_of_all_hides_are_read_singly(command, shared, file):
    done = command("types")
    assert "60 workflows, 60 inputs" in done.err
    assert re.match(r"this needs about \d\d requests\n", done.err)


def test_nothing_is_begun_that_the_key_has_too_few_requests_for(command, shared, file):
    shared.rate_limit(per_day=50)
    done = command("types")
    assert done.status == 5
    assert "this needs about 69 requests, and the key has 41 left today" in done.err
    assert not file.exists()


def test_without_the_right_to_read_runs_only_declared_inputs_are_known(command, fake, file):
    key = fake.add_key("fm_live_few", scopes=["workflows:read"])
    done = command("types", "--api-key", key)
    assert done.status == 0
    assert (
        "the key lacks the scope executions:read: only inputs that the server declares" in done.err
    )
    assert "5 workflows, 0 inputs, 5 workflows without known inputs" in done.err
    assert [it.path for it in fake.requests].count("/executions") == 1


def test_a_list_that_answers_500_costs_the_types_of_its_workflow_alone(command, fake, file):
    add_invoices(fake)
    fake._service.store_bad_inputs(fake.workflows["wf_123"], "it is not valid JSON")
    done = command("types", "wf_123", "Send invoice")
    assert done.status == 0
    assert 'the runs of "Hello" cannot be read: the server answers with status 500' in done.err
    space = judge(file.read_text("utf-8"))
    assert "HelloInputs" not in space
    assert set(space["SendInvoiceInputs"].__required_keys__) == {"amount", "customer"}


FAILURES = {
    "no key": ([], None, 4, "there is no API key"),
    "wrong key": (["--api-key", "fm_live_wrong"], None, 4, "key"),
    "no right": (["--api-key", "fm_live_few"], None, 4, "workflows:read"),
    "server": ([], lambda fake: fake.fail_next(99, 503, path="/executions"), 1, "503"),
    "all lists": ([], lambda fake: fake.fail_next(99, 500, path="/executions"), 1, "500"),
    "lost": ([], lambda fake: fake.drop_connection(times=99, path="/workflows/*"), 6, "doctor"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_one_line_and_leaves_the_file(command, fake, file, name, monkeypatch):
    command("types")
    before = file.read_bytes()
    fake.add_key("fm_live_few", scopes=["agents:read"])
    if name == "no key":
        monkeypatch.setenv("FLOWMAESTRO_API_KEY", "")
    if name == "wrong key":
        fake._keys._accepts_unknown = False
    words, arrange, status, said = FAILURES[name]
    for check in ([], ["--check"]):
        if arrange is not None:
            fault = arrange(fake)
        done = command("types", *words, *check)
        assert done.status == (2 if check else status), done.err
        assert said in done.err
        assert len(done.err.splitlines()) == 1
        assert file.read_bytes() == before
        if arrange is not None:
            fake.disarm(fault)


def test_a_folder_that_is_missing_is_said_before_anything_is_asked(command, fake):
    done = command("types", "--out", "no/workflows.py")
    assert done.status == 2
    assert "argument --out: 'no/workflows.py' is not a file that can be written" in done.err
    assert fake.requests == []


def test_check_needs_a_file(command, fake):
    done = command("types", "--check")
    assert (done.status, fake.requests) == (2, [])
    assert "workflows.py: No such file or directory" in done.err


def test_check_tells_what_is_safe_and_what_breaks(command, fake, file):
    add_invoices(fake)
    command("types")
    done = command("types", "--check")
    assert (done.status, done.out) == (0, "")
    assert done.err == "workflows.py: nothing has changed that could break a caller\n"
    add_runs(fake, INVOICES_ID, [{"customer": "c", "amount": 1, "copy": True}], at=0)
    fake.workflow(name="Refund")
    done = command("types", "--check")
    assert done.status == 0
    assert done.out == (
        "safe    SEND_INVOICE: input `copy` is new in the last run\n"
        'safe    the workflow "Refund" is new\n'
    )
    given = [{"customer": "c", "amount": 1, "currency": "EUR"}] * 40
    add_runs(fake, INVOICES_ID, given, at=10)
    fake._service.workflows.pop("wf_123")
    done = command("types", "--check")
    assert done.status == 1
    assert 'breaks  HELLO: the workflow "Hello" is gone\n' in done.out
    assert "workflows.py: " in done.err
    assert "run `flowmaestro types --out workflows.py`, and then your type checker" in done.err


def test_check_compares_outputs_if_the_file_has_them(command, fake, file):
    add_workflow(fake, "Out", [{"a": 1}] * 40, outputs={"url": "x"})
    command("types", "Out", "--outputs")
    add_runs(
        fake, judge(file.read_text("utf-8"))["OUT"], [{"a": 1}] * 40, at=0, outputs={"uri": "x"}
    )
    done = command("types", "--check")
    assert done.status == 1
    assert "breaks  OUT: output `url` is in none of the last 40 runs\n" in done.out
    assert "5 workflows" not in done.out


def test_check_compares_only_the_named_workflows(command, fake, file):
    add_invoices(fake)
    command("types")
    fake._service.workflows.pop("wf_123")
    assert command("types", "Send invoice", "--check").status == 0
    assert command("types", "--check").status == 1
