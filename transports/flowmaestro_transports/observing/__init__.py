"""Reports requests, responses and retries to hooks and to the log."""
