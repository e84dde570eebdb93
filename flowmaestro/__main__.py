"""`python -m flowmaestro`, and the console script `flowmaestro`."""

from __future__ import annotations

import sys

from flowmaestro.cli.entry import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
