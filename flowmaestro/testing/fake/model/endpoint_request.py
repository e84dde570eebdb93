"""The parts of a request that an endpoint reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, cast

from flowmaestro.testing.fake.model.refusals import Refusal, invalid
from flowmaestro.testing.fake.model.replies import JsonObject


@dataclass(frozen=True)
class EndpointRequest:
    """The request to an endpoint: ids from the path, the query, and the JSON body.

    Only `body` tells an absent key from one that is null. The methods do not.
    """

    ids: Mapping[str, str]
    query: Mapping[str, str]
    body: JsonObject = field(repr=False)

    @property
    def id(self) -> str:
        """The first id in the path."""
        return self.ids["id"]

    def text(self, name: str, refusal: str) -> str:
        """Return the value of the body's key `name`, a non-empty string.

        If the key is absent or has another value, raises a 400 refusal with the text `refusal`.
        """
        value = self.body.get(name)
        if not isinstance(value, str) or not value:
            raise invalid(refusal)
        return value

    def trimmed(self, name: str, refusal: str) -> str:
        """Return what `text` returns, without white space at its ends.

        If nothing is left, raises a 400 refusal, too.
        """
        value = self.text(name, refusal).strip()
        if not value:
            raise invalid(refusal)
        return value

    def mapping(self, name: str) -> Dict[str, Any]:
        """Return the value of the body's key `name`, an object.

        Return `{}` if the key is absent or null. Raises a 400 refusal if the value is not an
        object.
        """
        value = self.body.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise _is_not(name, "an object")
        return cast("Dict[str, Any]", value)

    def number(self, name: str, default: float) -> float:
        """Return the value of the body's key `name`, a number.

        Return `default` if the key is absent or null. Raises a 400 refusal if the value is not a
        number.
        """
        value = self.body.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _is_not(name, "a number")
        return value

    def count(self, name: str, default: int) -> int:
        """Return the value of the body's key `name`, a whole number of at least 1.

        Return `default` if the key is absent or null. Raises a 400 refusal for any other value.
        """
        value = self.number(name, default)
        if value < 1 or value != int(value):
            raise _is_not(name, "a whole number from 1")
        return int(value)


def _is_not(name: str, wanted: str) -> Refusal:
    return invalid(f"{name} is not {wanted}", **{name: f"must be {wanted}"})
