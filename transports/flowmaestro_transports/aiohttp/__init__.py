"""An adapter for users with an `aiohttp.ClientSession`.

Raises `ImportError` where aiohttp is not installed.
"""

from importlib import import_module

try:
    import_module("aiohttp")
except ImportError as error:
    raise ImportError(
        "AiohttpTransport needs aiohttp: pip install 'flowmaestro[aiohttp]'", name="aiohttp"
    ) from error
