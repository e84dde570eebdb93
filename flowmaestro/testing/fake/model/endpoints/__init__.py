"""The endpoints of the API, a module for each family of resources."""

from __future__ import annotations

from typing import Tuple

from flowmaestro.testing.fake.model.endpoints import agents, knowledge_bases, webhooks, workflows
from flowmaestro.testing.fake.model.routing import EndpointRoute

ROUTES: Tuple[EndpointRoute, ...] = (
    *workflows.ROUTES,
    *agents.ROUTES,
    *knowledge_bases.ROUTES,
    *webhooks.ROUTES,
)
