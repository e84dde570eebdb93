"""What holds for a client that is not told otherwise."""

from __future__ import annotations

DEFAULT_BASE_URL = "https://api.flowmaestro.io"
DEFAULT_TIMEOUT = 30.0
"""Seconds that one attempt of a call may take."""
DEFAULT_MAX_RETRIES = 3
"""How often a call may be tried again after its first attempt."""
MAX_REPLY_SIZE = 16 * 1024 * 1024
"""Bytes that a reply may have which is read whole, once inflated."""
