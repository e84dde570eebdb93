"""The example's flow with shorter times, and without a checkpoint if `BARE` is set."""

from __future__ import annotations

import functools
import os
from typing import Any

from examples.engines import prefect_flow
from examples.engines.prefect_flow import report
from tests.engines.service import SETTLE_AFTER

__all__ = ["report"]

# The example has the default of 60 s.
shorter: Any = functools.partial(prefect_flow.Checkpoint, settle_after=SETTLE_AFTER)
setattr(prefect_flow, "Checkpoint", shorter)  # noqa: B010
if os.environ.get("BARE"):
    setattr(prefect_flow, "checkpoint_of", lambda name: None)  # noqa: B010
