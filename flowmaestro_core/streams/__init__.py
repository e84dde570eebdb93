"""Event streams: how they are decoded, reconnected, and followed to their end."""
