"""Proof on Temporal's `ActivityEnvironment`: activities that die start their workflows once.

`python -m tests.engines.temporal_driver`

An activity is cancelled at a random moment and its attempt forgotten, as at the death of a worker.
The next attempt gets the details of the last beat that arrived; of every third activity, no beat of
the first attempt arrives.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import functools
import random
import sys
from typing import Any, Dict, List

from temporalio.testing import ActivityEnvironment

from examples.engines import temporal_activity
from tests.engines.service import SETTLE_AFTER, proved, report, service


async def attempt(number: int, count: int, details: List[Any], *, loses: bool, after: float) -> Any:
    """Make one attempt; return what was beaten, and the activity's result if it ended."""
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(
        environment.info,
        activity_id=str(number),
        attempt=count,
        heartbeat_details=details,
        scheduled_time=datetime.datetime.now(datetime.timezone.utc)
        - datetime.timedelta(seconds=60 * (count - 1)),
    )
    beaten = list(details)

    def on_heartbeat(*beat: Any) -> None:
        if not loses:
            beaten[:] = beat

    environment.on_heartbeat = on_heartbeat
    running = asyncio.ensure_future(environment.run(temporal_activity.report, f"customer {number}"))
    done, _ = await asyncio.wait([running], timeout=after)
    if done:
        return beaten, running.result()
    running.cancel()
    await asyncio.wait([running])
    return beaten, None


async def activity(number: int, rng: random.Random, deaths: List[int]) -> None:
    details: List[Any] = []
    for count in range(1, 5):
        after = rng.choice([0.05, 0.15, 0.4, 0.9]) if count < 3 else 120.0
        loses = number % 3 == 0 and count == 1
        details, result = await attempt(number, count, details, loses=loses, after=after)
        if result is not None:
            return
        deaths.append(number)
    raise AssertionError("it did not end")


def prove(name: str, tasks: int) -> Dict[str, int]:
    rng = random.Random(7)
    deaths: List[int] = []

    async def all_of_them() -> None:
        for first in range(0, tasks, 5):
            some = range(first, min(first + 5, tasks))
            await asyncio.gather(*(activity(number, rng, deaths) for number in some))

    with service(1.0) as fake:
        asyncio.run(all_of_them())
        return report(name, fake, tasks, len(deaths))


def main() -> None:
    tasks = 9 if "few" in sys.argv else 30
    checkpoint: Any = temporal_activity.Checkpoint
    temporal_activity.Checkpoint = functools.partial(  # type: ignore[assignment,misc]
        checkpoint, settle_after=SETTLE_AFTER
    )
    figures = prove("Temporal, activities that die", tasks)
    temporal_activity.Checkpoint = lambda *_, **__: None  # type: ignore[assignment,misc]
    prove("the same without a checkpoint", tasks)
    proved(figures)


if __name__ == "__main__":
    main()
