"""Measure the speed of the SDK, beside what it stands on and what it replaces.

    python -m benchmarks [NAME ...] [--only ROW,ROW] [--quick] [--publish]

`catalogue.py` says what is measured, `targets.py` what must be reached, `workers/` does the work,
each peer in a virtual environment of its own. Nothing but Python has to be there.
"""
