"""The defaults of a client's options."""

from __future__ import annotations

DEFAULT_BASE_URL = "https://api.flowmaestro.io"
DEFAULT_TIMEOUT = 30.0
"""Seconds that one attempt of a call may take."""
DEFAULT_MAX_RETRIES = 3
"""How often a call may be retried after its first attempt."""
MAX_REPLY_SIZE = 16 * 1024 * 1024
"""The most bytes of a response that is read whole, after decompression."""
