"""The defaults of a client's options."""

from __future__ import annotations

DEFAULT_BASE_URL = "https://api.flowmaestro.io"
DEFAULT_TIMEOUT = 30.0
"""Seconds that one attempt of a call may take: the contract's value."""
DEFAULT_MAX_RETRIES = 3
"""How often a call may be retried after its first attempt: the contract's value."""
MAX_REPLY_SIZE = 16 * 1024 * 1024
"""The most bytes of a response that is read whole, after decompression. JSON takes several times as
many bytes of memory once it is decoded, so this bounds a reply to about a hundred megabytes."""
