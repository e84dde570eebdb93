"""Event streams: decoding, reconnecting, and following one to its end."""
