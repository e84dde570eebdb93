"""Calls: one request and its reply, lists page by page, and requests of the caller's own."""
