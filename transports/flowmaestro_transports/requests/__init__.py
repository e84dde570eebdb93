"""An adapter for users with a `requests.Session`.

Raises `ImportError` where requests is not installed.
"""

from importlib import import_module

try:
    import_module("requests")
except ImportError as error:
    raise ImportError(
        "RequestsTransport needs requests: pip install 'flowmaestro[requests]'", name="requests"
    ) from error
