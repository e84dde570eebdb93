"""What a user should check after a 401 or a 404: facts of the request that the server leaves out.

Pure. No character of the key is shown, only whether it has the form of a key.
"""

from __future__ import annotations

import re
from typing import Optional

from flowmaestro_core.errors import AuthenticationError, FlowMaestroError, NotFoundError
from flowmaestro_core.http.urls import Path, host_of
from flowmaestro_core.options import ClientOptions

_LONGEST_ID = 100
"""Characters of an id that are shown. A UUID has 36."""
_LIVE_KEY = re.compile(r"fm_live_\w+", re.ASCII)
_TEST_KEY = re.compile(r"fm_test_\w+", re.ASCII)


def what_to_check(error: FlowMaestroError, path: str, options: ClientOptions) -> Optional[str]:
    """Return a hint for the final error of a call to `path`; `None` for most errors."""
    if isinstance(error, AuthenticationError):
        return _about_the_key(options)
    if isinstance(error, NotFoundError) and isinstance(path, Path):
        return _about_ids(error.message, path)
    return None


def _about_the_key(options: ClientOptions) -> str:
    if _LIVE_KEY.fullmatch(options.api_key):
        form = "has the form fm_live_..."
    elif _TEST_KEY.fullmatch(options.api_key):
        form = "has the form fm_test_..., which the deployed server refuses"
    else:
        form = "does not have the form fm_live_..."
    return f"sent to {host_of(options.base_url)}; the key from {options.key_source} {form}"


def _about_ids(message: str, path: Path) -> Optional[str]:
    """Return the ids of the path with their kinds, unless the message says both."""
    said = message.lower()
    shown = [
        f"{name}={value[:_LONGEST_ID]!r}"
        for name, value in path.ids.items()
        if value not in message or name.partition("_id")[0].replace("_", " ") not in said
    ]
    return ", ".join(shown) or None
