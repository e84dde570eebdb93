"""Lets the tests here import `stepping` and `properties`, which stand beside them.

Under pytest's importlib mode a test's own folder is not on the path.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
