"""Hypothesis does not judge the speed of the machine that runs the tests, and tries few examples.

Continuous integration tries others each time.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "patient",
    settings.default,
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("patient")
