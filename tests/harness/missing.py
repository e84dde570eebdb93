"""An interpreter in which a package is not installed."""

from __future__ import annotations

import subprocess
import sys


def import_error_without(module: str, statement: str) -> str:
    """What the `ImportError` says that an import raises where `module` is not installed."""
    scene = f"""if 1:
        import sys
        sys.modules["{module}"] = None  # as if it were not installed
        try:
            {statement}
        except ImportError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", scene], check=True, capture_output=True, text=True)
    return done.stdout.strip()
