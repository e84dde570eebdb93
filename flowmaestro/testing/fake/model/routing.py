"""The search for the endpoint of a request, and handlers that several endpoints share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Callable, Dict, Iterable, Optional, Pattern, Tuple, Union
from urllib.parse import parse_qsl, unquote, urlsplit

from flowmaestro.testing.fake.model.endpoint_request import EndpointRequest
from flowmaestro.testing.fake.model.replies import Answer, EventStream, Later
from flowmaestro.testing.fake.model.service import Resources, Service

API_VERSION = "/v1/"

Outcome = Union[Answer, Later, EventStream]
Handler = Callable[[Service, EndpointRequest], Outcome]


@dataclass(frozen=True)
class EndpointRoute:
    """An endpoint. `template` is its path below the API root, with a `{name}` for each id."""

    method: str
    template: str
    handler: Handler
    scopes: Tuple[str, ...]

    @cached_property
    def pattern(self) -> Pattern[str]:
        """The compiled pattern of the paths of this route, with a group for each id.

        The paths are below the API root, without their first slash.
        """
        return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", self.template[1:]))


def find_route(
    routes: Iterable[EndpointRoute], method: str, url: str
) -> Optional[Tuple[EndpointRoute, Dict[str, str]]]:
    """Return the first route that fits a request, and the ids in its path; `None` if none fits.

    The part of the path before `/v1/`, and one slash at its end, are ignored. `HEAD` counts as
    `GET`.
    """
    path = urlsplit(url).path.partition(API_VERSION)[2].removesuffix("/")
    method = "GET" if method == "HEAD" else method
    for route in routes:
        found = route.pattern.fullmatch(path) if route.method == method else None
        if found is not None:
            return route, {name: unquote(id) for name, id in found.groupdict().items()}
    return None


def every(resources: str, shape: str) -> Handler:
    """Return a handler that lists the resources of a kind, one page at a time.

    `resources` names the attribute of the service that holds the resources; `shape` names the
    attribute of the dialect that makes their JSON.
    """

    def handler(service: Service, call: EndpointRequest) -> Answer:
        found: Resources[Any] = getattr(service, resources)
        rows = [getattr(service.dialect, shape)(it) for it in found.every()]
        return Answer(200, service.dialect.listed(rows, call.query))

    return handler


def one(resources: str, shape: str) -> Handler:
    """Return a handler that returns the resource whose id is in the path.

    `resources` names the attribute of the service that holds the resources; `shape` names the
    attribute of the dialect that makes the resource's JSON.
    """

    def handler(service: Service, call: EndpointRequest) -> Answer:
        found: Resources[Any] = getattr(service, resources)
        return Answer(200, {"data": getattr(service.dialect, shape)(found.find(call.id))})

    return handler


def deleted(service: Service, id: str) -> Answer:
    """Return the response to a request that has deleted `id`. This function deletes nothing."""
    if not service.dialect.confirms_deletions:
        return Answer(204)
    return Answer(200, {"data": {"id": id, "deleted": True}})


def query_of(url: str) -> Dict[str, str]:
    """Return the query of a URL; of a repeated name, only the last value."""
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
