"""Files of types: what they say, that strangers' texts do no harm in them, that tools agree."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowmaestro.workflow_types.evidence import types_of
from flowmaestro.workflow_types.names import names_of
from flowmaestro.workflow_types.read_back import is_ours, read_source
from flowmaestro.workflow_types.source import write_source
from tests.harness.workflow_types.accounts import ACCOUNTS, TEXTS, judge, source_of
from tests.harness.workflow_types.sample import ACCOUNT, ID, INVOICES, TEXT

ACCOUNTS_TRIED = int(os.environ.get("FLOWMAESTRO_ACCOUNTS", "60"))
"""The session `accounts` tries 10,000."""


def test_a_file_says_how_each_key_is_known() -> None:
    assert source_of(ACCOUNT) == TEXT


def test_equal_accounts_give_equal_files_in_any_order() -> None:
    shuffled = list(ACCOUNT)
    random.Random(4).shuffle(shuffled)
    names = names_of([(it.id, it.name) for it in ACCOUNT])
    assert write_source(shuffled, names) == write_source(ACCOUNT, names)


def test_a_file_is_an_ordinary_module_whose_constants_are_texts() -> None:
    space = judge(TEXT)
    assert (space["SEND_INVOICE"], space["WORKFLOW_WF3"]) == (ID, "wf_3")
    inputs = space["GrosseMeldenInputs"]
    assert inputs.__required_keys__ == {"email"}
    assert inputs.__optional_keys__ == {"class", "status"}
    assert set(get_type_hints(space["SendInvoiceInputs"], space)) == {
        *("amount", "amont", "currency", "customer", "note", "urgent"),
    }
    assert "as seen in its last 100 completed runs" in space["SendInvoiceInputs"].__doc__


@given(ACCOUNTS)
@settings(max_examples=ACCOUNTS_TRIED, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_hostile_account_gives_a_harmless_file(account: Any) -> None:
    source = source_of(account)
    space = judge(source)
    assert is_ours(source)
    texts = [value for name, value in space.items() if name.isupper()]
    assert sorted(texts) == sorted(it.id for it in account)
    read = read_source(source)
    assert {id: space[name] for id, name in read.constants.items()} == {id: id for id in texts}
    for workflow in account:
        found = read.workflows[workflow.id]
        for keys, again in ((workflow.inputs, found.inputs), (workflow.outputs, found.outputs)):
            if keys is not None and keys.known != "unknown":
                wanted = {name: replace(key, about="") for name, key in keys.by_name.items()}
                assert again is not None
                assert (again.by_name, again.known) == (wanted, keys.known)
                assert (again.runs, again.oldest, again.newest) == (
                    *(keys.runs, keys.oldest, keys.newest),
                )


def test_ten_thousand_workflows_make_one_file() -> None:
    account = [
        types_of({"id": f"wf_{at}", "name": "Send invoice"}, INVOICES[:2]) for at in range(10_000)
    ]
    space = judge(source_of(account))
    assert len([name for name in space if name.startswith("SEND_INVOICE")]) == 10_000


def test_a_reference_to_itself_or_to_thousands_ends() -> None:
    laughs = {f"d{at}": {"anyOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 20} for at in range(9)}
    schema = {
        "$defs": {**laughs, "d9": {"type": "string"}, "me": {"$ref": "#/$defs/me"}},
        "properties": {
            "laugh": {"$ref": "#/$defs/d0"},
            "me": {"$ref": "#/$defs/me"},
            "list": {"type": "array", "items": {"$ref": "#/properties/list"}},
        },
    }
    keys = types_of({"id": "wf", "name": "", "input_schema": schema}, []).inputs.by_name
    assert keys["laugh"].type == keys["me"].type == {"Any"}
    assert keys["list"].type == {"List[List[List[List[List[Any]]]]]"}


PLAIN = TEXT.split("# ruff: noqa\n")[1]


@pytest.mark.parametrize("source", [TEXT, PLAIN], ids=["file", "without-its-comments"])
def test_formatters_leave_a_file_unchanged(source: str, tmp_path: Any) -> None:
    """Each reads a file as it is, and one without the comments that keep them off."""
    file = tmp_path / "workflows.py"
    tools = [
        ("black", ["--quiet", "--check", "workflows.py"]),
        ("isort", ["--profile", "black", "--check", "workflows.py"]),
        ("ruff", ["format", "--isolated", "--check", "workflows.py"]),
        ("ruff", ["check", "--isolated", "--select", "E4,E7,E9,F,I", "workflows.py"]),
    ]
    there = [(tool, words) for tool, words in tools if find_spec(tool)]
    if not there:
        pytest.skip("black, isort and ruff are NOT INSTALLED")
    for tool, words in there:
        file.write_text(source, "utf-8")
        done = subprocess.run(
            [sys.executable, "-m", tool, *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, (tool, done.stdout, done.stderr)


@given(st.lists(st.tuples(TEXTS, TEXTS), unique_by=lambda it: it[0], max_size=6), TEXTS)
@settings(deadline=None)
def test_names_stay_when_another_workflow_comes_or_goes_or_is_renamed(
    rows: Any, other: str
) -> None:
    names = {id: name.constant for id, name in names_of(rows).items()}
    assert len(set(names.values())) == len(rows)
    for left in range(len(rows)):
        fewer = [*rows[:left], *rows[left + 1 :], ("the new one", other)]
        later = names_of([(id, f"{name} 2") for id, name in fewer], names)
        assert {id: later[id].constant for id, _ in fewer[:-1]} == {
            id: names[id] for id, _ in fewer[:-1]
        }


def test_names_are_readable_or_made_of_the_id() -> None:
    rows = [
        *(("wf_1", "Send invoice"), ("wf_2", "send-invoice!"), ("wf_3", "SendInvoice")),
        *(("wf_4", "2nd report"), ("wf_5", "Größe ändern"), ("0fa1-77", "請求書"), ("?", "請求書")),
        ("wf_6", "word " * 30),
    ]
    assert [name.constant for name in names_of(rows).values()] == [
        *("SEND_INVOICE", "SEND_INVOICE_WF2", "SENDINVOICE_WF3"),
        *("WORKFLOW_2ND_REPORT", "GROSSE_ANDERN", "WORKFLOW_0FA177", "WORKFLOW_8A8DE823"),
        "WORD_WORD_WORD_WORD_WORD_WORD_WORD_WORD_WORD",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x = (",
        "x: int = 3",
        '"""x\n"""\nA: WorkflowId[A] = WorkflowId("a")',
        "class A(B): pass",
    ],
)
def test_an_edited_file_is_refused(text: str) -> None:
    assert not is_ours(text)
    if text:
        with pytest.raises(ValueError, match="not a file of types"):
            read_source(text)
