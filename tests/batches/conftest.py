"""The harness is a folder of modules that tests import by their names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "harness"))
