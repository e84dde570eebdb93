"""A batch on a store, which is killed: `KIND URL NAME ROWS RESULTS`.

Each outcome is a line of the file RESULTS.
"""

from __future__ import annotations

import json
import sys

from flowmaestro import FlowMaestroClient
from tests.engines.service import SETTLE_AFTER, WORKFLOW
from tests.engines.stores_driver import STORES


def main(kind: str, url: str, name: str, rows: int, results: str) -> None:
    with FlowMaestroClient() as client, open(results, "a") as file:
        for outcome in client.workflows.run_many(
            WORKFLOW,
            [{"task": f"{name} {number}"} for number in range(rows)],
            journal=STORES[kind](url, name),
            settle_after=SETTLE_AFTER,
        ):
            file.write(json.dumps([outcome.index, outcome.ok, repr(outcome.error)]) + "\n")
            file.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
