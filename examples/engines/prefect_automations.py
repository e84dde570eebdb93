"""Make Prefect repeat flow runs whose process or worker died: it leaves them as they are otherwise.

pip install prefect

Run this once for each Prefect server. Set `PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30` where the workers
run: without heartbeats, a flow run whose worker died is `Running` for ever.
"""

from __future__ import annotations

from datetime import timedelta

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

HEARTBEAT = "prefect.flow-run.heartbeat"
ENDED = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
FLOW_RUNS = ResourceSpecification.model_validate({"prefect.resource.id": "prefect.flow-run.*"})


def switch_on(*, within: float = 90) -> None:
    """Create both automations. A flow run is dead if no heartbeat comes within so many seconds."""
    Automation(
        name="Flow runs without heartbeats have crashed",
        trigger=EventTrigger(
            after={HEARTBEAT},
            expect={HEARTBEAT, *ENDED},
            match=FLOW_RUNS,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=within),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat")],
    ).create()
    Automation(
        name="Flow runs that have crashed are run again",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match=FLOW_RUNS,
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[ChangeFlowRunState(state=StateType.SCHEDULED, message="run again")],
    ).create()


if __name__ == "__main__":
    switch_on()
