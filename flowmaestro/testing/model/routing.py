"""From a request to the endpoint that answers it, and what the endpoint then reads of it."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import (
    Any,
    Callable,
    DefaultDict,
    Dict,
    Iterable,
    List,
    Mapping,
    Optional,
    Tuple,
    Union,
    cast,
)
from urllib.parse import parse_qsl, unquote, urlsplit

from flowmaestro.testing.model.refusals import Refusal, invalid
from flowmaestro.testing.model.replies import Answer, EventStream, JsonObject, Later
from flowmaestro.testing.model.service import Service

API_VERSION = "/v1/"


@dataclass(frozen=True)
class Call:
    """What an endpoint is asked: ids from the path, the query, and the JSON body.

    A key of the body that is absent differs from one that is null.
    """

    ids: Mapping[str, str]
    query: Mapping[str, str]
    body: JsonObject = field(repr=False)

    @property
    def id(self) -> str:
        """The resource that the path names first."""
        return self.ids["id"]

    def text(self, name: str) -> str:
        """A string of the body that must be there and not empty; raises a 400 refusal."""
        value = self.body.get(name)
        if not isinstance(value, str) or not value:
            raise invalid(f"{name} is required", **{name: "must be a non-empty string"})
        return value

    def mapping(self, name: str) -> Dict[str, Any]:
        """An object of the body, `{}` when it is not there; raises a 400 refusal."""
        value = self.body.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise _is_not(name, "an object")
        return cast("Dict[str, Any]", value)

    def number(self, name: str, default: float) -> float:
        """A number of the body; raises a 400 refusal."""
        value = self.body.get(name)
        if value is None:
            return default
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise _is_not(name, "a number")

    def count(self, name: str, default: int) -> int:
        """A whole number of the body, at least 1; raises a 400 refusal."""
        value = self.number(name, default)
        if value < 1 or value != int(value):
            raise _is_not(name, "a whole number from 1")
        return int(value)

    def flag(self, name: str) -> bool:
        """Whether the body says `true`."""
        return self.body.get(name) is True


def _is_not(name: str, wanted: str) -> Refusal:
    return invalid(f"{name} is not {wanted}", **{name: f"must be {wanted}"})


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
        """The route and the ids in its path; whatever precedes `/v1/` in the path is ignored."""
        _, version, path = urlsplit(url).path.partition(API_VERSION)
        segments = path.split("/")
        if not version or "" in segments:
            return None
        for route in self._routes.get((method, len(segments)), ()):
            ids = route.match(segments)
            if ids is not None:
                return route, ids
        return None


def query_of(url: str) -> Dict[str, str]:
    """The query of a URL; of a repeated name, the last value."""
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
