"""Executes `examples/notebook.ipynb`, saves its outputs, and makes the page `docs/notebook.md`.

python docs/notebook.py            # after a change of what objects show
python docs/notebook.py --check    # exit 1 when it would change something
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, List, Optional, Sequence

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
PAGE = ROOT / "docs" / "notebook.md"
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOTE = "<!-- This page is generated: run `python docs/notebook.py` after a change. -->"


def executed() -> Any:
    """Return the notebook with new outputs; the service in it runs in virtual time."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for name in [name for name in os.environ if name.startswith("FLOWMAESTRO_")]:
        del os.environ[name]
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    for cell in notebook.cells:
        cell.metadata = {}  # when it was executed
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def page(notebook: Any) -> str:
    """Return the notebook as Markdown, with the HTML that its cells show."""
    parts: List[str] = []
    for cell in notebook.cells:
        is_code = cell.cell_type == "code"
        parts.append(f"```py3\n{cell.source}\n```" if is_code else cell.source)
        parts += [f"<div>{it.data['text/html']}</div>" for it in cell.get("outputs", ())]
    parts.insert(1, NOTE)
    return "\n\n".join(parts) + "\n"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line."""
    notebook = executed()
    made = {NOTEBOOK: nbformat.writes(notebook) + "\n", PAGE: page(notebook)}
    stale = [
        file
        for file, text in made.items()
        if ID.sub("", file.read_text(encoding="utf-8")) != ID.sub("", text)
    ]
    if "--check" in (sys.argv[1:] if argv is None else argv):
        for file in stale:
            print(f"{file.name} is out of date")
        return bool(stale)
    for file in stale:
        file.write_text(made[file], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
