"""The saved notebook is what its cells give. `nox -s docs` executes it in a kernel, too."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CELLS = json.loads((ROOT / "examples" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]


def shown_by(source, namespace):
    """Run a cell; the HTML of the expression at its end, if there is one."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), namespace)
    if last is None:
        return []
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
    return [value._repr_html_()]


def without_ids(texts):
    return [re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text) for text in texts]


def test_its_outputs_are_what_its_cells_give():
    namespace = {}
    outputs = 0
    for cell in CELLS:
        if cell["cell_type"] == "code":
            shown = shown_by("".join(cell["source"]), namespace)
            saved = ["".join(output["data"]["text/html"]) for output in cell["outputs"]]
            assert without_ids(shown) == without_ids(saved), "run `python docs/notebook.py`"
            outputs += len(saved)
    assert outputs > 5


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell["id"])
def test_its_page_has_each_cell(cell):
    page = (ROOT / "docs" / "notebook.md").read_text(encoding="utf-8")
    assert "".join(cell["source"]) in page
    for output in cell.get("outputs", ()):
        assert "".join(output["data"]["text/html"]) in page
