"""An adapter for people who have a `requests.Session`.

Raises `ImportError` where requests is not installed.
"""

try:
    import requests  # noqa: F401
except ImportError as error:
    raise ImportError(
        "RequestsTransport needs requests: pip install 'flowmaestro[requests]'"
    ) from error
