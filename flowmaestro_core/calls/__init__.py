"""Calls: one request and its reply, lists page by page, and requests to any endpoint."""
