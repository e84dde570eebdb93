"""An adapter for people who have an `aiohttp.ClientSession`.

Raises `ImportError` where aiohttp is not installed.
"""

try:
    import aiohttp  # noqa: F401
except ImportError as error:
    raise ImportError(
        "AiohttpTransport needs aiohttp: pip install 'flowmaestro[aiohttp]'"
    ) from error
