"""Have Prefect run flow runs again whose process or worker died: it leaves them as they are.

pip install 'prefect>=3.9'

Run one such process for each Prefect server, beside the workers, under a supervisor. Set
`PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30` where the workers run: a flow run without heartbeats is taken
for dead.

Automations could do this, too. But while it starts, the server loses events that they wait for.
Then a flow run stays `Crashed`, or one that has completed is run again. This process reads states.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Optional

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState
from prefect.events.filters import EventFilter
from prefect.states import Scheduled

DAY = timedelta(days=1)
STATES = {"type": {"any_": ["CRASHED", "PENDING", "RUNNING"]}}
UNFINISHED = FlowRunFilter(state=FlowRunFilterState.model_validate(STATES))


def sweep(client: SyncPrefectClient, within: timedelta) -> None:
    """Schedule each flow run that has neither begun a state nor sent a heartbeat `within` a time.

    Those that have been so for a day stay so.
    """
    now = datetime.now(timezone.utc)
    heartbeats = {"name": ["prefect.flow-run.heartbeat"]}
    since = {"since": (now - within).isoformat()}
    wanted = EventFilter.model_validate({"event": heartbeats, "occurred": since})
    page = client.read_events(wanted, limit=50)  # The server allows no more.
    alive = {event.resource.id for event in page.events}
    while page.next_page:
        page = client.read_events_page(str(page.next_page))
        alive.update(event.resource.id for event in page.events)
    offset = 0
    while runs := client.read_flow_runs(flow_run_filter=UNFINISHED, offset=offset):
        offset += len(runs)
        for run in runs:
            quiet = now - run.state.timestamp if run.state else DAY
            if within < quiet < DAY and f"prefect.flow-run.{run.id}" not in alive:
                client.set_flow_run_state(run.id, Scheduled(message="its process died"))


def main(within: timedelta = timedelta(seconds=90)) -> None:
    """Sweep every 15 seconds."""
    connected_at: Optional[float] = None
    while True:
        try:
            with get_client(sync_client=True) as client:
                # While the server was away, it received no heartbeats.
                if connected_at and time.monotonic() - connected_at > within.total_seconds():
                    sweep(client, within)
                else:
                    client.hello().raise_for_status()
                connected_at = connected_at or time.monotonic()
        except (httpx.TransportError, RuntimeError) as error:
            connected_at = None
            print("cannot reach the server:", error)
        time.sleep(15)


if __name__ == "__main__":
    main()
