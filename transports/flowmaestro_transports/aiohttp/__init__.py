"""AiohttpTransport: for people who have an aiohttp.ClientSession."""
