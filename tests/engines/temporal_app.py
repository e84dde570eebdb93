"""A worker of the example with shorter times, and without a checkpoint if `BARE` is set."""

from __future__ import annotations

import asyncio
import functools
import os
from typing import Any

from examples.engines import temporal_activity
from tests.engines.service import SETTLE_AFTER

if __name__ == "__main__":
    # The example has the default of 60 s.
    shorter: Any = functools.partial(temporal_activity.Checkpoint, settle_after=SETTLE_AFTER)
    if os.environ.get("BARE"):
        shorter = lambda *_, **__: None  # noqa: E731
    setattr(temporal_activity, "Checkpoint", shorter)  # noqa: B010
    # Few slots, so that workflows still run when the last worker is killed.
    asyncio.run(temporal_activity.work(max_concurrent_activities=2))
