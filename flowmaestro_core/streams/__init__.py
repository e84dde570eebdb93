"""Event streams: decoding, reconnecting, and the handles that callers iterate over."""
