"""Run a workflow and look at how it ended."""

from __future__ import annotations

from service import WORKFLOW, service

from flowmaestro import FlowMaestroClient, TimeoutError


def main() -> None:
    """Run it once."""
    with FlowMaestroClient() as client:
        try:
            run = client.workflows.run(WORKFLOW, inputs={"name": "Ada"}, timeout=60)
        except TimeoutError as error:
            print(f"{error.execution_id} is still running; wait for it later")
            return
    if run["status"] == "completed":
        print(run["outputs"])
    else:
        print(run["status"], run["error"])


if __name__ == "__main__":
    with service():
        main()
