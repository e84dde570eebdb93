"""The job of the driver of RQ."""

from __future__ import annotations

from typing import Any

from rq import get_current_job

from tests.engines import stored_task


def report() -> Any:
    job = get_current_job()
    assert job is not None
    return stored_task.report(f"job {job.id}")
