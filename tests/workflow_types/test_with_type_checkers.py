"""Type checkers read a file of types, and report what is not of its types."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.harness.contract.checkers import mypy, pyright
from tests.harness.workflow_types.sample import TEXT

USE = """\
from typing import Optional
from flowmaestro import FlowMaestroClient
from workflows import GROSSE_MELDEN, NO_INPUTS, SEND_INVOICE, WORKFLOW_WF3

def use(client: FlowMaestroClient) -> Optional[str]:
    client.workflows.run(WORKFLOW_WF3, {"anything": 1})
    client.workflows.run(GROSSE_MELDEN, {"email": "a", "class": None, "status": "new"})
    client.workflows.run(GROSSE_MELDEN, {"email": "a", "status": "gone"})
    client.workflows.run(GROSSE_MELDEN, {"class": 3})
    client.workflows.run(NO_INPUTS, {"name": "Ada"})
    client.workflows.run(SEND_INVOICE, {"customer": "c", "amonut": 1, "note": None})
    run = client.workflows.run(SEND_INVOICE, {"customer": "c", "amount": 1, "note": None})
    return run.raise_for_status().outputs.get("url")
"""


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_file_is_accepted_and_a_misspelled_key_reported(checker: Any, tmp_path: Any) -> None:
    (tmp_path / "workflows.py").write_text(TEXT, "utf-8")
    (tmp_path / "use.py").write_text(USE, "utf-8")
    found = checker(tmp_path)
    assert {(it.file, it.line) for it in found} == {("use.py", at) for at in (8, 9, 10, 11)}
    said = " ".join(it.text for it in found if it.line == 11)
    assert re.search('"amonut" is an undefined|expected "SendInvoiceInputs', said)
