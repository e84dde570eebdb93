"""Which FlowMaestro the examples talk to: the deployed server, or a fake in this process."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Iterator

from flowmaestro.testing import FakeFlowMaestro, running_server

WORKFLOW = os.environ.get("FLOWMAESTRO_WORKFLOW_ID", "wf_123")
AGENT = os.environ.get("FLOWMAESTRO_AGENT_ID", "agent_abc123")
KNOWLEDGE_BASE = os.environ.get("FLOWMAESTRO_KNOWLEDGE_BASE_ID", "kb_abc123")


@contextmanager
def service() -> Iterator[None]:
    """Let clients find a service in the environment.

    With `FLOWMAESTRO_API_KEY` set, that is the deployed server, and the three variables above name
    what you have there. Without it, it is a fake on loopback, ten times as fast.
    """
    if "FLOWMAESTRO_API_KEY" in os.environ:
        yield
        return
    fake = FakeFlowMaestro()
    before = os.environ.copy()
    with running_server(fake, speed=10.0) as url:
        os.environ.update(FLOWMAESTRO_API_KEY=fake.api_key, FLOWMAESTRO_BASE_URL=url)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
