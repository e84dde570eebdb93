"""Cassettes: exchanges with the service, recorded once, replayed in every test.

The file is JSON Lines (`jsonlines.py`), redacted (`redaction.py`). It is recorded by a transport
around another one (`recorder.py`) and replayed in virtual time (`player.py`).
"""

from __future__ import annotations

from flowmaestro.testing.cassettes.cassette import Cassette, Mode
from flowmaestro.testing.cassettes.jsonlines import CassetteError
from flowmaestro.testing.cassettes.player import CassetteMismatch

__all__ = ["Cassette", "CassetteError", "CassetteMismatch", "Mode"]
