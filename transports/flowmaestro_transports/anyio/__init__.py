"""AnyioTransport: HTTP/1.1 on asyncio and trio."""
