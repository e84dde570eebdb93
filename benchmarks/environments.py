"""A virtual environment for each peer, made when it is first needed and kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".benchmarks"

PACKAGES = {
    "ours": ("--editable", f"{ROOT}[aiohttp,requests,trio]"),
    "peer": ("flowmaestro==0.1.0", "sniffio==1.3.1"),  # without sniffio it is slower by a quarter
    "httpx": ("httpx==0.28.1", "httpx-sse==0.4.3"),
    "httpx2": ("httpx2==2.16.2",),  # needs Python 3.11
    "openai": ("openai==3.57.0",),
    "requests": ("requests==2.34.2",),
    "aiohttp": ("aiohttp==3.14.5",),
    "anyio": ("anyio==4.16.0", "h11==0.16.0", "trio==0.35.0"),
    "bare": (),
    "ec6f533": (f"flowmaestro[aiohttp,requests,trio] @ git+{ROOT.as_uri()}@ec6f533",),
    "52f1d423": (f"flowmaestro[aiohttp,requests,trio] @ git+{ROOT.as_uri()}@52f1d423",),
}
"""The packages of each environment. Peers are pinned, so that two runs compare the same.

Two hold this SDK as it was: at `ec6f533` events, and at `52f1d423` calls, cost least before. They
have the same packages as ours: with trio comes sniffio, which anyio then asks six times an event.
"""


def interpreter(name: str) -> Path:
    """Return the Python of the environment `name`. Make it if it is not as described."""
    folder = FOLDER / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    recipe = folder / "recipe.txt"
    wanted = "\n".join(PACKAGES[name])
    if name == "ours":
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        wanted += project.partition("\ndependencies = ")[2].partition("]")[0]
    if not recipe.exists() or recipe.read_text(encoding="utf-8") != wanted:
        print(f"making the environment of {name} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        if PACKAGES[name]:
            pip = [str(python), "-m", "pip", "install", "--quiet", *PACKAGES[name]]
            subprocess.run(pip, check=True)
        recipe.write_text(wanted, encoding="utf-8")
    return python
