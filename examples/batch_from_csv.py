"""Run a workflow for each row of a CSV file; after a crash, the same command continues.

    python examples/batch_from_csv.py customers.csv results.csv

Without arguments it does so with a small file of its own.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

from service import WORKFLOW, service

from flowmaestro import FlowMaestroClient

SAMPLE = "name\nAda\nBob\nCyd\n"


def main(source: Path, target: Path) -> None:
    """Read rows, run them, and write one result for each, in the order of the rows."""
    with source.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    results = [["", ""] for _ in rows]
    journal = target.with_suffix(".sqlite3")
    with FlowMaestroClient() as client:
        for outcome in client.workflows.run_many(WORKFLOW, rows, journal=journal):
            said = outcome.outputs if outcome.ok else outcome.error or outcome.execution["error"]
            results[outcome.index] = [outcome.execution_id or "", str(said)]
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*(reader.fieldnames or ()), "execution_id", "result"])
        writer.writerows([*row.values(), *result] for row, result in zip(rows, results))
    print(f"{len(rows)} rows in {target.name}")


if __name__ == "__main__":
    with service():
        if len(sys.argv) == 3:
            main(Path(sys.argv[1]), Path(sys.argv[2]))
        else:
            with tempfile.TemporaryDirectory() as folder:
                sample = Path(folder) / "customers.csv"
                sample.write_text(SAMPLE, encoding="utf-8")
                main(sample, sample.with_name("results.csv"))
