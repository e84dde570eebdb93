"""Triggers: named ways to start a workflow."""

from __future__ import annotations

from dataclasses import dataclass

from flowmaestro.testing.model.executions import Workflow


@dataclass(frozen=True)
class Trigger:
    """One way to start one workflow; a disabled trigger refuses to be fired."""

    id: str
    name: str
    type: str
    workflow: Workflow
    created_at: float
    enabled: bool = True
