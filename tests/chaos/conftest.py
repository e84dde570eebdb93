"""The harness on the import path: sibling modules cannot be imported in importlib mode."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).with_name("harness")))
sys.path.append(str(Path(__file__).parents[1] / "faults" / "harness"))
