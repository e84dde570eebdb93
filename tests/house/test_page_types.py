"""The Python blocks of the pages pass `mypy --strict` and pyright strict.

A page shows functions without annotations, which the checkers may not demand: `def show(event):`.
Nor do they have all the packages that blocks import: one that is missing is no finding.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

from tests.harness.contract import blocks as contract
from tests.harness.contract.checkers import Complaint, mypy, pyright
from tests.harness.house.pages import CONTRACT, PAGES, ROOT, Block, blocks_of

CHECKERS = {"mypy": mypy, "pyright": pyright}
EXAMPLES = ROOT / "transports" / "examples"
UNANNOTATED = (
    "# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators\n"
    "# mypy: allow-incomplete-defs\n"
    "# pyright: reportMissingParameterType=false, reportUnknownParameterType=false\n"
    "# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false\n"
    "# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false\n"
    "# pyright: reportUntypedFunctionDecorator=false, reportMissingTypeStubs=false\n"
)
MISSING = re.compile(r'(?:named|for|analyzing|Import) "(?!flowmaestro)(\w+)[\w.]*"')
"""How both checkers name a package that they do not have."""
OF_PACKAGES = {"import-not-found", "import-untyped", "reportMissingImports"}
BELOW_A_STORE = re.compile("(?s).*RedisStore")
"""A block that users put below the store for Redis, in one file."""
WITH_ENGINES = re.compile(r"(?m)^import (?:ray|dask|redis|psycopg)\b|^from (?:pyspark|limits) ")
"""What these packages make of a function cannot be seen without them. The sessions of the engines
and stores run these blocks, with the packages."""


def checked() -> List[Block]:
    found = [it for page in PAGES if page != CONTRACT for it in blocks_of(page)]
    return [
        it
        for it in found
        if it.info == "python"
        and not WITH_ENGINES.search(it.text)
        and not BELOW_A_STORE.match(it.text)
    ]


def as_module(block: Block) -> Tuple[str, int]:
    """Return the block's text with a client, if it uses one, and how many lines are before it."""
    given = contract.Block(0, "", block.line, block.text).is_given_a_client
    made = "import flowmaestro\nclient = flowmaestro.FlowMaestroClient()\n" if given else ""
    above = UNANNOTATED + made
    return above + block.text, above.count("\n")


def findings(checker: str, blocks: List[Block], folder: Path) -> List[str]:
    """Return what a checker says of blocks, with the page and the line of each finding."""
    origins: Dict[str, Tuple[Block, int]] = {}
    for number, block in enumerate(blocks):
        text, above = as_module(block)
        file = folder / f"{block.file}.py" if block.file else folder / f"block_{number}.py"
        if file.exists():  # Two pages may show a file of one name.
            file = folder / f"block_{number}.py"
        file.write_text(text, encoding="utf-8")
        origins[file.name] = block, above
    example = EXAMPLES / "asyncio_driver.py"
    (folder / example.name).write_text(example.read_text("utf-8"), "utf-8")
    found: List[str] = []
    for complaint in CHECKERS[checker](folder):
        if not is_of_a_missing_package(complaint):
            block, above = origins[complaint.file]
            place = Block(block.page, block.line + complaint.line - above - 1, "", "")
            found.append(f"{place} {complaint.text}")
    return found


def is_of_a_missing_package(complaint: Complaint) -> bool:
    return complaint.rule in OF_PACKAGES and MISSING.search(complaint.text) is not None


@pytest.mark.parametrize("checker", CHECKERS)
def test_blocks_of_pages_are_typed(checker: str, tmp_path: Path) -> None:
    blocks = checked()
    assert len(blocks) > 100
    assert findings(checker, blocks, tmp_path) == []


MISTAKES = [
    'run = client.workflows.run("wf_123")\nprint(run.outputs["message"])\n',
    "from flowmaestro import FlowMaestroClint\n",
    'print(client.workflows.run("wf_123").output)\n',
    'client.workflows.run(workflow="wf_123")\n',
]


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_mistake_in_a_block_is_found_at_its_line(checker: str, tmp_path: Path) -> None:
    page = ROOT / "README.md"
    blocks = [Block(page, 100 * n, "python", text) for n, text in enumerate(MISTAKES, start=1)]
    found = findings(checker, blocks, tmp_path)
    lines = {int(re.findall(r":(\d+) ", it)[0]) for it in found}
    assert lines == {101, 200, 300, 400}
