"""An adapter for users with a `requests.Session`."""
