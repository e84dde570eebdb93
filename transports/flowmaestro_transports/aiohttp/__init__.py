"""An adapter for users with an `aiohttp.ClientSession`."""
