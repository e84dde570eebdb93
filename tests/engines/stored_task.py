"""What a task of RQ, Dramatiq or Ray does: a run whose checkpoint is in the store of the page.

Without a checkpoint if `BARE` is set.
"""

from __future__ import annotations

import functools
import os
from typing import Any, Optional

from flowmaestro import Checkpoint, FlowMaestroClient
from tests.engines.service import SETTLE_AFTER, WORKFLOW
from tests.engines.stores_driver import names_with


def checkpoint_of(task: str) -> Optional[Checkpoint]:
    """Return the checkpoint of one task, as the page makes it."""
    if os.environ.get("BARE"):
        return None
    names = names_with("class RedisStore", "def checkpoint_of")
    # The page has the default of 60 s.
    names["Checkpoint"] = functools.partial(Checkpoint, settle_after=SETTLE_AFTER)
    made: Checkpoint = names["redis_checkpoint"](task)
    return made


def report(task: str) -> Any:
    """Run the workflow of one task."""
    with FlowMaestroClient() as client:
        run = client.workflows.run(
            WORKFLOW, {"task": task}, timeout=600, checkpoint=checkpoint_of(task)
        )
    if run["status"] != "completed":
        raise RuntimeError(run["error"])
    return run["outputs"]
