"""A transport for users who have an `aiohttp.ClientSession`."""
