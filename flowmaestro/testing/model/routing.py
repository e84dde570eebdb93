"""From a request to the endpoint that answers it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Callable, DefaultDict, Dict, Iterable, List, Optional, Tuple, Union
from urllib.parse import parse_qsl, unquote, urlsplit

from flowmaestro.testing.model.call import Call
from flowmaestro.testing.model.replies import Answer, EventStream, Later
from flowmaestro.testing.model.service import Resources, Service

API_VERSION = "/v1/"


Outcome = Union[Answer, Later, EventStream]
Handler = Callable[[Service, Call], Outcome]


@dataclass(frozen=True)
class Route:
    """One row of the endpoint table; `template` is a path below the API root."""

    method: str
    template: str
    handler: Handler
    scopes: Tuple[str, ...]

    def match(self, segments: List[str]) -> Optional[Dict[str, str]]:
        """The ids in a path that has as many segments, or `None` if it is another's path."""
        ids: Dict[str, str] = {}
        for pattern, segment in zip(self.template.strip("/").split("/"), segments):
            if pattern.startswith("{"):
                ids[pattern.strip("{}")] = unquote(segment)
            elif pattern != segment:
                return None
        return ids


class Router:
    """Finds the route of a request; of two that match, the one that was given first."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes: DefaultDict[Tuple[str, int], List[Route]] = defaultdict(list)
        for route in routes:
            length = len(route.template.strip("/").split("/"))
            self._routes[route.method, length].append(route)

    def find(self, method: str, url: str) -> Optional[Tuple[Route, Dict[str, str]]]:
        """The route and the ids in its path.

        What precedes `/v1/` in the path and one slash at its end are ignored. `HEAD` is `GET`.
        """
        _, version, path = urlsplit(url).path.partition(API_VERSION)
        segments = (path.removesuffix("/")).split("/")
        if not version or "" in segments:
            return None
        method = "GET" if method == "HEAD" else method
        for route in self._routes.get((method, len(segments)), ()):
            ids = route.match(segments)
            if ids is not None:
                return route, ids
        return None


def every(resources: str, shape: str) -> Handler:
    """A call that reads a page of all resources of a kind; `shape` is that of each in a dialect."""

    def handler(service: Service, call: Call) -> Answer:
        found: Resources[Any] = getattr(service, resources)
        rows = [getattr(service.dialect, shape)(it) for it in found.every()]
        return Answer(200, service.dialect.listed(rows, call.query))

    return handler


def one(resources: str, shape: str) -> Handler:
    """A call that reads the resource that the path names."""

    def handler(service: Service, call: Call) -> Answer:
        found: Resources[Any] = getattr(service, resources)
        return Answer(200, {"data": getattr(service.dialect, shape)(found.find(call.id))})

    return handler


def deleted(service: Service, id: str) -> Answer:
    """The answer to a deletion."""
    if not service.dialect.confirms_deletions:
        return Answer(204)
    return Answer(200, {"data": {"id": id, "deleted": True}})


def query_of(url: str) -> Dict[str, str]:
    """The query of a URL; of a repeated name, the last value."""
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
