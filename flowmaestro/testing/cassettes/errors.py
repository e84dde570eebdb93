"""What can be wrong with a cassette."""

from __future__ import annotations


class CassetteError(ValueError):
    """The file is no cassette of a known version, or not a whole one; or it is not there."""


class CassetteMismatch(AssertionError):
    """A request was made that is not in the cassette, or not another time."""
