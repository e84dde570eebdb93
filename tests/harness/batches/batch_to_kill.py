"""The batch that is killed: `batch_to_kill.py URL KEY JOURNAL ROWS RESULTS`.

It imports no more than it needs: it is started again after each kill.
"""

from __future__ import annotations

import json
import sys

from flowmaestro import FlowMaestroClient

WORKFLOW = "wf_dying"
SETTLE_AFTER = 0.5


def main(url: str, key: str, journal: str, rows: str, results: str) -> None:
    """The same call each time; each outcome is written down by its index."""
    with FlowMaestroClient(key, base_url=url) as client, open(results, "a") as file:
        for outcome in client.workflows.run_many(
            WORKFLOW,
            [{"n": number} for number in range(int(rows))],
            journal=journal,
            poll_interval=0.05,
            settle_after=SETTLE_AFTER,
            concurrency=8,
        ):
            file.write(json.dumps([outcome.index, outcome.ok, repr(outcome.error)]) + "\n")
            file.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
