"""Ten thousand mixed operations on a network that cuts, delays, stalls and garbles.

    python -m tests.harness.chaos.soak --seed 1

Every transport does its share in plain and under TLS, against a fake server with a ledger of
what it really did, through a proxy that follows a plan. At the end the ledger is held against what
callers were told. Exits with 1 if anything was doubled, invented, left without an answer or leaked.

The seed determines which operations each worker does in which order and with which values, what
the proxy does to the connection of each number (fault, direction, byte offset, times), the
server's ids, and the numbers drawn for retries. It does not determine the speed of the
machine, and so not which operation uses which connection, which of several workers draws a
random number first, nor what a byte offset of an encrypted connection holds. With `--workers 1`
little but time is left to chance.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import List

from tests.harness.chaos.trial import WORKERS, Report, Trial, run_trial
from tests.harness.runners import RUNNERS


def trials(seed: int, operations: int, workers: int = WORKERS) -> List[Trial]:
    """Every transport in plain and under TLS, with `operations` between them."""
    kinds = [(name, tls) for name in RUNNERS for tls in (False, True)]
    share, rest = divmod(operations, len(kinds))
    return [
        Trial(name, tls, seed, share + (number < rest), world=number + seed, workers=workers)
        for number, (name, tls) in enumerate(kinds)
    ]


def line(report: Report) -> str:
    """What the network did in a trial, how operations ended, how long the slowest took."""
    kinds = Counter(one.task.kind for one in report.outcomes)
    left = sum(outcome.left for outcome in report.outcomes)
    slowest = max((one.seconds for one in report.outcomes), default=0.0)
    return (
        f"{report.trial.title}: {len(report.outcomes)} operations ({_counted(kinds)}), "
        f"errors: {_counted(report.errors)}, left {left}, claims {report.claims}, "
        f"requests {report.requests}, connections {report.connections}, "
        f"faults: {_counted(report.faults)}, violations {len(report.violations)}, "
        f"{report.seconds:.1f} s, slowest {slowest:.1f} s"
    )


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common()) or "none"


def main() -> int:
    """Run from the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="what the plan is drawn from")
    parser.add_argument("--operations", type=int, default=10_000, help="in all trials together")
    parser.add_argument("--workers", type=int, default=WORKERS, help="at once, in each trial")
    given = parser.parse_args()
    found = 0
    for trial in trials(given.seed, given.operations, given.workers):
        report = run_trial(trial)
        print(line(report), flush=True)
        for violation in report.violations:
            found += 1
            print(f"  VIOLATION {violation}", flush=True)
    print(f"seed {given.seed}: {given.operations} operations, {found} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
