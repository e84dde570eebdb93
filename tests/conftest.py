"""Hypothesis does not judge the speed of the machine that runs the tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "patient", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")
