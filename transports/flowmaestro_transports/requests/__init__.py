"""A transport for users who have a `requests.Session`."""
