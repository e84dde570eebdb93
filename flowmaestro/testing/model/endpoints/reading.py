"""The calls that only read: a list of resources, or one of them by its id.

Each is told by its names: the resources in the service, and the shape in the dialect.
"""

from __future__ import annotations

from typing import Any

from flowmaestro.testing.model.call import Call
from flowmaestro.testing.model.replies import Answer
from flowmaestro.testing.model.routing import Handler
from flowmaestro.testing.model.service import Resources, Service


def every(resources: str, shape: str) -> Handler:
    """A page of all resources of a kind."""

    def handler(service: Service, call: Call) -> Answer:
        found: Resources[Any] = getattr(service, resources)
        rows = [getattr(service.dialect, shape)(it) for it in found.every()]
        return Answer(200, service.dialect.listed(rows, call.query))

    return handler


def one(resources: str, shape: str) -> Handler:
    """The resource that the path names."""

    def handler(service: Service, call: Call) -> Answer:
        found: Resources[Any] = getattr(service, resources)
        return Answer(200, {"data": getattr(service.dialect, shape)(found.find(call.id))})

    return handler
